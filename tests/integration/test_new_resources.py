"""An upgrade that brings resources: what is mirrored stays fresh, the new is read in turn."""

from collections import Counter
from typing import Any, Final

import pytest
from sqlalchemy import text

from models.resources import STREAMED
from models.run import RunState, RunTrigger
from sandbox.tenant import Tenant
from tests.support.fleet import fill_fleet
from tests.support.mirror import MakeMirror, Mirror, assert_exact, fetch_scalar, read_events
from worker.conditions.condition import Code
from worker.ops.schema.migrate import migrate
from worker.overview.fleet import load_fleet
from worker.store.engine import Database
from worker.store.state.claims import claim_due
from worker.store.state.metrics import count_late_connections
from worker.sync.run import run_slice
from worker.sync.runtime import Runtime

NEW: Final = ["sites", "role_assignments"]
NUMBER: Final = 240


def execute(database: Database, statement: str, **values: Any) -> None:
    with database.open_transaction() as db:
        db.execute(text(statement), values)


def forget_new(database: Database) -> None:
    """Bring it to the state of a release that does not know them."""
    execute(database, "delete from sync.streams where resource = any(:new)", new=NEW)
    execute(database, "delete from sync.resources where name = any(:new)", new=NEW)


def claim(database: Database) -> Counter[RunTrigger]:
    """Claim all that is due; it is due again at once."""
    with database.open_transaction() as db:
        found = claim_due(db, limit=10_000, first_loads=10_000, claim_seconds=0)
    return Counter(queue for _, queue in found)


def read_first_looks(database: Database) -> dict[tuple[int, str], float]:
    """Seconds until each new stream is due."""
    statement = text("""
        select connection_id, resource, due_at = first_due_at as kept,
               extract(epoch from due_at - now())::float8 as seconds
          from sync.streams where resource = any(:new) order by 1, 2
    """)
    with database.open_transaction() as db:
        rows = db.execute(statement, {"new": NEW}).all()
    assert all(row.kept for row in rows)
    return {(row.connection_id, row.resource): row.seconds for row in rows}


@pytest.fixture
def fleet(runtime: Runtime) -> Database:
    """Many connections right after the upgrade, and one that was never read."""
    database = runtime.database
    fill_fleet(database, NUMBER + 1, runs=1)
    execute(database, "delete from sync.streams where connection_id = :id", id=NUMBER + 1)
    forget_new(database)
    assert claim(database) == {}
    migrate(database)
    return database


def test_the_first_looks_of_all_connections_fill_a_day_evenly(fleet: Database) -> None:
    looks = read_first_looks(fleet)
    assert {number for number, _ in looks} == set(range(1, NUMBER + 1)), "the last is a first load"
    assert all(looks[number, NEW[0]] == looks[number, NEW[1]] for number, _ in looks)
    assert all(0 < seconds <= 86_400 for seconds in looks.values())
    by_quarter = Counter(int(seconds // 21_600) for seconds in looks.values())
    assert all(by_quarter[quarter] > len(looks) / 8 for quarter in range(4)), by_quarter


def test_a_second_migration_moves_nothing(fleet: Database) -> None:
    moments = "select md5(string_agg(s::text, ',' order by connection_id, resource))"
    before = fetch_scalar(fleet, f"{moments} from sync.streams s")
    migrate(fleet)
    assert fetch_scalar(fleet, f"{moments} from sync.streams s") == before
    forget_new(fleet)
    migrate(fleet)
    assert len(read_first_looks(fleet)) == 2 * NUMBER


def test_no_connection_is_a_first_load_again(fleet: Database) -> None:
    execute(fleet, "update sync.connections set due_at = now()")
    queues = {RunTrigger.SCHEDULED: NUMBER, RunTrigger.BACKFILL: 1}
    assert claim(fleet) == queues
    execute(fleet, "update sync.connections set due_at = now()")
    execute(fleet, "update sync.streams set due_at = now() where resource = any(:new)", new=NEW)
    assert claim(fleet) == queues, "not while the new ones are read, either"


def test_they_are_late_only_when_they_were_due_and_not_read(runtime: Runtime) -> None:
    database = runtime.database
    fill_fleet(database, 20, runs=1)
    forget_new(database)
    migrate(database)
    execute(database, "update sync.streams set fresh_at = now() where first_due_at is null")

    def judge() -> tuple[int, set[Code]]:
        found = load_fleet(database, runtime.settings)
        with database.open_transaction() as db:
            late = count_late_connections(db)
        for one in found.in_use:
            assert one.facts.fresh_at is not None, "what is mirrored is as fresh as it was"
        return late, {c.code for one in found.in_use for c in one.conditions}

    assert judge() == (0, set())
    view = "select count(*) from analytics.connections where fresh_at is null"
    assert fetch_scalar(database, view) == 0
    passed = "update sync.streams set first_due_at = :moment where resource = 'sites'"
    execute(database, passed.replace(":moment", "now() - interval '5 minutes'"))
    assert judge() == (0, set())
    execute(database, passed.replace(":moment", "now() - interval '20 minutes'"))
    late, codes = judge()
    assert late == 20
    assert codes == {Code.NEVER_LOADED}
    condition = load_fleet(database, runtime.settings).in_use[0].conditions[0]
    assert condition.severity.needs_attention
    assert "has never loaded sites completely since that fell due at" in condition.sentence


@pytest.fixture
def mirror(make_mirror: MakeMirror) -> Mirror:
    """One connection right after the upgrade; the release before never read its sites."""
    made = make_mirror(Tenant(seed=41, users=12, groups=3, sites=4))
    made.tenant.options.refused_resources = set(NEW)
    made.sync()
    made.tenant.options.refused_resources = set()
    forget_new(made.database)
    migrate(made.database)
    made.nango.calls.reset()
    return made


def tick(mirror: Mirror) -> RunState:
    return run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED).state


def test_ticks_leave_them_alone_until_their_moment_and_then_read_them_as_a_first_load(
    mirror: Mirror,
) -> None:
    before = len(read_events(mirror.database))
    execute(mirror.database, "update sync.streams set due_at = now() where first_due_at is null")
    assert tick(mirror) is RunState.SUCCEEDED
    assert mirror.nango.calls.total == 1
    assert set(read_first_looks(mirror.database)) == {(1, name) for name in NEW}
    execute(mirror.database, "update sync.streams set due_at = now() where first_due_at > now()")
    assert tick(mirror) is RunState.SUCCEEDED
    events = read_events(mirror.database)[before:]
    assert {event["resource"] for event in events} == set(NEW)
    assert all(event["initial"] and event["change"] == "created" for event in events)
    assert_exact(mirror.database, mirror.tenant)


def test_a_sync_by_hand_reads_them_at_once(mirror: Mirror) -> None:
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def test_freshness_knows_each_resource_by_the_register(mirror: Mirror) -> None:
    found = "select array_agg(resource order by resource) from analytics.freshness"
    registered = "select array_agg(name order by name) from sync.resources"
    assert fetch_scalar(mirror.database, found) == fetch_scalar(mirror.database, registered)
    streams = {one.name for one in STREAMED}
    known = fetch_scalar(mirror.database, "select array_agg(distinct stream) from sync.resources")
    assert set(known) == streams
