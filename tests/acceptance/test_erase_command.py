"""Erasing as operators meet it: what is asked, said and refused; and a process that dies."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable

import pytest
from sqlalchemy import text

from sandbox.tenant import Nango, Server, Tenant
from tests.support.fork_server import run_command
from tests.support.mirror import fetch_scalar, verify_connection
from worker.store.engine import Database

Run = Callable[..., subprocess.CompletedProcess[str]]

NOBODY = "00000000-1111-2222-3333-444444444444"


@pytest.fixture
def run(database_url: str, nango: Nango, nango_server: Server) -> Run:
    """Runs tenant-mirror as a process of its own."""
    base = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    base |= {
        "DATABASE_URL": database_url,
        "NANGO_HOST": nango_server.url,
        "NANGO_SECRET_KEY": nango.key,
    }

    def call(
        *arguments: str, stdin: str = os.devnull, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return run_command(arguments, {**base, **environment}, stdin=stdin)

    return call


@pytest.fixture
def person(run: Run, nango: Nango) -> str:
    """A user of a tenant that is mirrored."""
    tenant = Tenant(seed=31, users=40, groups=5, sites=4)
    person = tenant.users.id_at(3)
    tenant.update_user(person, userPrincipalName="adele@contoso.example", displayName="Adele V.")
    tenant.add_member(tenant.groups.id_at(0), person)
    tenant.create_site(
        displayName="Adele V.",
        isPersonalSite=True,
        webUrl="https://contoso-my.example/personal/adele_contoso_example",
    )
    nango.add_connection("contoso", tenant)
    run("connections", "discover")
    assert run("sync", "contoso").returncode == 0
    return person


def named(database: Database, person: str) -> int:
    """How many events and rows name the person."""
    statement = """
        select (select count(*) from events.change_events
                 where concat(object_id, before, after) like :who)
             + (select count(*) from directory.users where id::text like :who)
             + (select count(*) from directory.group_members where member_id::text like :who)
    """
    return int(fetch_scalar(database, statement, who=f"%{person}%"))


def test_a_person_is_erased_shown_kept_away_and_let_back(
    run: Run, database: Database, person: str
) -> None:
    silent = run("erase", "contoso", person)
    assert silent.returncode == 2
    assert "--yes" in silent.stderr
    assert named(database, person)
    done = run("erase", "contoso", "Adele@contoso.example", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["resource"], told["new"], told["waits_for"]) == ("users", True, [])
    assert told["rows"]["directory.users"] == 1
    (site,) = told["may_also_be_of_this_person"]
    assert site["command"] == f"tenant-mirror erase 1 {site['id']} --resource sites"
    for output in (done.stdout, done.stderr):
        assert not [name for name in (person, "adele", "Adele V.") if name in output]
    assert named(database, person) == 0
    assert "was already erased" in run("erase", "contoso", person, "--yes").stdout
    (listed,) = json.loads(run("erase", "contoso", "--list", "--json").stdout)["erasures"]
    assert listed["erased"] == told["erased"]
    assert listed["scrubbed_at"]
    shown = run("erase", "contoso", "--list").stdout
    assert told["erased"] in shown
    verified = run("verify", "contoso")
    assert verified.returncode == 0
    assert "erased ones skipped" in verified.stdout
    tail = run("events", "tail", "--connection", "contoso", "--from", "1")
    assert tail.returncode == 0, tail.stderr
    assert told["erased"] in tail.stdout
    assert run("sync", "contoso", "--full").returncode == 0
    assert named(database, person) == 0
    back = run("erase", "contoso", told["erased"], "--lift")
    assert back.returncode == 0, back.stderr
    assert "is lifted" in back.stdout
    assert run("sync", "contoso", "--full").returncode == 0
    assert named(database, person) >= 3
    assert "no erasures" in run("erase", "contoso", "--list").stdout


def test_it_asks_on_a_terminal(run: Run, database: Database, person: str) -> None:
    for said, code in ((b"n\n", 1), (b"y\n", 0)):
        terminal, shell = pty.openpty()
        os.write(terminal, said)
        done = run("erase", "1", person, stdin=os.ttyname(shell))
        os.close(shell)
        os.close(terminal)
        assert done.returncode == code, done.stderr
        assert f"Erase users {person} of connection 1 (entra/contoso, Contoso)" in done.stderr
    assert "is erased" in done.stdout
    assert "directory.users: 1" in done.stdout
    assert named(database, person) == 0


def test_what_is_known_nowhere_is_refused_unless_it_is_said_what_it_is(
    run: Run, person: str
) -> None:
    for arguments, told in (
        (("erase", "nobody", person), "no connection 'nobody'"),
        (("erase", "contoso", NOBODY, "--yes"), "pass --resource users|groups|sites"),
        (("erase", "contoso", "nobody@contoso.example", "--yes"), "no user here has"),
        (("erase", "contoso", person, "--lift"), "no object of this connection was erased"),
        (("erase", "contoso"), "give an OBJECT"),
        (("erase", "contoso", person, "--list"), "give an OBJECT"),
    ):
        refused = run(*arguments)
        assert refused.returncode == 2, refused.stderr
        assert told in refused.stderr
        assert "Traceback" not in refused.stderr
    ahead = run("erase", "contoso", NOBODY, "--resource", "users", "--yes")
    assert ahead.returncode == 0, ahead.stderr
    assert "keep it out" in ahead.stdout


def test_a_sink_that_is_behind_is_named(run: Run, database: Database, person: str) -> None:
    with database.open_transaction() as connection:
        connection.execute(
            text(
                "insert into events.sinks (name, kind, status) values ('crm', 'webhook', 'paused')"
            )
        )
    done = run("erase", "contoso", person, "--yes", "--wait", "0.1")
    assert done.returncode == 3, done.stderr
    assert "sink crm (paused) has not received the last event" in done.stderr
    assert "except for its id" in done.stdout
    assert "crm" in run("erase", "contoso", "--list").stdout
    lift = run("erase", "contoso", person, "--lift")
    assert lift.returncode == 1
    assert "'crm' (paused)" in lift.stderr
    with database.open_transaction() as db:
        db.execute(text("delete from events.sinks"))
    again = run("erase", "contoso", person, "--yes")
    assert again.returncode == 0, again.stderr
    assert named(database, person) == 0


@pytest.mark.parametrize("point", ["erasure-begun", "events-scrubbed"])
def test_who_is_killed_in_the_middle_goes_on_the_next_time(
    run: Run, database: Database, person: str, point: str
) -> None:
    killed = run("erase", "contoso", person, "--yes", TENANT_MIRROR_CRASH_AT=point)
    assert killed.returncode == -signal.SIGKILL
    under_way = "select pending is not null from sync.erasures"
    assert fetch_scalar(database, under_way)
    assert "under way" in run("erase", "contoso", "--list").stdout
    assert verify_connection(database).problems == []
    assert run("sync", "contoso", "--full").returncode == 0
    again = run("erase", "contoso", person, "--yes", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["new"] is False
    assert named(database, person) == 0
    assert fetch_scalar(database, under_way) is False
    closing = """
        select count(*) from events.change_events e join sync.erasures r on r.last_seq = e.seq
         where e.resource = 'users' and e.change = 'deleted'
    """
    assert fetch_scalar(database, closing) == 1
    assert verify_connection(database).problems == []
