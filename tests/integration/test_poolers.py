"""The mirror works behind a connection pooler, and what a pooler refuses is said at once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from models.run import RunState
from sandbox.servers import Servers
from sandbox.tenant import Nango, Server, Tenant
from tests.support.databases import DatabaseFactory
from tests.support.mirror import MakeMirror, assert_exact, fetch_scalar, read_events
from tests.support.pgbouncer import Pooler, run_pooler
from worker.core.errors import ConfigurationError, RetryLater
from worker.ops.schema.migrate import migrate
from worker.store.engine import Database
from worker.store.migration_lock import MigrationLimits
from worker.store.schema_version import get_newest_revision

FOREIGN = {
    "timezone": "Asia/Tokyo",
    "datestyle": "German",
    "intervalstyle": "sql_standard",
    "bytea_output": "escape",
    "search_path": "nowhere",
    "statement_timeout": "2s",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1s",
    "default_transaction_isolation": "serializable",
    "extra_float_digits": "-10",
    "array_nulls": "off",
    "standard_conforming_strings": "off",
    "role": "pg_monitor",
}
"""What another client of the pooler has set in its session, and left there."""

OURS = {
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "search_path": "pg_catalog",
    "statement_timeout": "1min",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "2min",
    "transaction_isolation": "read committed",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "standard_conforming_strings": "on",
    "role": "none",
}


@pytest.fixture(scope="module", params=["transaction", "session"])
def pgbouncer(request: pytest.FixtureRequest, servers: Servers, home: Path) -> Iterator[Pooler]:
    """Two server connections for each database, in either pool mode."""
    folder = home / f"pgbouncer-{request.param}"
    with run_pooler(servers.database_url, folder, pool_mode=request.param) as running:
        yield running


@pytest.fixture(scope="module")
def shared(servers: Servers, home: Path) -> Iterator[Pooler]:
    """One server connection for each database: what a client leaves is what the next one finds."""
    settings = {"pool_mode": "transaction", "default_pool_size": 1}
    with run_pooler(servers.database_url, home / "pgbouncer-shared", **settings) as running:
        yield running


@pytest.fixture
def database_url(request: pytest.FixtureRequest, cluster: DatabaseFactory) -> Iterator[str]:
    """A migrated database, by way of the pooler that the test asks for."""
    direct = cluster.create_migrated()
    name = "shared" if "shared" in request.fixturenames else "pgbouncer"
    found: Pooler = request.getfixturevalue(name)
    yield found.build_url(direct)
    cluster.drop(direct)


def leave_settings(url: str, *, sessions: int) -> None:
    """Change as many sessions of the pooler as that, all of which it then goes on using."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(psycopg.connect(url, prepare_threshold=None))
            for _ in range(sessions)
        ]
        for client in clients:
            for name, value in FOREIGN.items():
                client.execute("select set_config(%s, %s, false)", (name, value))


def shown(url: str, names: dict[str, str]) -> dict[str, str]:
    """What another client finds set."""
    with psycopg.connect(url, autocommit=True) as client:
        found = {name: client.execute(f"show {name}".encode()).fetchone() for name in names}
    return {name: str(row and row[0]) for name, row in found.items()}


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command as a process of its own."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "PGGEQO")}
    return subprocess.Popen(
        [sys.executable, "-c", "from worker.ops.cli import main; main()", *arguments],
        env={**kept, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code of a command, and what it complained of."""
    with process:
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, said


@pytest.mark.usefixtures("pgbouncer")
def test_a_mirror_behind_a_pooler_is_exact(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=11, users=300, groups=12, sites=6)
    mirror = make_mirror(tenant)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    for full in (False, True):
        tenant.mutate(40)
        assert mirror.sync(full=full).state is RunState.SUCCEEDED
        assert_exact(mirror.database, tenant)


def test_our_settings_hold_in_every_transaction_and_stay_in_none(
    database_url: str, shared: Pooler
) -> None:
    leave_settings(database_url, sessions=1)
    left = shown(database_url, FOREIGN)
    assert left["bytea_output"] == "escape"
    database = Database(database_url)
    for _ in range(2):
        with database.open_transaction() as db:
            found = {n: db.execute(text(f"show {n}")).scalar_one() for n in OURS}
        assert found == OURS
        assert shown(database_url, FOREIGN) == left
    database.close()


@pytest.mark.parametrize("pgbouncer", ["transaction"], indirect=True)
@pytest.mark.usefixtures("pgbouncer")
def test_what_another_client_has_set_reaches_no_row_and_no_event(
    database_url: str, make_mirror: MakeMirror
) -> None:
    tenant = Tenant(seed=12, users=30, groups=4, sites=3)
    user = tenant.create_user(displayName="Łukasz Żółć 王小明 🙂", businessPhones=["a\\b", "NULL"])
    leave_settings(database_url, sessions=2)
    mirror = make_mirror(tenant)
    mirror.sync()
    tenant.mutate(20)
    leave_settings(database_url, sessions=2)
    mirror.sync()
    mirror.sync(full=True)
    assert_exact(mirror.database, tenant)
    (told,) = [
        event["after"]
        for event in read_events(mirror.database)
        if event["object_id"] == user.lower() and event["change"] == "created"
    ]
    assert told["created_date_time"].endswith(("Z", "+00:00"))
    owners = "select array_agg(distinct tableowner) from pg_tables where schemaname = 'directory'"
    assert len(fetch_scalar(mirror.database, owners)) == 1


@pytest.mark.parametrize("pgbouncer", ["transaction"], indirect=True)
@pytest.mark.usefixtures("pgbouncer")
def test_two_processes_share_two_sessions(
    database_url: str, nango: Nango, nango_server: Server
) -> None:
    tenants = {name: Tenant(seed=20 + n, users=150, groups=9) for n, name in enumerate("ab")}
    for name, tenant in tenants.items():
        nango.add_connection(name, tenant)
    environment = {
        "DATABASE_URL": database_url,
        "NANGO_HOST": nango_server.url,
        "NANGO_SECRET_KEY": nango.key,
    }
    code, said = ended(start("connections", "discover", **environment))
    assert code == 0, said
    syncs = [start("sync", name, **environment) for name in tenants]
    done = [ended(process) for process in syncs]
    assert [code for code, _ in done] == [0, 0], done
    database = Database(database_url)
    for number, tenant in enumerate(tenants.values(), 1):
        assert_exact(database, tenant, number)
    database.close()


def test_migrating_behind_a_pooler(
    cluster: DatabaseFactory, servers: Servers, pgbouncer: Pooler
) -> None:
    direct = cluster.create_empty()
    url = pgbouncer.build_url(direct)
    at_once = [start("migrate", DATABASE_URL=address) for address in (url, direct)]
    done = [ended(process) for process in at_once]
    assert [code for code, _ in done] == [0, 0], done
    database = Database(url)
    assert migrate(database) == (get_newest_revision(), get_newest_revision())
    assert migrate(database, "base") == (get_newest_revision(), None)
    assert migrate(database) == (None, get_newest_revision())
    database.close()
    cluster.drop(direct)


def test_a_snapshot_behind_a_pooler_holds_a_migration_up_for_a_while_only(
    cluster: DatabaseFactory, pgbouncer: Pooler
) -> None:
    """A session that others share keeps its limits, so the index itself would wait without end."""
    direct = cluster.create_empty()
    database = Database(pgbouncer.build_url(direct))
    migrate(database, "0002")
    with psycopg.connect(direct, application_name="night report") as other:
        other.execute("set transaction isolation level repeatable read")
        other.execute("select 1")
        with pytest.raises(RetryLater, match=f"process {other.info.backend_pid}, .* night report"):
            migrate(database, limits=MigrationLimits(concurrent_lock=0.5))
    assert migrate(database) == ("0002", get_newest_revision())
    database.close()
    cluster.drop(direct)


ASKS = {
    "options in the address": ("?options=-c%20timezone%3DUTC", {}),
    "a variable of libpq": ("", {"PGGEQO": "on"}),
}


@pytest.mark.parametrize(("query", "environment"), ASKS.values(), ids=ASKS.keys())
def test_what_a_pooler_refuses_is_a_wrong_configuration(
    database_url: str,
    shared: Pooler,
    monkeypatch: pytest.MonkeyPatch,
    query: str,
    environment: dict[str, str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    database = Database(database_url + query)
    with (
        pytest.raises(ConfigurationError, match=r"unsupported startup parameter.*DATABASE_URL"),
        database.open_transaction(),
    ):
        pass
    code, said = ended(start("status", DATABASE_URL=database_url + query))
    assert code == 2, said
    assert "unsupported startup parameter" in said
    assert len(said.strip().splitlines()) == 1


def test_options_of_the_environment_are_not_sent_to_a_pooler(
    database_url: str, shared: Pooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c timezone=Asia/Tokyo")
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    database = Database(database_url)
    assert fetch_scalar(database, "select current_setting('timezone')") == "UTC"
    database.close()


@pytest.mark.parametrize(
    "option", ["nowhere=1", "timezone=Nowhere", "shared_buffers=1", "client_min_messages"]
)
def test_options_that_postgres_refuses_are_a_wrong_configuration(
    servers: Servers, option: str
) -> None:
    database = Database(f"{servers.database_url}?options=-c%20{option.replace('=', '%3D')}")
    with (
        pytest.raises(ConfigurationError, match="rejects a connection parameter"),
        database.open_transaction(),
    ):
        pass


def test_an_option_that_the_driver_does_not_know_is_a_wrong_configuration(
    servers: Servers,
) -> None:
    with pytest.raises(
        ConfigurationError, match="DATABASE_URL has a host, database or option that is invalid"
    ):
        Database(f"{servers.database_url}?nowhere=1")
