"""Consumers are told when a mirror that deltas follow has been read anew, and never otherwise."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text

from models.resources import EDGES, RESOURCES
from models.run import RunState, RunTrigger
from sandbox.tenant import Tenant
from tests.support.mirror import MakeMirror, Mirror, assert_exact, fetch_scalar
from worker.store.state.connections import request_resync
from worker.sync.plan import SyncRequest
from worker.sync.run import run_slice

FOLLOWED = {
    name for name, one in RESOURCES.items() if one.source.follows_delta and not one.is_optional
}
EVERYTHING = sorted(FOLLOWED | {one.name for one in EDGES if one.parent in FOLLOWED})
WITHOUT_USERS = [name for name in EVERYTHING if name != "users"]
OF_BOTH = sorted({"users", "groups", *(one.name for one in EDGES if one.parent == "groups")})


class SimulatedKill(BaseException):  # not an Exception: no code may handle the end of its process
    """The process dies here."""


def told(mirror: Mirror, after: int = 0) -> list[dict[str, Any]]:
    """What ``resynced`` events say, in order."""
    statement = text(
        "select after from events.change_events where connection_id = :id and seq > :after"
        " and resource = 'connection' and change = 'resynced' order by seq"
    )
    with mirror.database.open_transaction() as db:
        found = db.execute(statement, {"id": mirror.connection_id, "after": after})
        return list(found.scalars())


def due(mirror: Mirror, *names: str) -> None:
    """The clock says that it is time for a full walk."""
    with mirror.database.open_transaction() as db:
        db.execute(
            text(
                "update sync.streams set due_at = clock_timestamp(),"
                " full_due_at = clock_timestamp() where resource = any(:names)"
            ),
            {"names": list(names)},
        )


def by_hand(mirror: Mirror) -> SyncRequest:
    now: datetime = fetch_scalar(mirror.database, "select clock_timestamp()")
    return SyncRequest(now, manual=True)


def tick(mirror: Mirror, seconds: float | None = None) -> RunState:
    """A run by the clock, to its end."""
    while True:
        report = run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED, seconds=seconds)
        if report.state is not RunState.RUNNING:
            return report.state


def test_neither_a_first_load_nor_a_quiet_tick_nor_changes_resync(mirror: Mirror) -> None:
    mirror.sync()
    mirror.tenant.mutate(5)
    mirror.sync()
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.streams set due_at = clock_timestamp()"))
    tick(mirror)
    assert told(mirror) == []


def test_a_full_walk_by_hand_or_by_the_clock_is_nothing_to_tell(mirror: Mirror) -> None:
    """What the deltas had missed are events of their own; a no-op emits none."""
    mirror.sync(full=True)
    due(mirror, "users", "groups")
    assert tick(mirror) is RunState.SUCCEEDED
    with mirror.database.open_transaction() as db:
        request_resync(db, 1, None, full=True)
    tick(mirror, seconds=0.0)
    assert told(mirror) == []


def test_a_lost_cursor_is_told_once_everything_has_been_read_again(mirror: Mirror) -> None:
    mirror.tenant.expire_delta_tokens()
    mirror.tenant.mutate(5)
    mirror.sync()
    assert_exact(mirror.database, mirror.tenant)
    assert told(mirror) == [{"resources": EVERYTHING}]
    assert fetch_scalar(
        mirror.database,
        "select seq = max(seq) over () and run_id = (select max(id) from sync.runs)"
        " from events.change_events order by seq desc limit 1",
    ), "it comes after all that the walks had to tell, and names the run"
    mirror.sync()
    assert len(told(mirror)) == 1


def test_only_what_was_read_anew_is_told_of(mirror: Mirror) -> None:
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.streams set select_hash = null where resource = 'users'"))
    due(mirror, "users", "groups")
    tick(mirror)
    assert told(mirror) == [{"resources": ["users"]}]


def test_nothing_is_told_while_deletions_of_the_walk_are_in_doubt(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=7, users=150, groups=2)
    mirror = make_mirror(tenant)
    mirror.sync()
    for index in range(80):
        tenant.delete_user(tenant.users.id_at(index))
    tenant.expire_delta_tokens()
    assert mirror.sync().state is RunState.HELD
    assert told(mirror) == [{"resources": WITHOUT_USERS}]


def test_a_walk_is_told_although_its_run_does_not_succeed(mirror: Mirror) -> None:
    """A tenant that refuses one resource for ever never has a run that succeeds."""
    mirror.tenant.options.refused_resources = {"sites"}
    mirror.tenant.expire_delta_tokens()
    assert mirror.sync("users", "groups", "sites").state is RunState.PARTIAL
    assert told(mirror) == [{"resources": OF_BOTH}]


def test_a_walk_outlives_the_slice_that_ended_it(make_mirror: MakeMirror) -> None:
    """Users are through long before groups, and the process that walked them is gone."""
    tenant = Tenant(seed=7, users=30, groups=40)
    tenant.options.delta_page_size = 5
    mirror = make_mirror(tenant)
    mirror.sync()
    tenant.expire_delta_tokens()
    walked = "select count(*) from sync.runs where state = 'running' and resources ? 'users'"

    def die(_resource: str, _objects: int, _what: str) -> None:
        if fetch_scalar(mirror.database, walked):
            raise SimulatedKill

    with pytest.raises(SimulatedKill):
        run_slice(
            mirror.runtime,
            1,
            trigger=RunTrigger.SCHEDULED,
            request=by_hand(mirror),
            on_progress=die,
        )
    assert told(mirror) == []
    assert tick(mirror) is RunState.SUCCEEDED
    assert fetch_scalar(mirror.database, "select count(*) from sync.runs") == 2, "it was adopted"
    assert told(mirror) == [{"resources": EVERYTHING}]


def test_verification_passes_over_it(mirror: Mirror) -> None:
    mirror.tenant.expire_delta_tokens()
    mirror.sync()
    mirror.tenant.mutate(5)
    mirror.sync()
    assert len(told(mirror)) == 1
    assert_exact(mirror.database, mirror.tenant)
