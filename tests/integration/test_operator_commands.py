"""The commands approve, resync, pause and resume as operators and scripts meet them."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from models.audit import Via
from models.operation import Action
from sandbox.tenant import Nango, Tenant
from tests.integration.test_operations import hold, hold_one_more, list_entries
from tests.integration.test_pauses import execute, load
from tests.integration.test_takeover import look
from tests.support.mirror import MakeMirror, Mirror, fetch_scalar
from worker.operations.request import OperationRequest, ResyncParameters
from worker.operations.submit import submit
from worker.ops.cli import cli
from worker.store.engine import Database
from worker.store.service.audit import Actor
from worker.store.service.workers import report_worker
from worker.sync.runtime import Runtime

Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str) -> Run:
    """Runs a command in this process, without a terminal, as Ann."""
    environment = {"DATABASE_URL": database_url, "TENANT_MIRROR_ACTOR": "ann"}

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments, env=environment)

    return call


@pytest.fixture
def fleet(runtime: Runtime, nango: Nango) -> Database:
    """Four connections: two in use, one broken, one retired."""
    for name in ("fabrikam-a", "fabrikam-b", "contoso", "gone"):
        nango.add_connection(name, Tenant(seed=len(name), users=2))
    look(runtime)
    database = runtime.database
    execute(database, "update sync.connections set status = 'broken' where id = 3")
    execute(database, "update sync.connections set status = 'retired' where id = 4")
    with database.open_transaction() as db:
        report_worker(db, "w", ["manual", "maintenance"], ["p"])
    return database


def told(result: Result) -> Any:
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


def count_held(mirror: Mirror) -> int:
    return int(fetch_scalar(mirror.database, "select count(*) from sync.removals where held"))


def test_approve_shows_what_is_held_with_names_share_and_rule_before_it_asks(
    make_mirror: MakeMirror, run: Run
) -> None:
    mirror = hold(make_mirror)
    asked = run("approve", "contoso")
    assert asked.exit_code == 2
    shown = asked.stderr
    assert "users: 70 of 200 rows (35 %), held since " in shown
    assert "70 of 200 rows (35 %) would be deleted, more than 20 %" in shown
    assert "with them end " in shown, "the memberships that nobody asked about"
    assert "and 60 more; --list shows all" in shown
    names = fetch_scalar(
        mirror.database,
        "select string_agg(display_name, '|') from (select u.display_name from sync.removals r"
        " join directory.users u on u.id::text = r.key order by r.key limit 10) named",
    )
    assert all(name in shown for name in names.split("|"))
    assert "this deletes 70 users and " in shown
    assert "--yes" in shown
    assert count_held(mirror) == 70


def test_the_number_of_memberships_that_end_is_exact(make_mirror: MakeMirror, run: Run) -> None:
    mirror = hold(make_mirror)
    seen = told(run("approve", "contoso", "--list", "--json"))
    assert seen["deletes"]["group_members"] > 0
    done = told(run("approve", "contoso", "--yes", "--json"))
    assert done["deleted"] == seen["deletes"]
    assert done["approved"] == {"users": 70}
    assert count_held(mirror) == 0
    assert run("approve", "contoso", "--yes").stdout == "Contoso (id 1): nothing is held\n"


def test_all_held_objects_can_be_listed(make_mirror: MakeMirror, run: Run) -> None:
    mirror = hold(make_mirror)
    found = told(run("approve", "contoso", "--list", "--json"))
    assert len(found["held"]) == 70
    assert all(one["name"] for one in found["held"])
    (users,) = found["resources"]
    assert (users["resource"], users["count"], users["percent"]) == ("users", 70, 35.0)
    listed = run("approve", "contoso", "--list")
    assert listed.exit_code == 0
    assert all(one["key"] in listed.stdout for one in found["held"])
    assert count_held(mirror) == 70


def test_a_script_approves_exactly_what_it_saw(make_mirror: MakeMirror, run: Run) -> None:
    mirror = hold(make_mirror)
    digest = told(run("approve", "contoso", "--list", "--json"))["digest"]
    hold_one_more(mirror)
    refused = run("approve", "contoso", "--expect", digest)
    assert "71 users now" in str(refused.exception)
    assert count_held(mirror) == 71
    digest = told(run("approve", "contoso", "--list", "--json"))["digest"]
    assert run("approve", "contoso", "--expect", digest).exit_code == 0
    assert count_held(mirror) == 0
    again = run("approve", "contoso", "--expect", digest)
    assert "nothing now" in str(again.exception)


def test_a_rejection_says_what_it_discards(make_mirror: MakeMirror, run: Run) -> None:
    mirror = hold(make_mirror)
    done = run("approve", "contoso", "--reject")
    assert done.stdout == "Contoso (id 1): 70 users rejected; everything is read again\n"
    assert count_held(mirror) == 0
    entry = list_entries(mirror.database)[-1]
    assert (entry.actor, entry.action, entry.outcome) == ("ann", "reject", "done")


def test_pause_and_resume_one_connection(fleet: Database, run: Run) -> None:
    done = run("pause", "contoso", "--reason", "moving", "--until", "2h")
    assert done.exit_code == 0
    assert done.stdout.startswith("entra/contoso (id 3): paused until 2")
    known = load(fleet, 3)
    assert (known.operator_paused_by, known.operator_pause_reason) == ("ann", "moving")
    assert known.operator_paused_until is not None
    assert told(run("resume", "3", "--json"))["state"] == "succeeded"
    assert not load(fleet, 3).is_operator_paused
    assert run("resume", "3").stdout == "entra/contoso (id 3): no operator has paused it\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pause"], "give a CONNECTION, or --all"),
        (["pause", "1", "--all"], "give a CONNECTION, or --all"),
        (["pause", "1", "--until", "soon"], "invalid start"),
        (["pause", "1", "--until", "2020-01-01"], "ends in the future"),
        (["pause", "1", "--until", "2026"], "'2026' is no time: expected a time (2026-11-22"),
        (["audit", "--since", "2026"], "'2026' is no time: expected a time (2026-11-22"),
        (["changes", "1", "--since", "2026"], "'2026' is neither a time (2026-11-22"),
        (["pause", "4"], "it is retired"),
        (["pause", "--all", "--yes"], "needs --expect N; 3 connections match now"),
        (["pause", "--all"], "pass --yes to confirm"),
        (["resync", "--all", "--wait"], "--wait is for one CONNECTION"),
        (["resync", "4"], "it is retired, so it is not synced"),
        (["pause", "--all", "--yes", "--expect", "7"], "3 connections match now, not 7"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_next_step(
    fleet: Database, run: Run, arguments: list[str], words: str
) -> None:
    done = run(*arguments)
    assert done.exit_code != 0
    assert words in f"{done.output}{done.exception}"
    assert not fetch_scalar(fleet, "select count(*) from sync.operations")


def test_operations_are_listed_shown_and_cancelled(fleet: Database, run: Run) -> None:
    assert run("operations", "list").stdout == "no operation was asked for yet\n"
    run("pause", "contoso", "--reason", "moving")
    request = OperationRequest(Action.RESYNC, [1, 2], ResyncParameters(full=True))
    with fleet.open_transaction() as db:
        submit(db, Actor("portal", Via.API), request)
    listed = run("operations", "list").stdout.splitlines()
    assert [line.split()[0] for line in listed[1:]] == ["2", "1"]
    assert "2 connections" in listed[1]
    assert "full" in listed[1]
    assert "entra/contoso (id 3)" in listed[2]
    assert [
        one["id"] for one in told(run("operations", "list", "--state", "queued", "--json"))
    ] == [2]
    assert run("operations", "list", "--connection", "4").stdout == "no operation matches\n"
    shown = run("operations", "show", "2").stdout
    assert "resync by portal: queued; it waits for the dispatcher" in shown
    assert "entra/fabrikam-a (id 1)" in shown
    done = run("operations", "cancel", "2")
    assert done.stdout == "operation 2, resync of 2 connections: cancelled by ann\n"
    assert "cancelled by ann at " in run("operations", "show", "2").stdout
    assert told(run("operations", "show", "2", "--json"))["counts"]["cancelled"] == 2
    refused = run("operations", "cancel", "1")
    assert "has finished: it succeeded; nothing was cancelled" in str(refused.exception)
    assert "there is no operation 9" in str(run("operations", "show", "9").exception)


def test_a_resync_is_requested_until_a_run_has_served_it(fleet: Database, run: Run) -> None:
    assert "requested; a worker" in run("resync", "1").stdout
    one = told(run("resync", "1", "--json"))
    assert (one["state"], one["outcome"]) == ("succeeded", "requested")
    many = run("resync", "--search", "fabrikam", "--yes", "--expect", "2").stdout
    assert many == "resync: connections: 2 requested, 0 failed\n"
    listed = run("operations", "list").stdout
    assert "requested" in listed
    assert "succeeded" not in listed
    assert {one["outcome"] for one in told(run("operations", "list", "--json"))} == {"requested"}
    shown = run("operations", "show", "1").stdout
    assert re.search(r"resync by ann: requested at .* for 1 connection; the next run", shown)
    assert "requested (UTC)" in shown
    assert "waits: " in shown
    assert "done" not in run("audit", "--limit", "1").stdout.splitlines()[1]
    execute(
        fleet,
        "insert into sync.runs (connection_id, trigger, state, started_at, finished_at)"
        " values (1, 'manual', 'partial', clock_timestamp(), clock_timestamp())",
    )
    execute(fleet, "update sync.connections set requested_at = null where id = 1")
    (after,) = told(run("operations", "show", "1", "--json"))["connections"]
    assert (after["sync"]["run_state"], after["sync"]["is_over"]) == ("partial", True)
    assert re.search(r"run \d+ partial", run("operations", "show", "1").stdout)


def test_a_refused_action_has_an_entry(fleet: Database, run: Run) -> None:
    run("resync", "4")
    (entry,) = list_entries(fleet)
    assert (entry.action, entry.outcome, entry.connection_id) == ("resync", "refused", 4)


def test_many_are_resynced_by_a_filter_once_their_number_is_repeated(
    fleet: Database, run: Run
) -> None:
    execute(
        fleet,
        "insert into sync.runs (connection_id, trigger, state, calls, finished_at)"
        " values (1, 'backfill', 'succeeded', 40, now()), (1, 'scheduled', 'succeeded', 2, now())",
    )
    dry = told(run("resync", "--search", "fabrikam", "--full", "--dry-run", "--json"))
    assert (dry["connections"], dry["calls"], dry["unknown"]) == (2, 80, 1)
    assert told(run("resync", "--search", "fabrikam", "--dry-run", "--json"))["calls"] == 4
    assert "connections: 3; about" in run("resync", "--all", "--dry-run").stdout
    assert not fetch_scalar(fleet, "select count(*) from sync.operations")
    done = told(run("resync", "--search", "fabrikam", "--yes", "--expect", "2", "--json"))
    assert (done["connections"], done["failed"]) == (2, [])
    asked = "select array_agg(id order by id) from sync.connections where requested_at is not null"
    assert fetch_scalar(fleet, asked) == [1, 2]
    stored = fetch_scalar(fleet, "select parameters -> 'filter' ->> 'text' from sync.operations")
    assert stored == "fabrikam"


def test_many_are_paused_and_resumed_by_a_filter(fleet: Database, run: Run) -> None:
    paused = "select count(*) from sync.connections where operator_paused_at is not null"
    assert run("pause", "--status", "broken", "--yes", "--expect", "1").exit_code == 0
    assert fetch_scalar(fleet, paused) == 1
    done = run("pause", "--all", "--yes", "--expect", "3")
    assert done.stdout == "pause: connections: 3 done, 0 failed\n"
    assert fetch_scalar(fleet, paused) == 3
    found = told(run("resume", "--condition", "paused_by_operator", "--dry-run", "--json"))
    assert found == {"action": "resume", "connections": 3, "dry_run": True, "left_out": 0}
    assert run("resume", "--all", "--yes", "--expect", "3").exit_code == 0
    assert fetch_scalar(fleet, paused) == 0
    assert run("resume", "--all").stderr == "no connection matches that resume applies to\n"


def test_a_resync_of_a_paused_connection_is_kept_for_the_end_of_the_pause(
    fleet: Database, run: Run
) -> None:
    run("pause", "1")
    done = run("resync", "1")
    assert (done.exit_code, "it starts when the pause ends" in done.stdout) == (0, True)
    assert load(fleet).requested_at is not None
    actions = [entry.action for entry in list_entries(fleet)]
    assert actions == [Action.PAUSE, Action.PAUSE, Action.RESYNC, Action.RESYNC]


def test_many_that_no_worker_serves_are_kept_and_said_to_wait(fleet: Database, run: Run) -> None:
    execute(fleet, "delete from sync.workers")
    done = run("resync", "--all", "--yes", "--expect", "3")
    assert done.exit_code == 75
    assert "no worker consumes manual, maintenance" in done.stderr
    asked = "select count(*) from sync.connections where requested_at is not null"
    assert fetch_scalar(fleet, asked) == 3


def test_waiting_for_a_sync_says_what_it_waits_for(fleet: Database, run: Run) -> None:
    waited = run("resync", "1", "--wait", "--timeout", "2.5")
    assert waited.exit_code == 75
    assert "entra/fabrikam-a (id 1): waits for a worker\n" in waited.stderr
    assert "no worker has finished it within 2 s" in waited.stderr


def test_connections_show_names_a_sample_of_what_is_held(make_mirror: MakeMirror, run: Run) -> None:
    hold(make_mirror)
    shown = run("connections", "show", "1").stdout
    assert "held deletions, 5 of 70" in shown
    assert "'tenant-mirror approve 1 --list' shows them" in shown
    assert "connections show" not in shown, "it does not send the reader to itself"
    sample = told(run("connections", "show", "1", "--json"))["held"]
    assert len(sample) == 5
    assert all(one["name"] in shown and one["number"] == 70 for one in sample)


def test_empty_lists_say_what_is_empty_and_why(fleet: Database, run: Run) -> None:
    assert run("connections", "list", "--search", "nowhere").stdout == "no connection matches\n"
    assert "no connection matches" in run("status", "--search", "nowhere").stdout
    assert "no connection matches" in run("status", "--all", "--search", "nowhere").stdout
    shown = run("connections", "show", "1").stdout
    assert "no stream yet" in shown
    assert "no run yet" in shown
    assert "there are no sinks" in run("sinks", "list").stdout
    execute(fleet, "delete from sync.workers")
    assert "no worker has reported" in run("workers").stdout
    execute(fleet, "delete from sync.connections")
    assert "'tenant-mirror connections discover'" in run("connections", "list").stdout
    assert "no connection is known yet" in run("status").stdout


def test_connections_show_tells_what_operators_did(fleet: Database, run: Run) -> None:
    run("pause", "1", "--reason", "moving")
    shown = run("connections", "show", "1")
    assert "latest actions of operators" in shown.stdout
    assert shown.stdout.count("ann") >= 2
    actions = told(run("connections", "show", "1", "--json"))["actions"]
    assert [(one["action"], one["outcome"]) for one in actions] == [
        ("pause", "done"),
        ("pause", "accepted"),
    ]
