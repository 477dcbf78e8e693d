"""The audit only grows: not even the service's own role can change or remove an entry."""

import os
import pwd
from datetime import UTC, datetime

import psycopg.errors
import pytest
from sqlalchemy import text

from models.audit import AuditAction, AuditOutcome, Via, audit
from worker.core.errors import NotFound, RetryLater, StateConflict
from worker.core.settings import load_settings
from worker.operations.actor import get_host_actor
from worker.operations.audit import AuditedAction, audit_work, open_audited_transaction
from worker.store.engine import Database
from worker.store.service.audit import Actor, list_audit, record_audit


@pytest.mark.parametrize(
    "statement",
    [
        "update sync.audit set actor = 'somebody else'",
        "delete from sync.audit",
        "truncate sync.audit",
    ],
)
def test_an_entry_of_the_audit_cannot_be_changed_or_removed(
    database: Database, statement: str
) -> None:
    entry = {"actor": "ann", "via": "cli", "action": "pause", "outcome": "done"}
    with database.open_transaction() as db:
        db.execute(audit.insert(), entry)
    with pytest.raises(psycopg.errors.RestrictViolation), database.open_transaction() as db:
        db.execute(text(statement))
    with database.open_transaction() as db:
        assert [row.actor for row in db.execute(audit.select())] == ["ann"]


def test_entries_are_read_newest_first_in_pages_and_by_connection(database: Database) -> None:
    ann, robot = Actor("ann", Via.CLI), Actor("robot", Via.API, "req-1")
    with database.open_transaction() as db:
        for number in range(5):
            who = robot if number % 2 else ann
            record_audit(db, who, "pause", AuditOutcome.DONE, connection_id=number % 2)
        record_audit(db, ann, "resync", AuditOutcome.REFUSED, parameters={"count": 3})
    with database.open_transaction() as db:
        first = list_audit(db, limit=4)
        rest = list_audit(db, limit=4, before=first[-1].id)
        assert [one.id for one in (*first, *rest)] == [6, 5, 4, 3, 2, 1]
        assert (first[0].parameters, first[0].outcome) == ({"count": 3}, AuditOutcome.REFUSED)
        assert [one.id for one in list_audit(db, connection_id=1)] == [4, 2]
        assert {one.request_id for one in list_audit(db, actor="robot")} == {"req-1"}
        assert [one.id for one in list_audit(db, actions=["resync"])] == [6]


ANN = Actor("ann", Via.CLI)


def test_pages_of_the_audit_neither_lose_nor_repeat_an_entry_while_others_are_added(
    database: Database,
) -> None:
    def add(*numbers: int) -> None:
        with database.open_transaction() as db:
            for number in numbers:
                record_audit(db, ANN, "pause", AuditOutcome.DONE, parameters={"number": number})

    add(*range(7))
    found: list[int] = []
    before = None
    while True:
        with database.open_transaction() as db:
            page = list_audit(db, before=before, limit=3)
        add(100)
        if not page:
            break
        found += [one.parameters["number"] for one in page]
        before = page[-1].id
    assert found == [6, 5, 4, 3, 2, 1, 0]


def test_entries_are_listed_since_a_time_and_their_texts_are_cut(database: Database) -> None:
    with database.open_transaction() as db:
        record_audit(db, ANN, "pause", AuditOutcome.DONE, detail="x" * 5000)
        (entry,) = list_audit(db, since=datetime(2020, 1, 1, tzinfo=UTC))
        assert list_audit(db, since=datetime(2120, 1, 1, tzinfo=UTC)) == []
    assert entry.detail is not None
    assert len(entry.detail) == 1000


def list_outcomes(database: Database) -> list[tuple[str, str | None]]:
    with database.open_transaction() as db:
        return [(one.outcome, one.detail) for one in reversed(list_audit(db))]


def test_an_entry_is_committed_with_its_action(database: Database) -> None:
    action = AuditedAction(ANN, AuditAction.SINKS_PAUSE, subject="crm")
    with open_audited_transaction(database, action):
        action.detail = "paused"
        assert list_outcomes(database) == []
    assert list_outcomes(database) == [("done", "paused")]


@pytest.mark.parametrize(
    ("error", "outcome", "detail"),
    [
        (StateConflict("it is retired"), "refused", "it is retired"),
        (NotFound("there is no sink 'x'"), "refused", "there is no sink 'x'"),
        (RetryLater("Postgres waits"), "failed", "Postgres waits"),
        (ValueError("a person"), "failed", "internal error of Tenant Mirror (ValueError)"),
        (KeyboardInterrupt(), "failed", "stopped by its operator"),
    ],
)
def test_an_action_that_fails_is_recorded_with_the_reason_and_nothing_else(
    database: Database, error: BaseException, outcome: str, detail: str
) -> None:
    def act() -> None:
        with open_audited_transaction(database, AuditedAction(ANN, AuditAction.RESYNC)) as db:
            db.execute(text("insert into sync.service_state (name) values ('undone')"))
            raise error

    with pytest.raises(type(error)):
        act()
    assert list_outcomes(database) == [(outcome, detail)]
    with database.open_transaction() as db:
        assert not db.execute(text("select from sync.service_state")).all()


def test_long_work_is_recorded_when_it_begins_and_when_it_ends(database: Database) -> None:
    with audit_work(database, AuditedAction(ANN, AuditAction.FORGET, subject="contoso")) as work:
        assert list_outcomes(database) == [("accepted", None)]
        work.detail = "12 rows deleted"
    assert list_outcomes(database) == [("accepted", None), ("done", "12 rows deleted")]


def test_the_actor_of_a_command_is_the_user_of_the_host_unless_a_setting_names_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert get_host_actor(load_settings()) == Actor(user, Via.CLI)
    monkeypatch.setenv("SUDO_USER", "ann")
    assert get_host_actor(load_settings()).name == ("ann" if os.getuid() == 0 else user)
    assert get_host_actor(load_settings(actor="Bob, on call")).name == "Bob, on call"
