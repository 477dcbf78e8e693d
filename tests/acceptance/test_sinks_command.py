"""The commands about sinks as people and scripts meet them."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.servers import Servers
from sandbox.tenant import Nango, Tenant
from tests.support.fork_server import run_command
from tests.support.mirror import MakeMirror, fetch_scalar, read_last_seq
from tests.support.webhook_receiver import WebhookReceiver, answer_always, run_receiver
from worker.store.engine import Database

Run = Callable[..., subprocess.CompletedProcess[str]]
URL = "https://crm.example.com/hooks"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def run(database_url: str) -> Run:
    """Runs tenant-mirror as a process of its own."""
    base = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    base["DATABASE_URL"] = database_url

    def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_command(["sinks", *arguments], {**base, **environment})

    return call


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with run_receiver() as made:
        yield made


def told(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def added(run: Run, receiver: WebhookReceiver, *more: str) -> None:
    """A webhook to the local receiver, with a secret that is made."""
    local = ("--kind", "webhook", "--url", receiver.url, "--allow-http", "--allow-private")
    receiver.secret = told(run("add", "crm", *local, "--json", *more))["secret"]


def test_a_secret_is_shown_once_and_never_again(run: Run, database: Database) -> None:
    done = run("add", "crm", "--kind", "webhook", "--url", URL + "?code=hunter2")
    assert done.returncode == 0, done.stderr
    secret = done.stdout.splitlines()[-1]
    assert secret.startswith("whsec_")
    kept = fetch_scalar(database, "select secrets from sync.sink_secrets")
    assert kept == {"keys": [secret], "query": "code=hunter2"}
    for command in (("list",), ("show", "crm"), ("pause", "crm"), ("resume", "crm")):
        for more in ((), ("--json",)):
            again = run(*command, *more)
            assert again.returncode == 0, again.stderr
            assert "whsec" not in again.stdout + again.stderr
            assert "hunter2" not in again.stdout + again.stderr
    assert URL in run("show", "crm").stdout


def test_a_secret_can_be_brought_along(run: Run, database: Database, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    done = run("add", "crm", "--kind", "webhook", "--url", URL, "--secret-file", str(file))
    assert done.returncode == 0, done.stderr
    assert "whsec" not in done.stdout + done.stderr
    kept = fetch_scalar(database, "select secrets -> 'keys' from sync.sink_secrets")
    assert kept == [SECRET]
    file.write_text("hunter2")
    bad = run("add", "b", "--kind", "webhook", "--url", URL, "--secret-file", str(file))
    assert bad.returncode == 2
    assert "whsec_" in bad.stderr
    assert "hunter2" not in bad.stderr


def test_filters_are_kept_and_shown(run: Run, make_mirror: MakeMirror) -> None:
    make_mirror(Tenant(seed=3, users=2))
    options = ["--kind", "redis-stream", "--stream", "leavers", "--resource", "users"]
    options += ["--resource", "groups", "--change", "deleted", "--connection", "contoso"]
    assert told(run("add", "hr", *options, "--no-initial", "--from", "oldest", "--json")) == {
        "id": 1,
        "name": "hr",
    }
    shown = told(run("show", "hr", "--json"))
    assert shown["settings"] == {"stream": "leavers", "maxlen": 1_000_000}
    assert (shown["resources"], shown["changes"]) == (["users", "groups"], ["deleted"])
    assert (shown["connections"], shown["initial"], shown["start"]) == ([1], False, "oldest")
    assert "leavers" in run("show", "hr").stdout
    assert "redis-stream" in run("list").stdout


def test_a_sink_begins_now_or_with_the_oldest_event(
    run: Run, make_mirror: MakeMirror, database: Database
) -> None:
    make_mirror(Tenant(seed=3, users=20)).sync()
    for start in ("now", "oldest"):
        run("add", start, "--kind", "redis-stream", "--from", start)
    waiting = {row["name"]: row["waiting"] for row in told(run("list", "--json"))}
    assert waiting == {"now": 0, "oldest": read_last_seq(database)}
    (position,) = told(run("show", "oldest", "--json"))["positions"]
    assert position["label"] == "entra/contoso"
    assert (position["seq"], position["waiting"]) == (0, read_last_seq(database))


def test_a_snapshot_under_way_is_told(
    run: Run, make_mirror: MakeMirror, database: Database
) -> None:
    make_mirror(Tenant(seed=3, users=20)).sync()
    assert run("add", "a", "--kind", "redis-stream", "--from", "snapshot").returncode == 0
    (row,) = told(run("list", "--json"))
    assert (row["start"], row["snapshots"], row["waiting"]) == ("snapshot", 1, 0)
    assert "a snapshot of 1 connection is under way, 0 rows so far" in run("list").stdout
    assert "waiting" in run("show", "a").stdout
    on = """{"resource": "groups", "after": ["x"], "rows": 1234}"""
    assert fetch_scalar(database, f"update events.positions set snapshot = '{on}' returning 1") == 1
    assert "groups, 1,234 rows" in run("show", "a").stdout
    (position,) = told(run("show", "a", "--json"))["positions"]
    assert (position["snapshot"]["resource"], position["snapshot"]["rows"]) == ("groups", 1234)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--kind", "webhook"), "url must be given"),
        (
            ("--kind", "webhook", "--url", "https://u:hunter2@example.com/"),
            "not contain a user or password",
        ),
        (("--kind", "redis-stream", "--batch", "5"), "'batch' is not a setting of"),
        (("--kind", "webhook", "--url", "http://u:hunter2@a/", "--batch", "0"), "from 1 to 100"),
        (("--kind", "redis-stream", "--url", "https://hunter2"), "redis://"),
        (("--kind", "redis-stream", "--secret-file", "x"), "not signed"),
        (("--kind", "redis-stream", "--resource", "people"), "choose from"),
        (("--kind", "redis-stream", "--connection", "nobody"), "there is no connection"),
        (
            ("--kind", "redis-stream", "--from", "snapshot", "--change", "deleted"),
            "consists of 'created' events",
        ),
        (("--kind", "webhook", "--url", URL, "--secret-file", "/nowhere/x"), "cannot read"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_added(
    run: Run, database: Database, arguments: tuple[str, ...], why: str
) -> None:
    done = run("add", "crm", *arguments)
    assert done.returncode == 2
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
    assert fetch_scalar(database, "select count(*) from events.sinks") == 0


def test_names_are_unique_and_plain(run: Run) -> None:
    assert run("add", "a", "--kind", "redis-stream").returncode == 0
    again = run("add", "a", "--kind", "redis-stream")
    assert again.returncode == 2
    assert "there is a sink 'a' already" in again.stderr
    assert run("add", "A B", "--kind", "redis-stream").returncode == 2


def test_nobody_is_taken_for_another(run: Run) -> None:
    for command in (("show",), ("pause",), ("resume",), ("remove", "--yes"), ("test",)):
        done = run(*command, "nobody")
        assert done.returncode == 2
        assert "there is no sink 'nobody'; 'tenant-mirror sinks list'" in done.stderr


def test_pausing_fences_who_serves_it_and_resuming_lets_it_go_on(
    run: Run, database: Database
) -> None:
    run("add", "a", "--kind", "redis-stream")
    serve = "update events.sinks set holder = 'x', expires_at = now() + interval '1 h' returning 1"
    assert fetch_scalar(database, serve) == 1
    assert told(run("pause", "a", "--json")) == {
        "name": "a",
        "before": "active",
        "status": "paused",
    }
    free = "select token || status || (holder is null) || (expires_at is null) from events.sinks"
    assert fetch_scalar(database, free) == "1pausedtruetrue"
    assert "already paused" in run("pause", "a").stdout
    assert fetch_scalar(database, "select token from events.sinks") == 1
    assert told(run("resume", "a", "--json"))["before"] == "paused"
    assert fetch_scalar(database, "select status from events.sinks") == "active"


def test_resuming_forgets_failures_and_what_the_receiver_said(run: Run, database: Database) -> None:
    run("add", "a", "--kind", "redis-stream")
    gone = (
        "update events.sinks set status = 'disabled', status_reason = 'it answered 410',"
        " failures = 4, retry_at = now() + interval '1 day' returning 1"
    )
    assert fetch_scalar(database, gone) == 1
    assert "it answered 410" in run("list").stdout
    assert "already disabled" in run("pause", "a").stdout
    assert run("resume", "a").returncode == 0
    left = "select failures || status || (retry_at is null) || (status_reason is null)"
    assert fetch_scalar(database, left + " from events.sinks") == "0activetruetrue"


def test_removing_asks_first_and_keeps_the_events(
    run: Run, make_mirror: MakeMirror, database: Database
) -> None:
    make_mirror(Tenant(seed=3, users=5)).sync()
    run("add", "a", "--kind", "redis-stream")
    assert fetch_scalar(database, "select count(*) from events.positions") == 1
    silent = run("remove", "a")
    assert silent.returncode == 2
    assert "--yes" in silent.stderr
    assert run("remove", "a", "--yes").returncode == 0
    for table in ("sinks", "positions"):
        assert fetch_scalar(database, f"select count(*) from events.{table}") == 0
    assert fetch_scalar(database, "select count(*) from events.change_events") == read_last_seq(
        database
    )


def test_a_test_event_arrives_signed(run: Run, receiver: WebhookReceiver) -> None:
    added(run, receiver)
    tried = told(run("test", "crm", "--json", TENANT_MIRROR_EVENT_PREFIX="com.example"))
    (got,) = receiver.requests
    assert receiver.is_signed(got)
    assert tried["status"] == 204
    assert got.headers["webhook-id"] == tried["event_id"]
    (event,) = got.events
    assert event["id"] == tried["event_id"]
    assert (event["type"], event["source"]) == ("com.example.test", "/sinks/crm")
    assert "with status 204 in" in run("test", "crm").stdout


@pytest.mark.parametrize(("status", "why"), [(500, "500"), (410, "wants no more")])
def test_a_test_says_what_came_back(
    run: Run, receiver: WebhookReceiver, status: int, why: str
) -> None:
    added(run, receiver)
    receiver.answer = answer_always(status)
    done = run("test", "crm")
    assert done.returncode == 1
    assert "sink 'crm'" in done.stderr
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    row = told(run("list", "--json"))[0]
    assert (row["status"], row["failures"]) == ("active", 0)


def test_a_secret_is_replaced_without_a_gap(run: Run, receiver: WebhookReceiver) -> None:
    added(run, receiver)
    former = receiver.secret
    new = told(run("rotate", "crm", "--json"))["secret"]
    for receiver.secret in (former, new):
        assert run("test", "crm").returncode == 0
    again = run("rotate", "crm")
    assert again.returncode == 2
    assert "--finish" in again.stderr
    assert told(run("rotate", "crm", "--finish", "--json"))["dropped"] == 1
    assert run("test", "crm").returncode == 0
    receiver.secret = former
    assert run("test", "crm").returncode == 1
    run("add", "a", "--kind", "redis-stream")
    assert "only webhooks are signed" in run("rotate", "a").stderr


def test_nothing_goes_inside_unless_that_is_allowed(run: Run, receiver: WebhookReceiver) -> None:
    plain = ("--kind", "webhook", "--url", receiver.url, "--allow-http")
    assert run("add", "crm", *plain).returncode == 0
    done = run("test", "crm")
    assert done.returncode == 1
    assert "allow_private" in done.stderr
    assert receiver.requests == []


def test_a_stream_is_tried_out_too(run: Run, servers: Servers, nango: Nango) -> None:
    run("add", "a", "--kind", "redis-stream", "--stream", "trial", "--url", servers.redis_url)
    done = run("test", "a")
    assert done.returncode == 0, done.stderr
    missing = run("add", "b", "--kind", "redis-stream")
    assert missing.returncode == 0
    failed = run("test", "b")
    assert failed.returncode == 2
    assert "REDIS_URL" in failed.stderr


def test_help_teaches_with_examples(run: Run) -> None:
    done = run("add", "--help")
    assert done.returncode == 0
    assert "tenant-mirror sinks add crm --kind webhook --url https://" in done.stdout
    assert "Only this resource; may be repeated." in done.stdout


@pytest.mark.parametrize("own", [True, False])
def test_who_adds_a_stream_reads_how_much_it_keeps_and_where(
    run: Run, database: Database, own: bool
) -> None:
    where = ("--url", "redis://events.example.com:6379/0") if own else ()
    options = ("--kind", "redis-stream", "--maxbytes", str(64 * 1024**2), *where)
    added = run("add", "feed", *options)
    assert added.returncode == 0, added.stderr
    assert "personal data" in added.stderr
    assert "up to 64 MiB or 1,000,000 events" in added.stderr
    assert ("give the stream its own Redis" in added.stderr) is not own
    assert f"maxbytes: {64 * 1024**2}" in run("show", "feed").stdout
