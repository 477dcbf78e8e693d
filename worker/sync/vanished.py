"""Connections that are missing from Nango's list: confirmed one by one, then retired.

One absence in a list proves nothing, so a missing connection is asked for by name, and only a few
at a time; only when Nango itself says that it is gone is it retired. Its rows stay until somebody
forgets them. One whose name Nango's API does not accept cannot be asked for: it is gone if a second
listing lacks it, too.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from models.change_event import ConnectionChange
from models.connection import ConnectionStatus
from worker.core.errors import Later, Outage, Spent
from worker.events.ledger import tell_connection
from worker.nango.client import Address, NangoClient
from worker.nango.connections import Presence, list_connections, presence
from worker.nango.health import FEW
from worker.store.connections import Known, get, get_all
from worker.store.engine import Database
from worker.store.lease import interrupting
from worker.sync.ending import change_status


@dataclass
class Vanished:
    """What has become of the missing connections."""

    retired: list[str] = field(default_factory=list)
    """By label."""
    unconfirmed: int = 0
    """Those that have not been asked for yet."""


def missing(known: Iterable[Known], present: set[str]) -> list[Known]:
    """The connections in use that a listing lacks."""
    return [one for one in known if one.label not in present and not one.is_retired]


def retire_vanished(
    database: Database, nango: NangoClient, absent: list[Known], *, at_once: int
) -> Vanished:
    """Ask for some of the missing, by chance so that all have their turn; retire what is gone.

    When Nango has no more answers for us, the rest waits for the next time; one that cannot be
    asked for now keeps none of the others waiting.
    """
    chosen = random.sample(absent, min(len(absent), at_once))
    answers = _answers(nango, chosen)
    done = Vanished(unconfirmed=len(absent) - len(answers))
    for one in _gone(nango, chosen, answers):
        if retire(database, one):
            done.retired.append(one.label)
    return done


def approve_missing(database: Database, nango: NangoClient, ids: Iterable[int]) -> list[str]:
    """Retire exactly these connections on an operator's word; the labels of those that were.

    One that Nango's list shows again stays. Raises Halt, Later.
    """
    present = {str(row.address) for row in list_connections(nango).rows}
    with database.begin() as connection:
        chosen = get_all(connection, ids)
    return [one.label for one in missing(chosen, present) if retire(database, one)]


def _answers(nango: NangoClient, chosen: list[Known]) -> dict[int, Presence]:
    """What Nango says of each, by our id, as far as it answers."""
    found: dict[int, Presence] = {}
    unanswered = 0
    for one in chosen:
        try:
            found[one.id] = presence(
                nango, Address(one.nango_connection_id, one.provider_config_key)
            )
        except (Outage, Spent):
            break
        except Later:
            unanswered += 1
            if unanswered == FEW:
                break
    return found


def _gone(nango: NangoClient, chosen: list[Known], answers: dict[int, Presence]) -> list[Known]:
    gone = [one for one in chosen if answers.get(one.id) is Presence.GONE]
    nameless = [one for one in chosen if answers.get(one.id) is Presence.NOT_ASKABLE]
    if nameless:
        present = {str(row.address) for row in list_connections(nango).rows}
        gone += missing(nameless, present)
    return gone


def retire(database: Database, known: Known) -> bool:
    """Retire a connection that is gone from Nango, unless it has changed meanwhile."""
    with interrupting(database, known.id) as tx:
        now = get(tx.connection, known.id)
        if now.is_retired or now.label != known.label:
            return False
        change_status(
            tx,
            ConnectionStatus.RETIRED,
            "it is gone from Nango; its rows are kept",
            retired_at=tx.moment,
            due_at=None,
        )
        tell_connection(tx, ConnectionChange.REMOVED, {})
    return True
