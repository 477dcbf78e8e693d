"""The audit only grows: not even the service's own role can change or remove an entry."""

import psycopg.errors
import pytest
from sqlalchemy import text

from models.audit import audit
from worker.store.engine import Database


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
