"""The audit only grows: not even the service's own role can change or remove an entry."""

import psycopg.errors
import pytest
from sqlalchemy import text

from models.audit import AuditOutcome, Via, audit
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
