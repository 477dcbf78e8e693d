"""Forgetting a retired connection: everything of it goes, nothing of anybody else's."""

import pytest
from msgspec import structs
from sqlalchemy import text

from models.resources import RESOURCES
from models.run import RunState, RunTrigger
from sandbox.tenant import KindCounts, Nango, Tenant
from tests.support.leases import take_lease
from tests.support.mirror import MakeSynced, Mirror, assert_exact, fetch_scalar
from worker.core.errors import LeaseLost, NotFound, StateConflict
from worker.core.settings import Settings
from worker.events.partitions import ensure_partitions
from worker.store import lease
from worker.store.engine import Database
from worker.store.state.connections import update_connection
from worker.store.state.forget import TABLES, forget_connection
from worker.sync.connections.discover import discover
from worker.sync.run import run_slice


class SimulatedKill(BaseException):  # not an Exception: no code may handle the end of its process
    """The process dies here."""


def silent(_table: str, _rows: int) -> None:
    """Nobody watches."""


def tables(database: Database) -> list[str]:
    """Every table that holds rows of a connection, whatever the code believes.

    The audit is none of them: its entries outlive the connection.
    """
    statement = text("""
        select n.nspname || '.' || c.relname
          from pg_class c join pg_namespace n on n.oid = c.relnamespace
          join pg_attribute a on a.attrelid = c.oid and a.attname = 'connection_id'
         where c.relkind in ('r', 'p') and not c.relispartition and not a.attisdropped
           and n.nspname in ('directory', 'history', 'sync', 'events')
           and (n.nspname, c.relname) <> ('sync', 'audit') order by 1
    """)
    with database.open_transaction() as db:
        return list(db.execute(statement).scalars())


def counts(database: Database, connection_id: int) -> dict[str, int]:
    return {
        table: fetch_scalar(
            database, f"select count(*) from {table} where connection_id = :id", id=n
        )
        for table in tables(database)
        for n in (connection_id,)
    }


def retire(mirror: Mirror) -> None:
    mirror.nango.remove_connection("contoso")
    discover(mirror.database, mirror.runtime.nango, mirror.runtime.settings)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Every resource is on, those included that are off by default."""
    return structs.replace(settings, resources_on=tuple(RESOURCES))


@pytest.fixture
def mirror(make_synced: MakeSynced) -> Mirror:
    """A tenant with something of every kind, enrolled and mirrored."""
    return make_synced(seed=3, users=60, groups=8, sites=6, kinds=KindCounts.for_users(60))


@pytest.fixture
def neighbour(mirror: Mirror) -> Tenant:
    """Another customer beside the one that is forgotten."""
    tenant = Tenant(seed=8, users=30, groups=4, sites=2)
    mirror.nango.add_connection("fabrikam", tenant)
    discover(mirror.database, mirror.runtime.nango, mirror.runtime.settings)
    run_slice(mirror.runtime, 2, trigger=RunTrigger.BACKFILL)
    return tenant


def evidence(mirror: Mirror) -> None:
    """Rows in the tables that are empty at rest, and events of several months."""
    with mirror.database.open_transaction() as db:
        ensure_partitions(db)
        for statement in (
            "insert into sync.seen values (:id, 'users', 9, 0, '{a,b}', null)",
            "insert into sync.seen values (:id, 'users', 9, 1, '{c}', null)",
            """insert into sync.removals (connection_id, resource, key, reason)
               values (:id, 'users', 'k', 'not_seen'), (:id, 'groups', 'k', 'not_seen')""",
            """insert into sync.candidates (connection_id, resource, key, walk_id)
               values (:id, 'users', 'k', 9), (:id, 'users', 'l', 9)""",
            """insert into sync.quarantine (connection_id, resource, key, reason)
               values (:id, 'users', 'k', 'odd')""",
            """insert into sync.unresolved (connection_id, resource, kind, key, reason, retry_at)
               values (:id, 'users', 'object', 'k', 'Graph answers 403', now())""",
            """with made as (insert into events.sinks (name, kind) values ('feed', 'redis-stream')
                             returning id)
               insert into events.positions (sink_id, connection_id, seq)
               select made.id, :id, 1 from made""",
            """insert into sync.erasures (connection_id, digest, resource)
               values (:id, '\\x00', 'users')""",
            """insert into sync.reader_connections (role_name, connection_id)
               values ('reports_' || :id, :id)""",
            """with asked as (insert into sync.operations (action, actor, via, targets)
                              values ('resync', 'ann', 'cli', 1) returning id)
               insert into sync.operation_targets (operation_id, connection_id)
               select asked.id, :id from asked""",
            """update events.change_events set occurred_at = occurred_at + interval '40 days'
                where connection_id = :id and seq % 3 = 0""",
        ):
            db.execute(text(statement), {"id": mirror.connection_id})


def test_everything_of_the_connection_goes_and_nothing_of_the_others(
    mirror: Mirror, neighbour: Tenant
) -> None:
    evidence(mirror)
    retire(mirror)
    before, others = counts(mirror.database, 1), counts(mirror.database, 2)
    assert all(before.values()), "the test is about every table"
    gone = forget_connection(mirror.database, 1, silent, batch=7)
    assert counts(mirror.database, 1) == dict.fromkeys(before, 0)
    assert counts(mirror.database, 2) == others
    assert gone == {**before, "sync.connections": 1}
    assert fetch_scalar(mirror.database, "select array_agg(id) from sync.connections") == [2]
    assert_exact(mirror.database, neighbour, 2)
    with pytest.raises(NotFound):
        forget_connection(mirror.database, 1, silent)


def test_every_table_with_a_connection_is_forgotten(mirror: Mirror) -> None:
    assert {place.name for place in TABLES} | {"sync.leases"} == set(tables(mirror.database))


@pytest.mark.parametrize("status", ["active", "broken", "paused", "duplicate"])
def test_a_live_connection_is_refused_untouched(mirror: Mirror, status: str) -> None:
    with lease.interrupt_writer(mirror.database, 1) as tx:
        update_connection(tx, status=status)
    before = counts(mirror.database, 1)
    with pytest.raises(
        StateConflict, match=f"it is {status}, but only a retired .* delete it in Nango"
    ):
        forget_connection(mirror.database, 1, silent)
    assert counts(mirror.database, 1) == before


def test_an_interrupted_forgetting_goes_on_where_it_was(mirror: Mirror) -> None:
    retire(mirror)
    before = counts(mirror.database, 1)
    batches = 0

    def die(_table: str, _rows: int) -> None:
        nonlocal batches
        batches += 1
        if batches == 2:
            raise SimulatedKill

    with pytest.raises(SimulatedKill):
        forget_connection(mirror.database, 1, die, batch=20)
    left = counts(mirror.database, 1)
    assert left["directory.users"] == 20
    reason = fetch_scalar(mirror.database, "select status_reason from sync.connections")
    assert "tenant-mirror forget 1" in reason
    gone = forget_connection(mirror.database, 1, silent, batch=20)
    assert sum(gone.values()) == sum(left.values()) + 1
    assert sum(left.values()) == sum(before.values()) - 40
    assert counts(mirror.database, 1) == dict.fromkeys(before, 0)


def test_a_connection_that_is_being_forgotten_never_comes_back(
    mirror: Mirror, nango: Nango
) -> None:
    """Half of its rows are gone without events: neither its address nor its tenant revives it."""
    retire(mirror)

    def die(_table: str, _rows: int) -> None:
        raise SimulatedKill

    with pytest.raises(SimulatedKill):
        forget_connection(mirror.database, 1, die, batch=5)
    nango.add_connection("contoso", mirror.tenant)
    found = discover(mirror.database, mirror.runtime.nango, mirror.runtime.settings)
    assert (found.enrolled, found.returned) == (["entra/contoso"], [])
    assert run_slice(mirror.runtime, 2, trigger=RunTrigger.BACKFILL).state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant, 2)
    forget_connection(mirror.database, 1, silent)
    assert_exact(mirror.database, mirror.tenant, 2)
    assert fetch_scalar(mirror.database, "select array_agg(id) from sync.connections") == [2]


def test_who_held_its_lease_cannot_write(mirror: Mirror) -> None:
    old = take_lease(mirror.database, 1, 600)
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.connections set status = 'retired', due_at = null"))

    def wake(_table: str, _rows: int) -> None:
        with pytest.raises(LeaseLost), lease.open_write_transaction(mirror.database, old):
            raise AssertionError("a zombie has written")

    forget_connection(mirror.database, 1, wake)
    wake("", 0)


def test_what_is_written_meanwhile_goes_with_the_connection(mirror: Mirror) -> None:
    retire(mirror)

    def intrude(table: str, _rows: int) -> None:
        if table == "sync.runs":
            evidence_of_approval = (
                "insert into events.change_events"
                " (connection_id, seq, occurred_at, resource, object_id, change)"
                " values (1, 100000, now(), 'users', 'x', 'deleted') on conflict do nothing"
            )
            with mirror.database.open_transaction() as db:
                db.execute(text(evidence_of_approval))

    forget_connection(mirror.database, 1, intrude)
    assert not any(counts(mirror.database, 1).values())
