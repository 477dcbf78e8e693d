"""What is shown of one connection besides what is judged of it: streams, runs, history.

One look serves all who ask within a second. History is loaded again only after something changed.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

import sqlalchemy as sa

from worker.conditions.facts import ConnectionFacts
from worker.events.recent_changes import RecentChanges, load_recent_changes
from worker.store.engine import Database
from worker.store.mirror.count_live import count_live_up_to_bound
from worker.store.service.audit import AuditEntry, list_audit
from worker.store.state.connection_operations import (
    ConnectionOperation,
    list_connection_operations,
)
from worker.store.state.metrics import set_statement_timeout
from worker.store.state.overview import load_streams_overview
from worker.store.state.run_history import DailyDrift, RunBucket, load_drift, load_run_buckets
from worker.store.state.runs import list_latest_runs

FRESH_SECONDS: Final = 1.0
HISTORY_SECONDS: Final = 300.0
"""Age up to which a history without changes is used."""
_HISTORY_PAUSE: Final = 20
"""While a connection changes, its history is loaded so many times as rarely as that takes."""
_MAX_LOOKS: Final = 200
_RUNS: Final = 10
_OPERATIONS: Final = 5
_ENTRIES: Final = 10

HistoryKey = tuple[int, int | None]
_Run = Mapping[str, Any]


@dataclass(frozen=True)
class ConnectionHistory:
    """What changes only with an event or a run."""

    buckets: Sequence[RunBucket]
    drift: Sequence[DailyDrift]
    rows: Mapping[str, int]
    """Live rows by resource, counted up to a bound."""
    changes: RecentChanges


@dataclass(frozen=True)
class ConnectionLook:
    """The streams, the latest runs, operations and entries of the audit, and the history."""

    streams: Sequence[Mapping[str, Any]]
    runs: Sequence[_Run]
    operations: Sequence[ConnectionOperation]
    audit: Sequence[AuditEntry]
    history: ConnectionHistory


@dataclass
class _Kept:
    """What is kept of one connection. Its lock lets one thread load at a time."""

    lock: Lock = field(default_factory=Lock)
    look: ConnectionLook | None = None
    loaded_at: float = 0.0
    runs: Sequence[_Run] | None = None
    runs_key: tuple[object, ...] = ()
    history: ConnectionHistory | None = None
    key: HistoryKey | None = None
    history_at: float = 0.0
    history_took: float = 0.0

    def is_history_usable(self, key: HistoryKey, now: float) -> bool:
        age = now - self.history_at
        if key == self.key:
            return age < HISTORY_SECONDS
        return age < _HISTORY_PAUSE * self.history_took


class ConnectionLooks:
    """Keeps the newest look at each connection that is looked at. Safe to use from threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        self._kept: dict[int, _Kept] = {}

    def get(self, facts: ConnectionFacts) -> ConnectionLook:
        """Return a look at a connection. Raises ServerUnavailable, RetryLater.

        While another thread loads the next one, the present one is returned.
        """
        asked = time.monotonic()
        kept = self._get_kept(facts.id)
        known = kept.look
        if not kept.lock.acquire(blocking=known is None):
            assert known is not None, "without a look it waits for the lock"
            return known
        try:
            if kept.look is None or asked - kept.loaded_at >= FRESH_SECONDS:
                kept.loaded_at = time.monotonic()
                kept.look = self._load(facts, kept)
            return kept.look
        finally:
            kept.lock.release()

    def invalidate(self, connection_id: int) -> None:
        """Let the next request load a new look, with the history as it is."""
        kept = self._get_kept(connection_id)
        with kept.lock:
            kept.look = None

    def _get_kept(self, connection_id: int) -> _Kept:
        with self._lock:
            kept = self._kept.pop(connection_id, None) or _Kept()
            self._kept[connection_id] = kept
            while len(self._kept) > _MAX_LOOKS:
                del self._kept[next(iter(self._kept))]
            return kept

    def _load(self, facts: ConnectionFacts, kept: _Kept) -> ConnectionLook:
        with self._database.open_transaction() as db:
            set_statement_timeout(db)
            return ConnectionLook(
                streams=load_streams_overview(db, facts.id, has_unresolved=facts.unresolved > 0),
                runs=_get_runs(db, facts, kept),
                operations=list_connection_operations(db, facts.id, _OPERATIONS),
                audit=list_audit(db, connection_id=facts.id, limit=_ENTRIES),
                history=_get_history(db, facts, kept),
            )


def _get_runs(db: sa.Connection, facts: ConnectionFacts, kept: _Kept) -> Sequence[_Run]:
    """Return the latest runs, which are read again once the look at the fleet shows other ones."""
    key = (
        facts.last_run_id,
        facts.last_finished_at,
        facts.running_id,
        facts.running_calls,
        facts.running_objects,
    )
    if kept.runs is None or key != kept.runs_key:
        kept.runs, kept.runs_key = list_latest_runs(db, facts.id, _RUNS), key
    return kept.runs


def _get_history(db: sa.Connection, facts: ConnectionFacts, kept: _Kept) -> ConnectionHistory:
    now = time.monotonic()
    key = (facts.events, facts.last_run_id)
    if kept.history is None or not kept.is_history_usable(key, now):
        kept.history = ConnectionHistory(
            buckets=load_run_buckets(db, facts.id),
            drift=load_drift(db, facts.id),
            rows=count_live_up_to_bound(db, facts.id),
            changes=load_recent_changes(db, facts.id),
        )
        kept.key, kept.history_at = key, now
        kept.history_took = time.monotonic() - now
    return kept.history
