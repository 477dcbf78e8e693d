"""What a reader with the printed rights can see, as roles of a real Postgres meet it."""

import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from tests.support.databases import DatabaseFactory
from tests.support.fork_server import run_command
from worker.events.partitions import ensure_partitions
from worker.ops.schema.migrate import migrate
from worker.store.engine import Database

KEY = "whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5"
PASSWORD = "hunter2-of-redis"
QUERY = "code=hunter2-of-crm"
SECRETS = (KEY, PASSWORD, QUERY)

DOCUMENTED_BEFORE = """
    grant usage on schema directory, events, analytics to {reader};
    grant select on all tables in schema directory, events to {reader};
    alter default privileges in schema directory, events, analytics
        grant select on tables to {reader}
"""
"""What the documents of former releases told operators to run."""

RELATIONS = """
    select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'v', 'm', 'p')
       and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
"""


@dataclass
class Readable:
    """A mirror that a plain role owns, and one that may read it."""

    cluster: DatabaseFactory
    owner: str
    reader: str
    url: str

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_command(arguments, {"DATABASE_URL": self.url})

    def as_owner(self, statement: str) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statement.format(reader=self.reader).encode())

    def grant(self) -> None:
        """Run what the command prints."""
        done = self.command("grants", self.reader)
        assert done.returncode == 0, done.stderr
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(done.stdout.encode())

    def reads(self, statement: str) -> list[tuple[object, ...]]:
        """The rows that the reader gets. Raises InsufficientPrivilege."""
        with psycopg.connect(self.cluster.build_login_url(self.url, self.reader)) as connection:
            return connection.execute(statement.encode()).fetchall()

    def relations(self) -> list[tuple[str, str]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(RELATIONS).fetchall()

    def content(self, schema: str, name: str, role: str) -> str | None:
        """All that a role can read of a table or view; None where it may not."""
        everything = sql.SQL("select coalesce(string_agg(t::text, ' '), '') from {} t")
        query = everything.format(sql.Identifier(schema, name))
        with psycopg.connect(self.cluster.build_login_url(self.url, role)) as connection:
            try:
                (found,) = connection.execute(query).fetchone() or (None,)
            except psycopg.errors.InsufficientPrivilege:
                return None
        return str(found)


@pytest.fixture(scope="module")
def readable(cluster: DatabaseFactory) -> Iterator[Readable]:
    mark = uuid.uuid4().hex[:8]
    owner, reader = f"owner_{mark}", f"reader_{mark}"
    for role in (owner, reader):
        cluster.create_role(role)
    made = Readable(cluster, owner, reader, cluster.create_owned(owner))
    database = Database(made.url)
    migrate(database)
    database.close()
    # As deploy/postgres-role.sql does.
    made.as_owner(f"revoke all on database {made.url.rsplit('/', 1)[1]} from public")
    made.as_owner("""
        insert into sync.connections (nango_connection_id, provider_config_key, provider,
                                      display_name)
        values ('contoso', 'entra', 'microsoft', 'Contoso');
        insert into directory.users (connection_id, id, display_name, first_seen_at, changed_at,
                                     row_hash)
        values (1, gen_random_uuid(), 'Ann', now(), now(), '');
        insert into events.change_events (connection_id, seq, occurred_at, resource, object_id,
                                          change)
        values (1, 1, now(), 'users', 'x', 'created')
    """)
    yield made
    cluster.drop(made.url)


@pytest.fixture(scope="module")
def with_sinks(readable: Readable, tmp_path_factory: pytest.TempPathFactory) -> Readable:
    """One sink of each kind, with all the secrets that a sink can have."""
    file = tmp_path_factory.mktemp("key") / "key"
    file.write_text(KEY)
    hook = ("--url", f"https://crm.example.com/in?{QUERY}", "--secret-file", str(file))
    stream = ("--url", f"redis://feed:{PASSWORD}@redis.example.com:6379/0")
    for name, kind, options in (("crm", "webhook", hook), ("feed", "redis-stream", stream)):
        done = readable.command("sinks", "add", name, "--kind", kind, *options)
        assert done.returncode == 0, done.stderr
    return readable


def test_a_reader_sees_the_directory_the_views_and_the_events(readable: Readable) -> None:
    readable.grant()
    assert readable.reads("select display_name from directory.users") == [("Ann",)]
    assert readable.reads("select organization from analytics.users") == [("Contoso",)]
    for name in ("members_of", "groups_of"):
        assert readable.reads(f"select * from analytics.{name}(1, gen_random_uuid())") == []
    assert readable.reads(
        "select seq from events.change_events where change = 'created' and seq = 1 limit 1"
    ) == [(1,)]
    assert len(readable.reads("select id from events.epochs order by id desc limit 1")) == 1
    for schema, name in readable.relations():
        if schema in ("directory", "analytics"):
            assert readable.content(schema, name, readable.reader) is not None, name


def test_what_later_releases_and_months_add_can_be_read(readable: Readable) -> None:
    readable.grant()
    readable.as_owner("""
        create table directory.devices (id int);
        create view analytics.devices as select id from directory.devices;
        drop view analytics.sites cascade;
        create view analytics.sites as select 1 as one
    """)
    for name in ("directory.devices", "analytics.devices", "analytics.sites"):
        readable.reads(f"select * from {name}")
    database = Database(readable.url)
    with database.open_transaction() as db:
        ensure_partitions(db, ahead=7)
    database.close()
    readable.as_owner("""
        insert into events.change_events (connection_id, seq, occurred_at, resource, object_id,
                                          change)
        values (2, 1, now() + interval '5 months', 'users', 'later', 'created')
    """)
    found = readable.reads("select object_id from events.change_events where connection_id = 2")
    assert found == [("later",)]


def test_nothing_that_a_reader_may_read_holds_a_secret(with_sinks: Readable) -> None:
    with_sinks.grant()
    held, denied = set(), set()
    for schema, name in with_sinks.relations():
        all_of_it = with_sinks.content(schema, name, with_sinks.owner) or ""
        held |= {f"{schema}.{name}" for secret in SECRETS if secret in all_of_it}
        if with_sinks.content(schema, name, with_sinks.reader) is None:
            denied.add(f"{schema}.{name}")
    assert held == {"sync.sink_secrets"}, "no other table has one, whoever may read it"
    assert held <= denied
    assert {"events.sinks", "events.positions", "sync.connections"} <= denied


def test_rights_that_former_releases_documented_are_taken_back(with_sinks: Readable) -> None:
    with_sinks.grant()
    with_sinks.as_owner(DOCUMENTED_BEFORE)
    assert with_sinks.reads("select count(*) from events.sinks") == [(2,)]
    with_sinks.grant()
    with_sinks.as_owner("create table events.tokens (id int)")
    for name in ("events.sinks", "events.positions", "events.tokens"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            with_sinks.reads(f"select * from {name}")
    with_sinks.as_owner("drop table events.tokens")
    with_sinks.reads("select * from events.change_events")


def test_a_reader_can_write_nothing(readable: Readable) -> None:
    readable.grant()
    for statement in (
        "delete from directory.users",
        "update events.change_events set change = 'deleted'",
        "insert into sync.sink_secrets (sink_id) values (1)",
        "create table directory.mine (id int)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            readable.reads(statement)


def test_a_role_from_which_nothing_can_be_kept_is_refused(readable: Readable) -> None:
    member = f"{readable.owner}_member"
    readable.cluster.create_role(member)
    with psycopg.connect(readable.url, autocommit=True) as connection:
        superuser = connection.execute("select rolname from pg_roles where rolsuper").fetchone()
    assert superuser is not None
    readable.cluster.grant_membership(readable.owner, member)
    for role in (readable.owner, member, superuser[0]):
        done = readable.command("grants", role)
        assert (done.returncode, done.stdout) == (2, "")
        assert "reads everything" in done.stderr


@pytest.mark.parametrize("role", ["nobody_here", "public", "analyst; drop table directory.users"])
def test_a_role_that_does_not_exist_is_refused(readable: Readable, role: str) -> None:
    done = readable.command("grants", role)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"no role '{role}'" in done.stderr


def test_names_that_need_quotes_are_quoted(readable: Readable) -> None:
    name = f"Ana Lyst {uuid.uuid4().hex[:4]}"
    readable.cluster.create_role(f'"{name}"', password="x")
    done = readable.command("grants", name)
    assert done.returncode == 0
    with psycopg.connect(readable.url, autocommit=True) as connection:
        connection.execute(done.stdout.encode())
        may = connection.execute(
            "select has_table_privilege(%s, 'analytics.users', 'select')", [name]
        ).fetchone()
    assert may == (True,)
