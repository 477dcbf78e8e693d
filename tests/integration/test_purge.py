"""Old tombstones are purged without harm to writers; a write that misses a row is undone."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from models.resource import BOOKKEEPING
from models.resources import RESOURCES
from tests.support.leases import take_lease
from tests.support.mirror import Mirror, assert_exact, fetch_scalar, read_last_seq
from worker.core.errors import RetryLater
from worker.store.engine import Database
from worker.store.lease import open_write_transaction
from worker.store.mirror.deletions import delete_objects
from worker.store.mirror.edges import delete_edges, parse_edge_key
from worker.store.mirror.purge import purge_deleted, render_purge_query
from worker.store.planner import force_index_scans

DAYS = 400
KEY = {"users": "id::text", "group_members": "group_id || '/' || member_id"}
TABLES = tuple(RESOURCES)


def execute(database: Database, statement: str) -> None:
    with database.open_transaction() as db:
        db.execute(text(statement))


def bury(database: Database, table: str, connection_id: int = 1) -> None:
    """All rows that a connection has in a table have been deleted for longer than they are kept."""
    execute(
        database,
        f"update directory.{table} set deleted_at = 'epoch', deleted_reason = 'not_seen'"
        f" where connection_id = {connection_id}",
    )


def copy_to(database: Database, table: str, connection_id: int) -> None:
    """Another connection, without a lease, has the same rows."""
    names = (*RESOURCES[table].column_names, *BOOKKEEPING)
    columns = ", ".join(f'"{name}"' for name in names)
    execute(
        database,
        f"insert into directory.{table} (connection_id, {columns})"
        f" select {connection_id}, {columns} from directory.{table} where connection_id = 1",
    )


def rows(database: Database, table: str, connection_id: int = 1) -> int:
    statement = f"select count(*) from directory.{table} where connection_id = :id"
    return int(fetch_scalar(database, statement, id=connection_id))


@contextmanager
def vanishing(database: Database, table: str) -> Iterator[None]:
    """Updates of a table find no row, as if it had been deleted a moment before."""
    execute(
        database,
        "create function public.vanish() returns trigger language plpgsql"
        " as 'begin return null; end'",
    )
    execute(
        database,
        f"create trigger vanish before update on directory.{table}"
        " for each row execute function public.vanish()",
    )
    yield
    execute(database, "drop function public.vanish() cascade")


@pytest.mark.parametrize("table", ["users", "group_members"])
def test_rows_of_a_connection_that_is_being_written_are_not_purged(
    mirror: Mirror, table: str
) -> None:
    bury(mirror.database, table)
    copy_to(mirror.database, table, 2)
    there = rows(mirror.database, table)
    assert there
    lease = take_lease(mirror.database, 1, 600)
    other = Database(mirror.database.url.render_as_string(hide_password=False))
    with open_write_transaction(other, lease):
        assert purge_deleted(mirror.database, DAYS) == there, "those of the other connection"
        assert (rows(mirror.database, table), rows(mirror.database, table, 2)) == (there, 0)
    other.close()
    assert purge_deleted(mirror.database, DAYS) == there
    assert rows(mirror.database, table) == 0


def test_a_purge_fences_no_slice(mirror: Mirror) -> None:
    bury(mirror.database, "users")
    lease = take_lease(mirror.database, 1, 600)
    assert purge_deleted(mirror.database, DAYS) == 60
    with open_write_transaction(mirror.database, lease) as tx:
        assert tx.connection_id == 1
    assert fetch_scalar(mirror.database, "select token from sync.leases") == lease.token


def test_only_what_is_past_its_keep_is_purged(mirror: Mirror) -> None:
    before = {table: rows(mirror.database, table) for table in TABLES}
    execute(
        mirror.database,
        "update directory.users set deleted_at = now() - interval '399 days',"
        " deleted_reason = 'not_seen'",
    )
    assert purge_deleted(mirror.database, DAYS) == 0
    assert {table: rows(mirror.database, table) for table in TABLES} == before


def test_more_than_a_batch_is_purged_past_a_connection_that_is_being_written(
    mirror: Mirror,
) -> None:
    """The rows that must stay fill a whole batch, and the others go all the same."""
    execute(
        mirror.database,
        "insert into directory.group_members (connection_id, group_id, member_id, member_type,"
        " first_seen_at, changed_at, deleted_at, deleted_reason)"
        " select c, gen_random_uuid(), gen_random_uuid(), 'user', 'epoch', 'epoch', 'epoch',"
        " 'not_seen' from generate_series(1, 2) c, generate_series(1, 6000)",
    )
    lease = take_lease(mirror.database, 1, 600)
    other = Database(mirror.database.url.render_as_string(hide_password=False))
    with open_write_transaction(other, lease):
        assert purge_deleted(mirror.database, DAYS) == 6000
    other.close()
    assert purge_deleted(mirror.database, DAYS) == 6000


def plan(database: Database, table: str, *, hinted: bool) -> str:
    """How Postgres finds the rows to purge."""
    with database.open_transaction() as db:
        if hinted:
            force_index_scans(db)
        statement = text(f"explain {render_purge_query(table)}")
        values = {"days": DAYS, "but": [], "batch": 5000}
        return "\n".join(db.execute(statement, values).scalars())


def test_the_purge_finds_old_rows_by_an_index_in_every_table(mirror: Mirror) -> None:
    """Whatever the planner knows of the table, or takes it for."""
    for table in TABLES:
        assert f"using ix_{table}_deleted_at" in plan(mirror.database, table, hinted=True)
        bury(mirror.database, table)
        execute(mirror.database, f"analyze directory.{table}")
        # Where all rows are deleted, the index by connection is as good.
        assert f"using ix_{table}_deleted" in plan(mirror.database, table, hinted=True)


def test_few_old_rows_among_many_are_found_by_the_index_unhinted(mirror: Mirror) -> None:
    execute(
        mirror.database,
        "insert into directory.group_members (connection_id, group_id, member_id, member_type,"
        " first_seen_at, changed_at, deleted_at, deleted_reason)"
        " select 1, gen_random_uuid(), gen_random_uuid(), 'user', 'epoch', 'epoch',"
        " case when n % 100 = 0 then timestamptz 'epoch' end, null"
        " from generate_series(1, 30000) n",
    )
    execute(mirror.database, "analyze directory.group_members")
    assert "ix_group_members_deleted_at" in plan(mirror.database, "group_members", hinted=False)


@pytest.mark.parametrize("restored", [False, True])
def test_a_row_that_vanishes_under_a_write_leaves_no_event(mirror: Mirror, restored: bool) -> None:
    user = mirror.tenant.users.id_at(7)
    if restored:
        mirror.tenant.delete_user(user)
        mirror.sync()
        mirror.tenant.restore_user(user)
    else:
        mirror.tenant.update_user(user, displayName="Another Name")
    before = read_last_seq(mirror.database)
    with vanishing(mirror.database, "users"):
        mirror.sync()
        assert read_last_seq(mirror.database) == before
    execute(mirror.database, "update sync.streams set due_at = null")
    mirror.sync()
    assert read_last_seq(mirror.database) > before
    assert_exact(mirror.database, mirror.tenant)


@pytest.mark.parametrize("table", ["users", "group_members"])
def test_a_row_that_vanishes_under_a_deletion_loses_the_transaction(
    mirror: Mirror, table: str
) -> None:
    key = str(fetch_scalar(mirror.database, f"select {KEY[table]} from directory.{table} limit 1"))
    before = read_last_seq(mirror.database)
    lease = take_lease(mirror.database, 1, 600)
    with (
        vanishing(mirror.database, table),
        pytest.raises(RetryLater, match="nothing was written"),
        open_write_transaction(mirror.database, lease) as tx,
    ):
        delete_objects(tx, RESOURCES[table], {key: "not_seen"})
    assert read_last_seq(mirror.database) == before
    with open_write_transaction(mirror.database, lease) as tx:
        changes = delete_objects(tx, RESOURCES[table], {key: "not_seen"})
    assert sum(len(some) for _, some in changes) >= 1


def test_a_tombstone_that_has_its_reason_already_is_no_missing_row(mirror: Mirror) -> None:
    user = mirror.tenant.users.id_at(7)
    lease = take_lease(mirror.database, 1, 600)
    pair = fetch_scalar(
        mirror.database, f"select {KEY['group_members']} from directory.group_members"
    )
    for reason in ("not_seen", "not_seen", "soft_deleted"):
        with open_write_transaction(mirror.database, lease) as tx:
            delete_objects(tx, RESOURCES["users"], {user: reason})
            delete_edges(tx, RESOURCES["group_members"], {parse_edge_key(pair): reason})
        stored = "select deleted_reason from directory.users where id = :id"
        assert fetch_scalar(mirror.database, stored, id=user) == reason
