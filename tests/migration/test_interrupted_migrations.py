"""Migrations beside snapshots, locks and kills: each ends well, or says why and then goes on."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import PendingRollbackError

from tests.support.databases import DatabaseFactory
from tests.support.mirror import fetch_scalar
from tests.support.schema import describe_schema
from worker.core.errors import ConfigurationError, NotFound, RetryLater, ServerUnavailable
from worker.ops.schema.migrate import migrate
from worker.store.engine import Database
from worker.store.migration_lock import MigrationLimits
from worker.store.schema_version import FOLDER, get_newest_revision, list_revisions, load_revision

pytestmark = pytest.mark.timeout(600)

BRIEF = MigrationLimits(lock=0.5, concurrent_lock=0.5)
REVISIONS = list_revisions()
BUILD = re.compile(r" build_(?:partitioned_)?index\(")
BUILDS = {
    path.name.split("_")[0]: len(BUILD.findall(path.read_text(encoding="utf-8")))
    for path in (FOLDER / "versions").glob("[0-9]*.py")
}
CONCURRENT = {revision for revision, builds in BUILDS.items() if builds}
"""Revisions that build an index beside writers."""

Schemas = dict[str | None, set[str]]


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture(scope="module")
def expected(cluster: DatabaseFactory) -> Schemas:
    """The schema at each revision, where nothing disturbed the way there."""
    url = cluster.create_empty()
    database = Database(url)
    schemas: Schemas = {None: describe_schema(database)}
    for revision in REVISIONS:
        migrate(database, revision)
        schemas[revision] = describe_schema(database)
    database.close()
    cluster.drop(url)
    return schemas


@pytest.fixture
def empty(cluster: DatabaseFactory) -> Iterator[Database]:
    url = cluster.create_empty()
    database = Database(url)
    yield database
    database.close()
    cluster.drop(url)


def connect(database: Database) -> psycopg.Connection[Any]:
    """Somebody else's session."""
    url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(url, application_name="night report", autocommit=True)


@contextmanager
def session(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A session with a snapshot that is held until it ends."""
    with connect(database) as other:
        other.execute("begin isolation level repeatable read")
        other.execute("select 1")
        yield other


def lock_all(other: psycopg.Connection[Any]) -> None:
    """Take the locks of a reader of all tables, as a dump does."""
    tables = other.execute(
        "select string_agg(c.oid::regclass::text, ', ') from pg_class c"
        " where c.relkind in ('r', 'p') and c.relname <> 'schema_version' and c.relnamespace in"
        " (select oid from pg_namespace"
        "   where nspname in ('directory', 'history', 'sync', 'events'))"
    ).fetchone()
    if tables and tables[0]:
        other.execute(f"lock table {tables[0]} in access share mode")


def refusal(database: Database, revision: str) -> str:
    """What a brief migration says while somebody holds it up; nothing where it is not held up."""
    try:
        migrate(database, revision, BRIEF)
    except RetryLater as error:
        return error.message
    return ""


def execute(database: Database, *statements: str) -> None:
    with database.open_transaction() as db:
        for statement in statements:
            db.execute(text(statement))


def build_in_vain(database: Database, statement: str) -> None:
    """An index that is built concurrently, until a timeout ends the build: it stays invalid."""
    with session(database), connect(database) as builder:
        builder.execute("set lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            builder.execute(statement)


def test_a_revision_builds_one_index_concurrently_at_most_and_drops_an_invalid_one_first() -> None:
    assert {"0003", "0006"} < CONCURRENT
    assert max(BUILDS.values()) == 1
    for path in (FOLDER / "versions").glob("[0-9]*.py"):
        assert "postgresql_concurrently" not in path.read_text(encoding="utf-8"), path.name


def test_a_session_that_holds_up_any_revision_is_named_and_spoils_nothing(
    empty: Database, expected: Schemas
) -> None:
    """First one that also reads all tables, then one with a snapshot and nothing else."""
    by_readers: set[str] = set()
    by_snapshots: set[str] = set()
    for revision in REVISIONS:
        for held_up, reads in ((by_readers, True), (by_snapshots, False)):
            if load_revision(empty) == revision:
                break  # not held up, it is done
            with session(empty) as other:
                if reads:
                    lock_all(other)
                said = refusal(empty, revision)
                if said:
                    held_up.add(revision)
                    assert f"process {other.info.backend_pid}, application night report" in said
                    assert "idle in transaction" in said
                    assert f"pg_terminate_backend({other.info.backend_pid})" in said
                    assert "run 'tenant-mirror migrate' again" in said
        if load_revision(empty) != revision:
            migrate(empty, revision, BRIEF)
        assert load_revision(empty) == revision
        assert describe_schema(empty) == expected[revision], revision
    assert by_snapshots == CONCURRENT
    assert by_readers > CONCURRENT


@pytest.mark.parametrize("server", ["cluster", "cluster_15"])
def test_all_revisions_at_once_go_on_where_a_snapshot_stopped_them(
    request: pytest.FixtureRequest, server: str
) -> None:
    cluster: DatabaseFactory = request.getfixturevalue(server)
    undisturbed, disturbed = (
        Database(url) for url in (cluster.create_migrated(), cluster.create_empty())
    )
    with session(disturbed):
        assert "at schema 0002" in refusal(disturbed, "head")
        assert "at schema 0002" in refusal(disturbed, "head"), "the invalid index is held up, too"
    assert migrate(disturbed, "head", BRIEF) == ("0002", get_newest_revision())
    assert describe_schema(disturbed) == describe_schema(undisturbed)
    for database in (undisturbed, disturbed):
        database.close()
        cluster.drop(database.url.render_as_string(hide_password=False))


@contextmanager
def dying_at(seam: int) -> Iterator[None]:
    """The process dies in front of a statement where half of a revision may be committed.

    That is one outside of transactions, the first after it, and the one that notes the revision.
    """
    found, was_outside = 0, False

    def watch(db: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        nonlocal found, was_outside
        verb = statement.split(maxsplit=1)[0].lower()
        if verb == "select":
            return
        outside = db.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
        notes = "schema_version" in statement and verb in ("insert", "update")
        found += outside or was_outside or notes
        was_outside = outside
        if found == seam:
            raise Killed

    event.listen(Engine, "before_cursor_execute", watch)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", watch)


def kill_at_each_seam(database: Database, revision: str) -> int:
    """Begin a revision again and again, each time killed a little later; how often it was."""
    for seam in count(1):
        try:
            with dying_at(seam):
                migrate(database, revision)
        except (Killed, PendingRollbackError):
            continue
        return seam - 1
    raise AssertionError


def test_a_migration_that_is_killed_in_the_middle_of_any_revision_is_completed(
    empty: Database, expected: Schemas
) -> None:
    """At last it had done all its work, and had not noted the revision."""
    before: str | None = None
    for revision in REVISIONS:
        kills = kill_at_each_seam(empty, revision)
        assert kills >= (2 if revision in CONCURRENT else 1), revision
        stamp = f"update sync.schema_version set version_num = '{before}'"
        execute(empty, stamp if before else "delete from sync.schema_version")
        migrate(empty, revision)
        assert load_revision(empty) == revision
        assert describe_schema(empty) == expected[revision], revision
        before = revision


def end_who_waits(database: Database) -> None:
    """End the session that waits for another one, as an administrator may, once there is one."""
    with connect(database) as administrator:
        ended = None
        while ended is None:
            ended = administrator.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'"
            ).fetchone()
            time.sleep(0.05)


def test_a_migration_whose_session_is_ended_goes_on_when_it_is_run_again(empty: Database) -> None:
    migrate(empty, "0002")
    administrator = threading.Thread(target=end_who_waits, args=(empty,))
    with session(empty):
        administrator.start()
        with pytest.raises(ServerUnavailable):
            migrate(empty)
        administrator.join()
    assert migrate(empty) == ("0002", get_newest_revision())


TABLES = ("users", "groups", "group_members", "sites", "role_definitions", "role_assignments")
ADDRESS = """
    create unique index concurrently uq_connections_address
        on sync.connections (provider_config_key, nango_connection_id) where status <> 'retired'
"""
DELETED = """
    create index concurrently ix_{0}_deleted
        on directory.{0} (connection_id) where deleted_at is not null
"""
HASHES = tuple(f"alter table directory.{table} add column source_hash bytea" for table in TABLES)
STUCK = {
    "0002": (("alter table sync.streams add column drift jsonb",), ADDRESS),
    "0005": (HASHES, DELETED.format("users")),
}
"""By the revision that such a database has, what was done of the next one."""


@pytest.mark.parametrize("before", STUCK)
def test_a_database_that_an_earlier_release_left_half_migrated_is_completed(
    empty: Database, expected: Schemas, before: str
) -> None:
    statements, index = STUCK[before]
    migrate(empty, before)
    execute(empty, *statements)
    build_in_vain(empty, index)
    assert migrate(empty) == (before, get_newest_revision())
    assert describe_schema(empty) == expected[get_newest_revision()]


@pytest.mark.parametrize(
    "index",
    ["sync.uq_connections_address", "directory.ix_users_deleted", "directory.ix_groups_deleted"],
)
def test_an_index_that_stayed_invalid_is_rebuilt_at_the_newest_revision(
    empty: Database, expected: Schemas, index: str
) -> None:
    migrate(empty)
    definition = str(fetch_scalar(empty, f"select pg_get_indexdef('{index}'::regclass)"))
    execute(empty, f"drop index {index}")
    build_in_vain(empty, definition.replace("INDEX", "INDEX CONCURRENTLY"))
    valid = f"select indisvalid from pg_index where indexrelid = '{index}'::regclass"
    assert fetch_scalar(empty, valid) is False
    with session(empty) as other:
        said = refusal(empty, "head")
        assert f"process {other.info.backend_pid}" in said
    assert migrate(empty) == (get_newest_revision(), get_newest_revision())
    assert fetch_scalar(empty, valid) is True
    assert describe_schema(empty) == expected[get_newest_revision()], (
        "nothing that the rebuild made is left"
    )


def test_an_invalid_index_of_somebody_else_stays_as_it_is(empty: Database) -> None:
    migrate(empty)
    build_in_vain(empty, "create index concurrently theirs on directory.users (mail)")
    migrate(empty)
    theirs = "select indisvalid from pg_index where indexrelid = 'directory.theirs'::regclass"
    assert fetch_scalar(empty, theirs) is False


def test_a_reader_of_events_that_holds_up_a_new_month_is_named(empty: Database) -> None:
    migrate(empty)
    months = "select count(*) from pg_inherits where inhparent = 'events.change_events'::regclass"
    there = fetch_scalar(empty, months)
    last = fetch_scalar(
        empty,
        "select max(inhrelid::regclass::text) from pg_inherits"
        " where inhparent = 'events.change_events'::regclass"
        " and inhrelid::regclass::text not like '%default'",
    )
    execute(empty, f"drop table {last}")
    with session(empty) as other:
        other.execute("select from events.change_events_default")
        assert f"process {other.info.backend_pid}" in refusal(empty, "head")
    migrate(empty)
    assert fetch_scalar(empty, months) == there


def test_migrating_to_a_revision_goes_up_and_down(empty: Database, expected: Schemas) -> None:
    assert migrate(empty, "0003") == (None, "0003")
    assert migrate(empty, "0007") == ("0003", "0007")
    assert describe_schema(empty) == expected["0007"]
    assert migrate(empty, "7") == ("0007", "0007")
    assert migrate(empty, "0005") == ("0007", "0005")
    assert describe_schema(empty) == expected["0005"]
    assert migrate(empty) == ("0005", get_newest_revision())


@pytest.mark.parametrize("asked", ["9999", "0", "-1", "latest", "", "0007:0009"])
def test_a_revision_that_there_is_not_is_unknown(empty: Database, asked: str) -> None:
    with pytest.raises(NotFound, match=f"this release knows 0001 to {get_newest_revision()}"):
        migrate(empty, asked)
    assert load_revision(empty) is None


def test_a_schema_of_a_later_release_is_left_alone(empty: Database) -> None:
    migrate(empty, "0001")
    execute(empty, "update sync.schema_version set version_num = '9999'")
    for asked in ("head", "base", "0001"):
        with pytest.raises(ConfigurationError, match="the database is at schema 9999"):
            migrate(empty, asked)
