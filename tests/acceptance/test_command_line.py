"""The command line as people and scripts meet it: exit codes, sentences, JSON."""

import json
import os
import pty
import subprocess
from collections.abc import Callable

import psycopg
import pytest

from sandbox.tenant import Nango, Response, Server, Tenant
from tests.support.databases import DatabaseFactory
from tests.support.fork_server import run_command
from tests.support.mirror import assert_exact, fetch_scalar
from worker.store.engine import Database

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(database_url: str, nango: Nango, nango_server: Server) -> Run:
    """Runs tenant-mirror as a process of its own."""
    base = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    base |= {
        "DATABASE_URL": database_url,
        "NANGO_HOST": nango_server.url,
        "NANGO_SECRET_KEY": nango.key,
        "TENANT_MIRROR_RETRY_SECONDS": "0.1",
    }

    def call(
        *arguments: str, stdin: str = os.devnull, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return run_command(arguments, {**base, **environment}, stdin=stdin)

    return call


def test_a_tenant_is_discovered_synced_verified_and_shown(
    run: Run, nango: Nango, database: Database
) -> None:
    tenant = Tenant(seed=31, users=40, groups=5, sites=4)
    nango.add_connection("contoso", tenant)
    assert "enrolled: entra/contoso" in run("connections", "discover").stdout
    synced = run("sync", "--all", "--json")
    assert synced.returncode == 0, synced.stderr
    (report,) = json.loads(synced.stdout)
    assert report["state"] == "succeeded"
    assert report["created"] == sum(truth.count for truth in tenant.truth().values())
    assert_exact(database, tenant)
    for named in ("1", "contoso", "entra/contoso"):
        assert run("verify", named).returncode == 0
    listed = json.loads(run("connections", "list", "--json").stdout)
    assert listed[0]["display_name"] == "Contoso"
    shown = json.loads(run("connections", "show", "contoso", "--json").stdout)
    assert {stream["resource"] for stream in shown["streams"]} >= {"users", "groups", "sites"}
    status = json.loads(run("status", "--json").stdout)
    assert status["dispatcher_alive"] is False
    for command in (("status", "--all"), ("connections", "list"), ("connections", "show", "1")):
        done = run(*command)
        assert done.returncode == 0, done.stderr
        assert "Contoso" in done.stdout
    assert "1 connection: 0 fine, 1 waiting for the service" in run("status").stdout
    assert run("status", "--check").returncode == 3, "no dispatcher runs"


def test_a_refused_resource_is_partial(run: Run, nango: Nango) -> None:
    tenant = Tenant(seed=31, users=5, groups=2)
    tenant.options.refused_resources = {"groups"}
    nango.add_connection("contoso", tenant)
    run("connections", "discover")
    done = run("sync", "contoso")
    assert done.returncode == 3
    assert "Group.Read.All" in done.stderr


def test_a_held_deletion_is_partial_until_it_is_approved(run: Run, nango: Nango) -> None:
    tenant = Tenant(seed=31, users=150, groups=1)
    nango.add_connection("contoso", tenant)
    run("connections", "discover")
    run("sync", "contoso")
    for index in range(60):
        tenant.delete_user(tenant.users.id_at(index))
    held = run("sync", "contoso")
    assert held.returncode == 3
    assert "waits for approval" in held.stderr
    assert "users" in run("connections", "show", "1").stdout
    silent = run("approve", "contoso")
    assert (silent.returncode, "this deletes 60 users" in silent.stderr) == (2, True)
    approved = run("approve", "contoso", "--yes")
    assert approved.returncode == 0
    assert run("sync", "contoso").returncode == 0


def test_missing_connections_are_shown_and_retired_on_approval(run: Run, nango: Nango) -> None:
    names = [f"c{number}" for number in range(4)]
    for number, name in enumerate(names):
        nango.add_connection(name, Tenant(seed=number + 1, users=1))
    run("connections", "discover")
    for name in names[:3]:
        nango.remove_connection(name)
    assert "approve-missing" in run("connections", "discover").stderr
    shown = run("status").stdout
    assert "refused_by_nango" in shown
    assert "approve-missing" in shown
    assert json.loads(run("status", "--json").stdout)["missing_connections"]["ids"] == [1, 2, 3]
    silent = run("connections", "approve-missing")
    assert (silent.returncode, "--yes" in silent.stderr) == (2, True)
    done = json.loads(run("connections", "approve-missing", "--yes", "--json").stdout)
    assert done == {"held": 3, "retired": [f"entra/{name}" for name in names[:3]]}
    assert json.loads(run("status", "--json").stdout)["missing_connections"] is None
    assert "0 of 0" in run("connections", "approve-missing", "--yes").stdout


def retired(run: Run, nango: Nango) -> None:
    """A customer who was mirrored and has left."""
    nango.add_connection("contoso", Tenant(seed=31, users=20, groups=2))
    run("connections", "discover")
    run("sync", "contoso")
    nango.remove_connection("contoso")
    assert "retired: entra/contoso" in run("connections", "discover").stdout


def test_a_retired_connection_is_forgotten(run: Run, nango: Nango, database: Database) -> None:
    retired(run, nango)
    rows = fetch_scalar(database, "select count(*) from directory.users")
    silent = run("forget", "contoso")
    assert silent.returncode == 2
    assert "--yes" in silent.stderr
    assert fetch_scalar(database, "select count(*) from directory.users") == rows
    done = run("forget", "contoso", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["id"] == 1
    assert told["rows"]["directory.users"] == rows
    assert told["rows"]["events.change_events"] > rows
    assert json.loads(run("connections", "list", "--json").stdout) == []
    assert run("forget", "contoso", "--yes").returncode == 2


def test_forgetting_asks_on_a_terminal(run: Run, nango: Nango, database: Database) -> None:
    retired(run, nango)
    for said, code in ((b"n\n", 1), (b"y\n", 0)):
        terminal, shell = pty.openpty()
        os.write(terminal, said)
        done = run("forget", "1", stdin=os.ttyname(shell))
        os.close(shell)
        os.close(terminal)
        assert done.returncode == code, done.stderr
        assert "entra/contoso, Contoso" in done.stderr
    assert "forgotten" in done.stdout
    assert "directory.users: 20" in done.stdout
    assert fetch_scalar(database, "select count(*) from directory.users") == 0


def test_a_live_connection_is_not_forgotten_and_a_paused_one_not_synced(
    run: Run, nango: Nango, database: Database
) -> None:
    nango.add_connection("contoso", Tenant(seed=31, users=5))
    run("connections", "discover")
    done = run("forget", "contoso", "--yes")
    assert done.returncode == 1
    assert "delete it in Nango" in done.stderr
    assert fetch_scalar(database, "select status from sync.connections") == "active"
    fetch_scalar(database, "update sync.connections set status = 'paused' returning id")
    done = run("resync", "contoso")
    assert done.returncode == 1
    assert "it is paused, so it is not synced" in done.stderr


def test_of_connections_with_one_address_the_live_one_is_meant(
    run: Run, nango: Nango, database: Database
) -> None:
    """Whoever connects anew gets the old row, and the new row retires with the same address."""
    retired(run, nango)
    nango.add_connection("again", Tenant(seed=31, users=20, groups=2))
    run("connections", "discover")
    moved = run("sync", "again")
    assert moved.returncode == 1
    assert "connection 1 has this tenant's history" in moved.stderr
    assert run("sync", "again").returncode == 0
    nango.remove_connection("again")
    run("connections", "discover")
    unclear = run("forget", "again", "--yes")
    assert unclear.returncode == 2
    assert "1 (Contoso, entra/again, retired), 2 (Contoso, entra/again, retired); pass the" in (
        unclear.stderr
    )
    assert run("forget", "2", "--yes").returncode == 0
    assert fetch_scalar(database, "select array_agg(id) from sync.connections") == [1]


def test_wrong_settings_of_a_customer_are_shown(run: Run, nango: Nango) -> None:
    metadata = {"tenant_mirror": {"guard_percent": "many"}}
    nango.add_connection("contoso", Tenant(seed=31, users=5), metadata=metadata)
    assert "guard_percent" in run("connections", "discover").stderr
    assert run("sync", "contoso").returncode == 0, "the default stands"
    for command in (("status",), ("connections", "list"), ("connections", "show", "1")):
        assert "guard_percent" in run(*command).stdout


def test_a_wrong_key_is_a_settings_fault(run: Run, nango: Nango) -> None:
    nango.add_connection("contoso", Tenant(seed=31, users=5))
    run("connections", "discover")
    done = run("sync", "contoso", NANGO_SECRET_KEY="11111111-2222-4333-8444-555555555555")
    assert done.returncode == 2
    assert "NANGO_SECRET_KEY" in done.stderr
    assert "Traceback" not in done.stderr
    assert "halted" not in run("status").stdout.lower(), "a mistake in a shell halts nobody else"
    assert run("sync", "contoso").returncode == 0


def test_a_wrong_host_is_a_settings_fault(run: Run, nango: Nango) -> None:
    page = Response(200, b"<!doctype html>", {"content-type": "text/html"})
    nango.before_response = lambda _: page
    done = run("connections", "discover")
    assert done.returncode == 2
    assert "NANGO_HOST" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "told"),
    [
        (("sync", "nobody"), {}, 2, "no connection 'nobody'"),
        (("sync", "77"), {}, 2, "no connection 77"),
        (("forget", "nobody"), {}, 2, "no connection 'nobody'"),
        (("forget", "77", "--yes"), {}, 2, "no connection 77"),
        (("sync",), {}, 2, "--all"),
        (("sync", "--all", "--resource", "cats"), {}, 2, "cats"),
        (("status",), {"DATABASE_URL": "postgresql://u:pw@127.0.0.1:9/d"}, 1, "cannot be reached"),
        (("status",), {"DATABASE_URL": "mysql://u@h/d"}, 2, "DATABASE_URL"),
        (("status",), {"DATABASE_URL": ""}, 2, "DATABASE_URL is not set"),
        (("sync", "--all"), {"NANGO_SECRET_KEY": ""}, 2, "NANGO_SECRET_KEY is not set"),
        (("settings",), {"TENANT_MIRROR_SLICE_SECONDS": "soon"}, 2, "SLICE_SECONDS"),
        (("connections", "discover"), {"NANGO_HOST": "http://127.0.0.1:9"}, 1, "reached"),
    ],
)
def test_bad_input_gives_a_plain_sentence_and_a_code(
    run: Run, arguments: tuple[str, ...], environment: dict[str, str], code: int, told: str
) -> None:
    done = run(*arguments, **environment)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "pw@" not in done.stderr


def test_a_database_without_our_schema_says_what_to_run(run: Run, cluster: DatabaseFactory) -> None:
    empty = cluster.create_empty()
    done = run("status", DATABASE_URL=empty)
    assert done.returncode == 2
    assert "tenant-mirror migrate" in done.stderr
    migrated = run("migrate", DATABASE_URL=empty)
    assert migrated.returncode == 0, migrated.stderr
    assert "already" in run("migrate", DATABASE_URL=empty).stdout
    assert run("status", DATABASE_URL=empty).returncode == 0


def test_migrating_to_a_revision_and_beside_a_snapshot(run: Run, cluster: DatabaseFactory) -> None:
    empty = cluster.create_empty()
    assert "none -> 0001" in run("migrate", "--to", "0001", DATABASE_URL=empty).stdout
    assert "0001 -> 0002" in run("migrate", "--to", "2", DATABASE_URL=empty).stdout
    unknown = run("migrate", "--to", "0999", DATABASE_URL=empty)
    assert unknown.returncode == 2
    assert "there is no schema '0999'" in unknown.stderr
    with psycopg.connect(empty, application_name="night report") as other:
        other.execute("set transaction isolation level repeatable read")
        other.execute("select 1")
        process = other.info.backend_pid
        held_up = run("migrate", "--wait", "1", DATABASE_URL=empty)
    assert held_up.returncode == 1
    assert f"process {process}, application night report" in held_up.stderr
    assert "Traceback" not in held_up.stderr + unknown.stderr
    done = run("migrate", DATABASE_URL=empty)
    assert done.returncode == 0, done.stderr
    assert "0002 -> " in done.stdout
    cluster.drop(empty)


def test_every_setting_is_listed_and_secrets_are_hidden(run: Run, nango: Nango) -> None:
    done = run("settings", "--json")
    listed = {row["name"]: row for row in json.loads(done.stdout)}
    assert listed["NANGO_SECRET_KEY"]["value"] == "(hidden)"
    assert nango.key not in done.stdout
    assert listed["TENANT_MIRROR_DELTA_SECONDS"]["default"] == "300"
    assert all(row["meaning"] for row in listed.values())


def test_several_mistakes_are_told_a_line_each(run: Run) -> None:
    done = run("status", TENANT_MIRROR_SLICE_SECONDS="soon", NANGO_HOST="nowhere")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2


def test_help_teaches(run: Run) -> None:
    for arguments in ((), ("sync",), ("resync",), ("connections",), ("sandbox",), ("up",)):
        done = run(*arguments, "--help")
        assert done.returncode == 0, done.stderr
        assert "Usage" in done.stdout
