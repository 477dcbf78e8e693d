"""How events are told to people."""

from datetime import UTC, datetime

import pytest

from worker.core.printable import to_one_line
from worker.events.event import Event
from worker.events.object_names import describe_object
from worker.ops.event_line import render_event_line

ADA, STAFF, ADMIN = (f"{n}f0c6a0e-58a1-4d3e-8a57-0d6f2a3c9b10" for n in "abc")
NAMES = {ADA: "Ada Lovelace", STAFF: "Staff", ADMIN: "User Administrator"}
ASSIGNED = f'{{"principal_id": "{ADA}", "role_definition_id": "{ADMIN}"}}'


def told(
    resource: str, object_id: str, *, before: str | None = None, after: str | None = None
) -> Event:
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    return Event(1, 2, moment, "id", resource, object_id, "updated", None, before, after)


@pytest.mark.parametrize(
    ("event", "spelt"),
    [
        (told("users", ADA), "Ada Lovelace"),
        (told("users", STAFF[::-1], after='{"display_name": "Gone"}'), "Gone"),
        (told("users", STAFF[::-1], before='{"user_principal_name": "g@x"}'), "g@x"),
        (told("users", "unknown", after='{"mail": null}'), "unknown"),
        (told("group_members", f"{STAFF}/{ADA}"), "Ada Lovelace in Staff"),
        (told("group_members", f"{STAFF}/somebody"), "somebody in Staff"),
        (told("role_assignments", "r1", after=ASSIGNED), "Ada Lovelace as User Administrator"),
        (told("role_assignments", "r1", after='{"condition": "x"}'), "r1"),
        (told("connection", "1", after='{"reason": "revoked"}'), "revoked"),
        (told("connection", "1", after="{}"), ""),
    ],
)
def test_objects_are_called_by_name_where_one_is_known(event: Event, spelt: str) -> None:
    assert describe_object(event, NAMES) == spelt


def test_a_line_tells_who_what_and_which_columns() -> None:
    line = render_event_line(
        "10:00", "Contoso", "users", "updated", "Ada", changed=["mail", "city"]
    )
    assert line == "10:00  Contoso    users            updated  Ada (mail, city)"


def test_names_cannot_break_the_line_or_steer_the_terminal() -> None:
    assert to_one_line("a\nb\u00a0c\x1b[2Jd\u202ee") == "a b c\ufffd[2Jd\ufffde"
    assert to_one_line("Zoë 山田") == "Zoë 山田"
