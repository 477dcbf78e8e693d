"""A release with more columns: deltas go on, a paced walk brings the values, one event tells it.

The release before is one whose tenant does not know the properties: it leaves them out of requests,
its cursors are bound to the shorter list, and the columns are null. What differs is taken away.
"""

from typing import Any

import pytest
from sqlalchemy import text

from models.run import RunState, RunTrigger
from sandbox.tenant import Tenant
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    compute_mirror_truth,
    fetch_scalar,
    read_live_rows,
)
from worker.sync.run import run_slice

ADDED = {"users": "assigned_licenses", "groups": "security_identifier"}
UNKNOWN = {"users.assignedLicenses", "groups.securityIdentifier"}


def upgrade(mirror: Mirror) -> None:
    """The release that knows the columns takes over, and so does a Graph that knows them."""
    mirror.tenant.options.unknown_properties = set()
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.streams set left_out = null, left_out_at = null"))
        for resource, column in ADDED.items():
            db.execute(
                text(
                    "update events.change_events set after = after - :column"
                    " where resource = :resource"
                ),
                {"resource": resource, "column": column},
            )


@pytest.fixture
def mirror(make_mirror: MakeMirror) -> Mirror:
    """A mirror of the release before, right after the upgrade."""
    tenant = Tenant(seed=16, users=40, groups=6)
    tenant.options.unknown_properties = set(UNKNOWN)
    made = make_mirror(tenant)
    assert made.sync().state is RunState.SUCCEEDED
    upgrade(made)
    made.nango.calls.reset()
    return made


def tick(mirror: Mirror, *, walk: bool = False) -> None:
    """A run by the clock, with the deltas due, or the walks too."""
    what = "due_at = now(), full_due_at = now()" if walk else "due_at = now()"
    with mirror.database.open_transaction() as db:
        db.execute(
            text(f"update sync.streams set {what} where resource = any(:names)"),
            {"names": list(ADDED)},
        )
    while run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED).state is RunState.RUNNING:
        pass


def values(mirror: Mirror, resource: str) -> list[Any]:
    return [row[ADDED[resource]] for row in read_live_rows(mirror.database, resource)]


def told(mirror: Mirror) -> list[tuple[str, Any]]:
    """What events say of the connection, once it is added."""
    statement = text(
        "select change, after from events.change_events"
        " where resource = 'connection' and change <> 'added' order by seq"
    )
    with mirror.database.open_transaction() as db:
        return [tuple(row) for row in db.execute(statement)]


def test_deltas_go_on_until_a_walk_within_a_day_brings_the_columns(mirror: Mirror) -> None:
    user = mirror.tenant.users.id_at(4)
    mirror.tenant.update_user(user, jobTitle="Judge", assignedLicenses=[])
    tick(mirror)
    assert mirror.take_call_count() == 1
    title = "select job_title from directory.users where id = :id"
    assert fetch_scalar(mirror.database, title, id=user) == "Judge"
    assert {*values(mirror, "users"), *values(mirror, "groups")} == {None}
    soon = (
        "select bool_and(full_due_at between now() and now() + interval '1 day')"
        " from sync.streams where resource = any(:names)"
    )
    assert fetch_scalar(mirror.database, soon, names=list(ADDED))
    assert told(mirror) == []
    tick(mirror)
    assert mirror.take_call_count() == 1
    tick(mirror, walk=True)
    assert_exact(mirror.database, mirror.tenant)
    assert None not in values(mirror, "groups")
    assert sorted(told(mirror), key=lambda event: str(event[1]["resource"])) == [
        ("coverage_changed", {"resource": name, "added": [column], "dropped": []})
        for name, column in sorted(ADDED.items())
    ]
    mirror.sync(full=True)
    assert len(told(mirror)) == 2, "each list is told once"


def test_a_full_sync_by_hand_does_not_wait(mirror: Mirror) -> None:
    mirror.sync()
    assert told(mirror) == []
    mirror.sync("users", full=True)
    assert [after["resource"] for _, after in told(mirror)] == ["users"]
    assert compute_mirror_truth(mirror.database)["users"] == mirror.tenant.truth()["users"]
