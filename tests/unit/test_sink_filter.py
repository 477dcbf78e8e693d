"""Which events a sink wants: by resource and change, but never without what keeps a copy right."""

from datetime import UTC, datetime

import pytest

from models.event_type import CONNECTION_RESOURCE
from models.sink import SinkKind
from worker.delivery.store.sinks import Sink
from worker.events.event import Event


def sink(resources: set[str] | None = None, changes: set[str] | None = None) -> Sink:
    return Sink(
        id=1,
        name="feed",
        kind=SinkKind.WEBHOOK,
        token=1,
        resources=None if resources is None else frozenset(resources),
        changes=None if changes is None else frozenset(changes),
    )


def event(change: str, resource: str = CONNECTION_RESOURCE, about: str = "") -> Event:
    after = f'{{"resource": "{about}", "added": [], "dropped": []}}' if about else "{}"
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    return Event(1, 1, moment, "an id", resource, "x", change, after=after)


@pytest.mark.parametrize(
    ("one", "is_wanted"),
    [
        (sink(), True),
        (sink({"users"}), True),
        (sink({"users"}, {"deleted"}), True),
        (sink({"connection"}), True),
        (sink(changes={"created"}), True),
        (sink({"groups"}), False),
    ],
)
def test_other_columns_are_told_to_those_who_want_their_resource(
    one: Sink, *, is_wanted: bool
) -> None:
    assert one.wants(event("coverage_changed", about="users")) is is_wanted


def test_a_rewind_is_told_to_everybody_and_the_rest_as_it_was_filtered() -> None:
    assert sink({"groups"}, {"created"}).wants(event("rewound"))
    assert not sink({"groups"}).wants(event("resynced"))
    assert not sink({"groups"}).wants(event("created", "users"))
    assert not sink(changes={"created"}).wants(event("deleted", "users"))
    assert sink({"users"}, {"created"}).wants(event("created", "users"))
