"""What the server, a role or the environment sets does not change what is read or written."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sandbox.servers import Servers
from sandbox.tenant import Tenant
from tests.support.databases import DatabaseFactory
from tests.support.mirror import MakeMirror, assert_exact
from worker.core.errors import ConfigurationError, ServerUnavailable
from worker.ops.schema.migrate import migrate
from worker.store.engine import Database

HOSTILE = {
    "client_encoding": "LATIN1",
    "bytea_output": "escape",
    "datestyle": "German",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Tokyo",
    "search_path": "nowhere",
    "default_transaction_isolation": "serializable",
    # It holds for the statement that replaces it, too: a busy server needs some time for that.
    "statement_timeout": "250ms",
    "idle_session_timeout": "1s",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "extra_float_digits": "-10",
    "jit": "on",
    "jit_above_cost": "0",
}
SHOWN = ("client_encoding", "timezone", "datestyle", "bytea_output", "search_path", "jit")
OURS = ["UTF8", "UTC", "ISO, MDY", "hex", "pg_catalog", "off"]


def shown(database: Database) -> list[str]:
    with database.open_transaction() as db:
        return [str(db.exec_driver_sql(f"show {name}").scalar_one()) for name in SHOWN]


@pytest.fixture(params=["LATIN1", "SQL_ASCII"])
def other_encoding(request: pytest.FixtureRequest, servers: Servers) -> Iterator[tuple[str, str]]:
    """The URL of a database that is not UTF8, and its encoding."""
    name = f"other_{request.param.lower()}"
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(
            f"create database {name} encoding '{request.param}' template template0"
            " locale_provider libc lc_collate 'C' lc_ctype 'C'"
        )
        yield f"{servers.database_url.rsplit('/', 1)[0]}/{name}", request.param
        admin.execute(f"drop database {name} with (force)")


def refusal(url: str, encoding: str) -> str:
    return (
        f"the database {url.rsplit('/', 1)[1]} is encoded as {encoding}; Tenant Mirror needs UTF8"
    )


def test_a_database_in_another_encoding_is_refused(other_encoding: tuple[str, str]) -> None:
    url, encoding = other_encoding
    database = Database(url)
    for _ in range(2):
        with (
            pytest.raises(ConfigurationError, match=refusal(url, encoding)),
            database.open_transaction(),
        ):
            pass
    with pytest.raises(ConfigurationError, match=refusal(url, encoding)):
        migrate(database)
    database.close()


@pytest.mark.parametrize("command", ["migrate", "status"])
def test_commands_refuse_another_encoding_in_one_sentence(
    other_encoding: tuple[str, str], command: str
) -> None:
    url, encoding = other_encoding
    done = subprocess.run(
        [str(Path(sys.executable).with_name("tenant-mirror")), command],
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert refusal(url, encoding) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_mirror_is_exact_where_the_database_sets_everything_otherwise(
    database_url: str, servers: Servers, make_mirror: MakeMirror
) -> None:
    name = database_url.rsplit("/", 1)[1]
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        for setting, value in HOSTILE.items():
            admin.execute(f"alter database {name} set {setting} = '{value}'")
    tenant = Tenant(seed=3, users=12, groups=3, sites=2)
    tenant.create_user(displayName="Łukasz Żółć 王小明 🙂")
    tenant.create_group(displayName="Café Größe")
    mirror = make_mirror(tenant)
    mirror.sync()
    assert shown(mirror.database) == OURS
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("select pg_sleep(0.4)")
    assert_exact(mirror.database, tenant)


def test_text_is_stored_unchanged_where_the_database_asks_for_another_client_encoding(
    database_url: str, servers: Servers, make_mirror: MakeMirror
) -> None:
    name = database_url.rsplit("/", 1)[1]
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"alter database {name} set client_encoding = 'LATIN1'")
    tenant = Tenant(seed=3, users=12, groups=3, sites=2)
    user = tenant.create_user(displayName="Łukasz Żółć Größe")
    make_mirror(tenant).sync()
    with psycopg.connect(database_url, client_encoding="utf8") as reader:
        stored = reader.execute("select display_name from directory.users where id = %s", (user,))
        assert stored.fetchone() == ("Łukasz Żółć Größe",)
        told = reader.execute(
            "select after ->> 'display_name' from events.change_events where object_id = %s",
            (user.lower(),),
        )
        assert told.fetchone() == ("Łukasz Żółć Größe",)


def test_a_session_that_ended_between_two_transactions_is_replaced(
    database: Database, database_url: str
) -> None:
    with database.open_transaction() as db:
        pid = db.exec_driver_sql("select pg_backend_pid()").scalar_one()
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("select pg_terminate_backend(%s, 5000)", (pid,))
    with pytest.raises(ServerUnavailable), database.open_transaction():
        pass
    assert shown(database) == OURS


def test_an_idle_session_is_not_ended_by_the_servers_limit(database: Database) -> None:
    with database.open_transaction() as db:
        limit = db.exec_driver_sql("show idle_session_timeout").scalar_one()
    assert limit == "0"


def test_an_administrator_can_still_keep_writers_out(database_url: str, servers: Servers) -> None:
    name = database_url.rsplit("/", 1)[1]
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"alter database {name} set default_transaction_read_only = on")
    database = Database(database_url)
    with pytest.raises(ServerUnavailable), database.open_transaction() as db:
        db.exec_driver_sql("update sync.leases set holder = null")
    database.close()


def test_the_environment_and_the_address_do_not_change_the_session(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    monkeypatch.setenv("PGDATESTYLE", "German")
    monkeypatch.setenv("PGOPTIONS", "-c bytea_output=escape")
    query = "?client_encoding=LATIN1&options=-c%20search_path%3Dnowhere"
    database = Database(database_url + query)
    assert shown(database) == OURS
    database.close()


def test_migrating_ignores_the_settings_of_the_database(
    cluster: DatabaseFactory, servers: Servers
) -> None:
    url = cluster.create_empty()
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        for setting, value in HOSTILE.items():
            admin.execute(f"alter database {url.rsplit('/', 1)[1]} set {setting} = '{value}'")
    database = Database(url)
    before, after = migrate(database)
    assert (before, after is not None) == (None, True)
    database.close()
    cluster.drop(url)
