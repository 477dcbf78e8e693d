"""Every command that changes something leaves an entry in the audit; commands that read leave none.

The commands run one after the other on one mirror: each database costs more than a command.
"""

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner, Result

from models.audit import AuditAction, Via
from models.operation import Action
from sandbox.tenant import Tenant
from tests.support.mirror import MakeMirror, Mirror, fetch_scalar
from worker.core.settings import Settings
from worker.operations.request import OperationRequest, ResyncParameters
from worker.operations.submit import submit
from worker.ops.cli import COMMANDS, cli
from worker.store.service.audit import Actor, AuditEntry, list_audit
from worker.store.service.facts import MissingConnections, note_missing

READING: Final = {
    "asyncapi",
    "audit",
    "changes",
    "connections list",
    "connections show",
    "doctor",
    "events tail",
    "export",
    "grants",
    "health",
    "metrics",
    "operations list",
    "operations show",
    "probe",
    "runs",
    "settings",
    "sinks list",
    "sinks show",
    "sinks test",
    "status",
    "tokens list",
    "verify",
    "workers",
}
"""Commands that change nothing. ``sinks test`` moves no position and stores nothing."""

SERVING: Final = {"relay", "up", "web"}
"""Processes of the service: they do its work, and no action of an operator."""

STRUCTURAL: Final = {"migrate"}
"""Changes tables and no data; the audit may not exist yet, and Alembic stores the revision."""

Run = Callable[..., Result]


def list_leaves(command: click.Command, path: str = "") -> Iterator[str]:
    """The paths of all commands that can be run."""
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            one = command.get_command(click.Context(command), name)
            assert one is not None
            yield from list_leaves(one, f"{path} {name}".strip())
    else:
        yield path


@pytest.fixture
def run(settings: Settings) -> Run:
    """Runs a command in this process, as the operator Ann."""
    assert settings.database_url is not None
    assert settings.nango_secret_key is not None
    environment = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "NANGO_HOST": settings.nango_host,
        "NANGO_SECRET_KEY": settings.nango_secret_key.get_secret_value(),
        "TENANT_MIRROR_ACTOR": "Ann, on call",
    }

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, arguments, env=environment)

    return call


@pytest.fixture
def held(make_mirror: MakeMirror) -> Mirror:
    """A mirror of which 70 of 200 users are held for an operator."""
    made = make_mirror(Tenant(seed=11, users=200, groups=4))
    made.sync()
    hold_deletions(made, 0)
    return made


def hold_deletions(mirror: Mirror, first: int) -> None:
    """Delete 70 users, from the ``first`` on, which is too many to be plausible."""
    for index in range(first, first + 70):
        mirror.tenant.delete_user(mirror.tenant.users.id_at(index))
    mirror.sync()
    assert fetch_scalar(mirror.database, "select count(*) from sync.removals where held")


def refuse_next_event(mirror: Mirror) -> None:
    """As if the receiver of the sink had refused the first event."""
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql(
            """
            insert into events.positions
                   (sink_id, connection_id, seq, failures, failed_at, reason, refused_id)
            select s.id, 1, 0, 1, now(), 'status 400', e.event_id::text
              from events.sinks s, events.change_events e
             where s.name = 'crm' and e.connection_id = 1 and e.seq = 1
            on conflict (sink_id, connection_id) do update
               set seq = 0, failures = 1, reason = excluded.reason,
                   refused_id = excluded.refused_id
            """
        )


def list_entries(mirror: Mirror) -> list[AuditEntry]:
    with mirror.database.open_transaction() as db:
        return list_audit(db, limit=1000)


def list_steps(mirror: Mirror) -> Iterator[tuple[str, Sequence[str], AuditAction]]:
    """The commands that change something, in an order in which each of them can succeed."""
    person = mirror.tenant.users.id_at(199)
    yield "sync", ["1"], AuditAction.SYNC
    yield "resync", ["1"], AuditAction.RESYNC
    yield "pause", ["1", "--until", "2h", "--reason", "moving"], AuditAction.PAUSE
    yield "resume", ["1"], AuditAction.RESUME
    number = submit_resync(mirror)
    yield "operations cancel", [number], AuditAction.OPERATIONS_CANCEL
    yield "approve", ["1", "--yes"], AuditAction.APPROVE
    hold_deletions(mirror, 70)
    yield "approve", ["1", "--reject"], AuditAction.REJECT
    yield "connections discover", [], AuditAction.CONNECTIONS_DISCOVER
    url = "https://crm.example.com/hooks?code=hunter2"
    added = ["crm", "--kind", "webhook", "--url", url, "--from", "oldest"]
    yield "sinks add", added, AuditAction.SINKS_ADD
    moved = ["crm", "https://crm.example.com/new?code=hunter2"]
    yield "sinks set-url", moved, AuditAction.SINKS_SET_URL
    yield "tokens create", ["robot", "--scope", "read"], AuditAction.TOKENS_CREATE
    yield "tokens revoke", ["robot"], AuditAction.TOKENS_REVOKE
    with open_login(mirror) as login:
        yield "roles", ["--customer", login, "1"], AuditAction.ROLES
        yield "roles", ["--customer", login, "1", "--remove"], AuditAction.ROLES
    yield "sinks pause", ["crm"], AuditAction.SINKS_PAUSE
    yield "sinks resume", ["crm"], AuditAction.SINKS_RESUME
    yield "sinks rotate", ["crm"], AuditAction.SINKS_ROTATE
    yield "sinks set-url", ["crm", f"{url}2"], AuditAction.SINKS_SET_URL
    refuse_next_event(mirror)
    yield "sinks retry", ["crm"], AuditAction.SINKS_RETRY
    refuse_next_event(mirror)
    yield "sinks skip", ["crm", "--connection", "1", "--yes"], AuditAction.SINKS_SKIP
    replayed = ["crm", "--from", "oldest", "--yes"]
    yield "events replay", replayed, AuditAction.EVENTS_REPLAY
    yield "sinks remove", ["crm", "--yes"], AuditAction.SINKS_REMOVE
    yield "erase", ["1", person, "--yes", "--wait", "0"], AuditAction.ERASE
    yield "erase", ["1", person, "--lift"], AuditAction.ERASE_LIFT
    yield "recovered", ["--yes"], AuditAction.RECOVERED
    hold_missing(mirror)
    missing = "connections approve-missing"
    yield missing, ["--yes"], AuditAction.CONNECTIONS_APPROVE_MISSING
    yield "forget", ["1", "--yes"], AuditAction.FORGET


@contextmanager
def open_login(mirror: Mirror) -> Iterator[str]:
    """A role of Postgres, which belongs to the whole server."""
    name = f"login_{uuid.uuid4().hex[:8]}"
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql(f"create role {name} login")
    yield name
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql(f"drop role {name}")


def submit_resync(mirror: Mirror) -> str:
    """As if the API had been asked for a resync; the number of the operation."""
    request = OperationRequest(Action.RESYNC, [1], ResyncParameters())
    with mirror.database.open_transaction() as db:
        return str(submit(db, Actor("Ann, on call", Via.CLI), request).operation.id)


def hold_missing(mirror: Mirror) -> None:
    """As if too many connections had left Nango's list at once."""
    mirror.nango.remove_connection("contoso")
    with mirror.database.open_transaction() as db:
        note_missing(db, MissingConnections("all are missing", (1,)))


def test_every_command_that_changes_something_leaves_an_entry(held: Mirror, run: Run) -> None:
    audited: set[str] = set()
    for path, arguments, action in list_steps(held):
        before = {entry.id for entry in list_entries(held)}
        done = run(*path.split(), *arguments)
        new = [entry for entry in list_entries(held) if entry.id not in before]
        assert new, f"{path} left no entry: {done.output}{done.exception!r}"
        assert {(one.actor, one.via, one.action) for one in new} == {
            ("Ann, on call", "cli", action)
        }
        assert new[0].outcome == "done", (path, done.output, new[0])
        audited.add(path)
    leaves = {path for path in list_leaves(cli) if not path.startswith("sandbox ")}
    assert leaves == audited | READING | SERVING | STRUCTURAL
    assert_nothing_secret(held, run)


def assert_nothing_secret(mirror: Mirror, run: Run) -> None:
    """Neither a secret of a sink nor an erased object is in an entry, even after ``forget``."""
    told = run("audit", "--limit", "1000", "--json").stdout
    assert "hunter2" not in told
    assert "whsec_" not in told
    assert "/hooks" not in told, "the path of a URL may be a secret, too"
    entries: list[dict[str, Any]] = json.loads(told)
    assert {entry["action"] for entry in entries} > {"erase", "forget", "sinks.add"}
    erasures = [entry for entry in entries if entry["action"] == "erase"]
    assert {json.dumps(entry["parameters"]) for entry in erasures} == {'{"resource": "users"}'}
    assert len(entries) == len(list_entries(mirror))


def test_an_entry_says_which_customer_is_meant_and_what_was_asked_for(
    make_mirror: MakeMirror, run: Run
) -> None:
    made = make_mirror(Tenant(seed=12, users=2))
    assert run("audit").stdout == "no operator has done anything yet\n"
    made.sync()
    end = ["--until", "2126-12-01T06:00+02:00"]
    paused = run("pause", "1", "--reason", "moving to a new tenant", *end)
    assert paused.stdout.startswith("Contoso (id 1): paused until 2126-12-01 04:00 UTC")
    run("resync", "--all", "--full", "--resource", "users", "--yes", "--expect", "1")
    shown = run("audit").stdout
    assert shown.count("Contoso (id 1)") == 4
    assert "entra/contoso" not in shown
    assert "until 2126-12-01 04:00 UTC, reason: moving to a new tenant" in shown
    assert "full, filter: all, only users" in shown
    assert "Contoso (id 1)" in run("connections", "show", "1").stdout
    assert {one["organization"] for one in json.loads(run("audit", "--json").stdout)} == {"Contoso"}
    with made.database.open_transaction() as db:
        db.exec_driver_sql("update sync.connections set status = 'retired'")
    assert run("forget", "1", "--yes").stdout.splitlines()[-1].startswith("Contoso (id 1): forgot")
    forgotten = run("audit").stdout
    assert "entra/contoso (id 1)" in forgotten
    assert "Contoso" not in forgotten, "the audit keeps no name of what was forgotten"


def test_the_list_of_commands_is_whole() -> None:
    assert {path.split()[0] for path in list_leaves(cli)} == set(COMMANDS)


def test_a_command_that_is_refused_leaves_an_entry_with_the_reason(
    mirror: Mirror, run: Run
) -> None:
    done = run("sinks", "pause", "nowhere")
    assert done.exit_code != 0
    (entry,) = list_entries(mirror)
    assert (entry.outcome, entry.subject) == ("refused", "nowhere")
    assert entry.detail is not None


def test_the_audit_is_shown_newest_first_of_one_connection_and_since_a_time(
    mirror: Mirror, run: Run
) -> None:
    run("resync", "1")
    run("connections", "discover")
    assert "connections.discover" in run("audit").stdout.splitlines()[1]
    shown = run("audit", "contoso").stdout
    assert "resync" in shown
    assert "discover" not in shown
    assert "older entries: --before" in run("audit", "--limit", "1").output
    assert run("audit", "--since", "2h", "--action", "resync", "--json").stdout.count("resync") == 2
    assert run("audit", "--since", "2120-01-01").stdout == "no entry matches\n"
    assert "expected a time" in str(run("audit", "--since", "42").exception)
