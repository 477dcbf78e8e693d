"""When what a page or an answer brings began: known where its absence was seen shortly before.

What a first load brings was there before, for an unknown time. The same holds for what Graph did
not tell of until now, although its resource was mirrored: objects that were malformed, members and
assignments that it did not answer for.
"""

from models.resources.groups import GROUPS
from models.stream import Mode, Phase
from models.unresolved import PartKind
from worker.store.beginnings import NOT_SEEN, Beginnings
from worker.store.lease import Transaction
from worker.store.quarantine import quarantined
from worker.store.streams import Stream
from worker.store.unresolved import unresolved_keys
from worker.sync.session import Session


def beginnings_of_rows(session: Session, tx: Transaction, stream: Stream) -> Beginnings:
    """Of the objects that a stream's page brings.

    Assignments that Graph had not answered for are not told from new ones: while any are noted, no
    beginning is known.
    """
    if not stream.observes(tx.moment):
        return NOT_SEEN
    if stream.mode is Mode.BY_DEFINITION and session.unresolved:
        apart = unresolved_keys(tx, "role_definitions", PartKind.ASSIGNMENTS)
        if apart:
            return NOT_SEEN
    noted = session.quarantined.get(stream.name)
    return Beginnings(tx.moment, quarantined(tx, stream.name) if noted else frozenset())


def beginnings_of_members(session: Session, tx: Transaction, groups: Stream) -> Beginnings:
    """Of the memberships that come with groups."""
    if not groups.observes(tx.moment):
        return NOT_SEEN
    unknown: set[str] = set()
    if session.quarantined.get(groups.name):
        unknown |= quarantined(tx, groups.name)
    if session.unresolved:
        unknown |= unresolved_keys(tx, GROUPS.name, PartKind.MEMBERS)
    return Beginnings(tx.moment, unknown, listed=groups.phase is Phase.LISTING)


def beginnings_of_returned(session: Session, tx: Transaction, groups: Stream) -> Beginnings:
    """Of the memberships of users and groups that came back in this slice.

    When they did is known from the rounds before, which may have been the first for long.
    """
    if session.late & {"users", "groups"}:
        return NOT_SEEN
    return beginnings_of_members(session, tx, groups)
