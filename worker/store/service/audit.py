"""The audit: who did what, when, through which face. Entries are only ever added."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Select, func, select, text

from models.audit import AuditOutcome, Via, audit
from worker.store.first_id import render_first_id


@dataclass(frozen=True)
class Actor:
    """Who acts, and through which face."""

    name: str
    """Name of the token, or the user of the host."""
    via: Via
    request_id: str | None = None
    """Id of the HTTP request, which the log also shows."""


@dataclass(frozen=True)
class AuditEntry:
    """A stored entry."""

    id: int
    occurred_at: datetime
    actor: str
    via: Via
    action: str
    connection_id: int | None
    subject: str | None
    parameters: dict[str, Any]
    outcome: AuditOutcome
    detail: str | None
    operation_id: int | None
    request_id: str | None


MAX_TEXT: Final = 1000
"""Longest text of an entry; what is longer is cut."""

_FIRST: Final = render_first_id("sync.audit", "occurred_at", "cast(:{} as timestamptz)")
_COLUMNS: Final = tuple(audit.c[name] for name in AuditEntry.__dataclass_fields__)


def record_audit(
    db: sa.Connection,
    actor: Actor,
    action: str,
    outcome: AuditOutcome,
    *,
    connection_id: int | None = None,
    subject: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    detail: str | None = None,
    operation_id: int | None = None,
) -> int:
    """Add an entry in the caller's transaction, and return its id.

    ``parameters`` has what was asked for: counts and digests, never objects of a directory.
    """
    values = {
        "actor": actor.name,
        "via": actor.via,
        "action": action,
        "outcome": outcome,
        "connection_id": connection_id,
        "subject": _cut(subject),
        "parameters": dict(parameters or {}),
        "detail": _cut(detail),
        "operation_id": operation_id,
        "request_id": actor.request_id,
    }
    found: int = db.execute(audit.insert().values(values).returning(audit.c.id)).scalar_one()
    return found


@dataclass(frozen=True)
class AuditFilter:
    """Which entries are wanted; what is not given matches all."""

    connection_ids: tuple[int, ...] | None = None
    actor: str | None = None
    actions: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    """Before this time."""


def list_audit(
    db: sa.Connection,
    *,
    before: int | None = None,
    limit: int = 50,
    connection_id: int | None = None,
    actor: str | None = None,
    actions: Sequence[str] = (),
    since: datetime | None = None,
) -> list[AuditEntry]:
    """Return the newest entries with smaller ids than ``before``, newest first."""
    ids = None if connection_id is None else (connection_id,)
    wanted = AuditFilter(ids, actor, tuple(actions), since)
    return list_matching_audit(db, wanted, before=before, limit=limit)


def list_matching_audit(
    db: sa.Connection, wanted: AuditFilter, *, before: int | None = None, limit: int = 50
) -> list[AuditEntry]:
    """Return the newest entries that match, with smaller ids than ``before``, newest first."""
    statement = build_audit_list(wanted).order_by(audit.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(audit.c.id < before)
    return [_entry_from_row(row) for row in db.execute(statement)]


def count_audit(db: sa.Connection, wanted: AuditFilter, most: int) -> int:
    """Return how many entries match; they are not counted beyond ``most``."""
    some = build_audit_list(wanted).limit(most).subquery()
    return int(db.execute(select(func.count()).select_from(some)).scalar_one())


def build_audit_list(wanted: AuditFilter) -> Select[Any]:
    """Return the statement of all that match."""
    statement = select(*_COLUMNS)
    if wanted.connection_ids is not None:
        statement = statement.where(audit.c.connection_id.in_(wanted.connection_ids))
    if wanted.actor is not None:
        statement = statement.where(audit.c.actor == wanted.actor)
    if wanted.actions:
        statement = statement.where(audit.c.action.in_(wanted.actions))
    if wanted.since is not None:
        statement = statement.where(text(f"id >= {_FIRST.format('since')}"))
        statement = statement.params(since=wanted.since)
    if wanted.until is not None:
        statement = statement.where(text(f"id < {_FIRST.format('until')}"))
        statement = statement.params(until=wanted.until)
    return statement


def _entry_from_row(row: sa.Row[Any]) -> AuditEntry:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name
    values["via"], values["outcome"] = Via(values["via"]), AuditOutcome(values["outcome"])
    return AuditEntry(**values)


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
