"""Confirm one by one the connections that are missing from Nango's list, then retire them.

One absence from a list proves nothing, so a missing connection is queried by name, a few at a time,
and retired only if Nango confirms that it is gone. Its rows stay until an operator forgets it. One
whose name Nango's API does not accept cannot be queried: it is gone if a second listing lacks it,
too.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from models.change_event import ConnectionChange
from models.connection import ConnectionStatus
from worker.core.errors import BudgetExhausted, Outage, RetryLater
from worker.events.append import append_connection_event
from worker.nango.client import ConnectionRef, NangoClient
from worker.nango.connections import ConnectionPresence, check_presence, list_connections
from worker.nango.health import MAX_UNANSWERED
from worker.store.engine import Database
from worker.store.lease import interrupt_writer
from worker.store.state.connections import Connection, get_connection, get_connections
from worker.sync.run_end import change_connection_status


@dataclass
class MissingOutcome:
    """The result of confirming missing connections."""

    retired: list[str] = field(default_factory=list)
    """Labels of the retired connections."""
    unconfirmed: int = 0
    """Connections that have not been queried yet."""


def find_missing(connections: Iterable[Connection], present: set[str]) -> list[Connection]:
    """Return the connections in use that a listing lacks."""
    return [one for one in connections if one.label not in present and not one.is_retired]


def retire_missing(
    database: Database, nango: NangoClient, missing: list[Connection], *, limit: int
) -> MissingOutcome:
    """Query some missing connections, chosen at random, and retire those that are gone.

    If Nango's budget or Nango itself gives out, the rest waits for the next discovery; a connection
    that cannot be queried now does not delay the others.
    """
    chosen = random.sample(missing, min(len(missing), limit))
    answers = _fetch_presences(nango, chosen)
    done = MissingOutcome(unconfirmed=len(missing) - len(answers))
    for one in _find_gone(nango, chosen, answers):
        if retire_connection(database, one):
            done.retired.append(one.label)
    return done


def approve_missing(database: Database, nango: NangoClient, ids: Iterable[int]) -> list[str]:
    """Retire exactly these connections after an operator's approval; return their labels.

    One that Nango's list shows again stays. Raises ConfigurationError, RetryLater.
    """
    present = {str(row.ref) for row in list_connections(nango).rows}
    with database.open_transaction() as db:
        chosen = get_connections(db, ids)
    return [one.label for one in find_missing(chosen, present) if retire_connection(database, one)]


def _fetch_presences(nango: NangoClient, chosen: list[Connection]) -> dict[int, ConnectionPresence]:
    """Query each connection in Nango; return the results by id, as far as Nango answers."""
    presences: dict[int, ConnectionPresence] = {}
    unanswered = 0
    for one in chosen:
        try:
            presences[one.id] = check_presence(
                nango, ConnectionRef(one.nango_connection_id, one.provider_config_key)
            )
        except (Outage, BudgetExhausted):
            break
        except RetryLater:
            unanswered += 1
            if unanswered == MAX_UNANSWERED:
                break
    return presences


def _find_gone(
    nango: NangoClient, chosen: list[Connection], answers: dict[int, ConnectionPresence]
) -> list[Connection]:
    gone = [one for one in chosen if answers.get(one.id) is ConnectionPresence.GONE]
    nameless = [one for one in chosen if answers.get(one.id) is ConnectionPresence.NOT_QUERYABLE]
    if nameless:
        present = {str(row.ref) for row in list_connections(nango).rows}
        gone += find_missing(nameless, present)
    return gone


def retire_connection(database: Database, connection: Connection) -> bool:
    """Retire a connection that is gone from Nango, unless it has changed meanwhile."""
    with interrupt_writer(database, connection.id) as tx:
        now = get_connection(tx.db, connection.id)
        if now.is_retired or now.label != connection.label:
            return False
        change_connection_status(
            tx,
            ConnectionStatus.RETIRED,
            "it was deleted in Nango; its rows are kept",
            retired_at=tx.moment,
            due_at=None,
        )
        append_connection_event(tx, ConnectionChange.REMOVED, {})
    return True
