"""The steps that every end of a run shares, and the end of a run whose connection is retired."""

from collections.abc import Sequence
from typing import Any

from models.change_event import ConnectionChange
from models.connection import ConnectionStatus
from models.run import RunState
from worker.events.append import append_connection_event
from worker.store.lease import Transaction
from worker.store.state.connections import SYNCED_STATUSES, update_connection
from worker.store.state.runs import end_running_run


def append_resynced_event(tx: Transaction, run_id: int, walks: Sequence[str]) -> None:
    """Append an event for the resources that a run walked in full, however the run ended."""
    if walks:
        about: dict[str, object] = {"resources": list(walks)}
        append_connection_event(tx, ConnectionChange.RESYNCED, about, run_id=run_id)


def change_connection_status(
    tx: Transaction, status: ConnectionStatus, reason: str | None, **values: Any
) -> None:
    """Change the status of the connection of a write transaction.

    No slice takes a connection that is not in use, so its open run would never end: it ends here,
    as partial, with ``reason``.
    """
    update_connection(tx, status=status, status_reason=reason, **values)
    if status in SYNCED_STATUSES:
        return
    end_open_run(tx, reason or f"the connection is {status}")


def end_open_run(tx: Transaction, reason: str) -> None:
    """End the open run of a connection as partial, from outside a slice; nothing if it has none."""
    ended = end_running_run(tx, RunState.PARTIAL, reason)
    if ended is not None:
        append_resynced_event(tx, *ended)
