"""The commands that answer what happened: ``runs``, ``changes``, and ``events tail`` between times.

Also ``sinks set-url``. The commands run in this process.
"""

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from models.run import RunState
from sandbox.tenant import Tenant
from tests.support.fork_server import run_command
from tests.support.mirror import MakeMirror, Mirror, fetch_scalar
from tests.support.webhook_receiver import run_receiver
from worker.core.settings import Settings
from worker.events.event import Event
from worker.events.filter import EventFilter
from worker.events.start import FromOldest
from worker.events.tail import Tail
from worker.events.verify import verify
from worker.ops.cli import cli

Run = Callable[..., Result]
URL = "https://crm.example.com/hooks"


@pytest.fixture
def run(settings: Settings) -> Run:
    assert settings.database_url is not None
    environment = {"DATABASE_URL": settings.database_url.get_secret_value()}
    return lambda *arguments: CliRunner().invoke(cli, arguments, env=environment)


def told(done: Result) -> Any:
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def changed(make_mirror: MakeMirror) -> Mirror:
    """A mirror where a user was deleted and another one renamed since the first load."""
    mirror = make_mirror(Tenant(seed=7, users=30, groups=3, sites=2))
    mirror.sync()
    tenant = mirror.tenant
    tenant.update_user(tenant.users.id_at(1), displayName="Ada \u202e\nByron")
    tenant.delete_user(tenant.users.id_at(0))
    mirror.sync()
    return mirror


def test_a_verification_tells_how_many_events_it_has_checked(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(Tenant(seed=8, users=1100, groups=0, sites=0))
    mirror.sync()
    reports: list[tuple[int, int, str]] = []
    with mirror.database.open_transaction() as db:
        found = verify(db, 1, lambda *report: reports.append(report))
    assert reports == [(1000, found.events, "users")]


def test_the_latest_runs_are_listed_and_one_is_shown(changed: Mirror, run: Run) -> None:
    with changed.database.open_transaction() as db:
        db.execute(
            text(
                "insert into sync.runs (connection_id, trigger, state, error, finished_at)"
                " select 1, 'scheduled', 'failed', 'Graph was away', now()"
                " from generate_series(1, 30)"
            )
        )
    runs = told(run("runs", "contoso", "--json"))
    assert len(runs) == 20
    assert [one["id"] for one in runs] == sorted((one["id"] for one in runs), reverse=True)
    assert len(told(run("runs", "1", "--limit", "40", "--json"))) == 32
    good = told(run("runs", "1", "--state", "succeeded", "--json"))
    assert {one["state"] for one in good} == {RunState.SUCCEEDED}
    older = told(run("runs", "1", "--before", str(good[0]["id"]), "--json"))
    assert max(one["id"] for one in older) < good[0]["id"]
    first = run("runs", "1", "--limit", "1").stdout
    assert "Graph was away" in first
    assert len(first.splitlines()) == 2
    shown = run("runs", "--id", str(good[0]["id"])).stdout
    assert "1 updated, 1 deleted" in shown
    assert "users" in shown
    assert told(run("runs", "--id", str(good[0]["id"]), "--json"))["connection_id"] == 1
    assert run("runs", "1", "--state", "held").stdout == "no run is held\n"
    for wrong in ([], ["1", "--id", "2"]):
        assert run("runs", *wrong).exit_code == 2
    assert "there is no run 999" in str(run("runs", "--id", "999").exception)


def test_changes_are_counted_and_named_without_first_loads(changed: Mirror, run: Run) -> None:
    found = told(run("changes", "contoso", "--json"))
    assert found["counts"]["users"] == {"deleted": 1, "updated": 1}
    changes = {one["change"]: one for one in found["changes"] if one["resource"] == "users"}
    assert "Ada" in changes["updated"]["name"]
    assert changes["updated"]["changed"] == ["display_name"]
    assert found["number"] == len(found["changes"])
    with_loads = told(run("changes", "1", "--initial", "--resource", "users", "--json"))
    assert with_loads["counts"] == {"users": {"created": 30, "deleted": 1, "updated": 1}}
    shown = run("changes", "1", "--resource", "users").stdout
    assert "(display_name)" in shown
    assert "\u202e" not in shown
    only = told(run("changes", "1", "--change", "deleted", "--limit", "0", "--json"))
    assert only["changes"] == []
    assert set(only["counts"]["users"]) == {"deleted"}
    newest = run("changes", "1", "--limit", "1").stdout
    assert "the last 1 of" in newest


def test_the_time_of_changes_has_a_beginning_and_an_end(changed: Mirror, run: Run) -> None:
    assert "nothing changed" in run("changes", "1", "--since", "2d", "--until", "1d").stdout
    assert told(run("changes", "1", "--since", "1h", "--until", "0s", "--json"))["number"]
    for arguments, reason in (
        (["--since", "yesterday"], "--since: 'yesterday' is neither a time"),
        (["--since", "42"], "--since: '42' is neither a time"),
        (["--since", "1d", "--until", "2d"], "must be after its beginning"),
        (["--since", "2120-01-01"], "is in the future"),
        (["--resource", "people"], "there is no resource 'people'"),
    ):
        assert reason in str(run("changes", "1", *arguments).exception)


def test_events_are_read_without_first_loads_and_up_to_a_time(changed: Mirror, run: Run) -> None:
    def read(last: int | None = None, **only: Any) -> list[Event]:
        tail = Tail(changed.database, EventFilter(**only), scan_range=7)
        if last is not None:
            return [one.event for one in tail.read_last(last)]
        tail.seek(FromOldest())
        return [one.event for one in tail.read_new()]

    everything = read()
    later = read(with_initial=False)
    assert later == [one for one in everything if not one.initial]
    assert 0 < len(later) < len(everything) / 3
    assert read(1000, with_initial=False) == later
    moment = later[-1].occurred_at
    before = [one for one in everything if one.occurred_at < moment]
    assert read(until=moment) == read(1000, until=moment) == before
    assert run("events", "tail", "--follow", "--until", "1h").exit_code == 2
    done = run_command(
        ["events", "tail", "--from", "1h", "--no-initial", "--until", f"{moment:%FT%T.%fZ}"],
        {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": changed.database.url.render_as_string(hide_password=False),
        },
    )
    printed = [one for one in before if not one.initial]
    assert len(done.stdout.splitlines()) == len(printed), done.stderr


def test_a_sink_gets_another_url_and_keeps_its_place(changed: Mirror, run: Run) -> None:
    with run_receiver() as receiver:
        local = ("--allow-http", "--allow-private")
        added = told(
            run(
                *("sinks", "add", "crm", "--kind", "webhook", "--url", f"{URL}?code=hunter2"),
                *("--from", "oldest", "--resource", "users", "--json"),
            )
        )
        with changed.database.open_transaction() as db:
            db.execute(
                text(
                    "insert into events.positions (sink_id, connection_id, seq) values (1, 1, 7)"
                    " on conflict (sink_id, connection_id) do update set seq = 7"
                )
            )
            db.execute(
                text(
                    "update events.sinks set failures = 3, status_reason = 'status 500',"
                    " retry_at = now() + interval '5 min'"
                )
            )
        refused = run("sinks", "set-url", "crm", receiver.url)
        assert "must start with https://" in str(refused.exception)
        done = told(run("sinks", "set-url", "crm", receiver.url, *local, "--json"))
        assert (done["host"], done["status"]) == ("127.0.0.1", "active")
        kept = fetch_scalar(changed.database, "select secrets from sync.sink_secrets")
        assert kept == {"keys": [added["secret"]]}, "the old query is gone, the key stays"
        shown = told(run("sinks", "show", "crm", "--json"))
        assert shown["settings"]["url"] == receiver.url
        assert (shown["failures"], shown["retry_at"], shown["status_reason"]) == (0, None, None)
        assert shown["resources"] == ["users"]
        assert shown["positions"][0]["seq"] == 7
        receiver.secret = added["secret"]
        tested = run("sinks", "test", "crm")
        assert tested.exit_code == 0, tested.output
        assert "sinks resume" not in tested.stdout
        run("sinks", "pause", "crm")
        assert (
            "'tenant-mirror sinks resume crm' delivers at once"
            in run("sinks", "test", "crm").stdout
        )


def test_the_url_of_a_stream_is_named_where_its_redis_fails(changed: Mirror, run: Run) -> None:
    nowhere = "redis://:hunter2@127.0.0.1:1/0"
    run("sinks", "add", "search", "--kind", "redis-stream")
    assert run("sinks", "set-url", "search").exit_code == 2
    assert run("sinks", "set-url", "search", nowhere).exit_code == 0
    failed = str(run("sinks", "test", "search").exception)
    assert "the Redis of the url of sink 'search' is unavailable" in failed
    assert "hunter2" not in run("audit", "--json").stdout
    assert run("sinks", "set-url", "search", "--shared").exit_code == 0
    assert fetch_scalar(changed.database, "select secrets from sync.sink_secrets") == {}
