"""When what a page or an answer brings began: known where its absence was seen shortly before.

What a first load brings was there before, for an unknown time. The same holds for what Graph did
not tell of until now, although its resource was mirrored: objects that were malformed, members and
assignments that it did not answer for.
"""

from models.resources.groups import GROUPS
from models.stream import Mode, Phase
from models.unresolved import PartKind
from worker.store.lease import Transaction
from worker.store.mirror.live_since import NOT_OBSERVED, LiveSince
from worker.store.state.quarantine import list_quarantined_keys
from worker.store.state.streams import Stream
from worker.store.state.unresolved import list_unresolved_keys
from worker.sync.context import SliceContext


def find_rows_live_since(context: SliceContext, tx: Transaction, stream: Stream) -> LiveSince:
    """Of the objects that a stream's page brings.

    Assignments that Graph had not answered for are not told from new ones: while any are noted, no
    beginning is known.
    """
    if not stream.can_date_changes(tx.moment):
        return NOT_OBSERVED
    if stream.mode is Mode.BY_DEFINITION and context.has_unresolved:
        apart = list_unresolved_keys(tx, "role_definitions", PartKind.ASSIGNMENTS)
        if apart:
            return NOT_OBSERVED
    noted = context.has_quarantined.get(stream.name)
    return LiveSince(tx.moment, list_quarantined_keys(tx, stream.name) if noted else frozenset())


def find_members_live_since(context: SliceContext, tx: Transaction, groups: Stream) -> LiveSince:
    """Of the memberships that come with groups."""
    if not groups.can_date_changes(tx.moment):
        return NOT_OBSERVED
    unknown: set[str] = set()
    if context.has_quarantined.get(groups.name):
        unknown |= list_quarantined_keys(tx, groups.name)
    if context.has_unresolved:
        unknown |= list_unresolved_keys(tx, GROUPS.name, PartKind.MEMBERS)
    return LiveSince(tx.moment, unknown, is_full_walk=groups.phase is Phase.LISTING)


def find_restored_live_since(context: SliceContext, tx: Transaction, groups: Stream) -> LiveSince:
    """Of the memberships of users and groups that came back in this slice.

    When they did is known from the rounds before, which may have been the first for long.
    """
    if context.unobserved_streams & {"users", "groups"}:
        return NOT_OBSERVED
    return find_members_live_since(context, tx, groups)
