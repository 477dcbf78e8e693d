"""Find since when loaded rows are live: known if their absence was observed shortly before.

Rows of a first load existed before, for an unknown time. So did rows of a mirrored resource that
Graph did not return until now: malformed objects, and members and assignments of unanswered parts.
"""

from models.resource import Resource
from models.resources import list_edge_ends
from models.stream import Phase
from models.unresolved import PartKind
from worker.graph.page import Page
from worker.store.lease import Transaction
from worker.store.mirror.live_since import NOT_OBSERVED, LiveSince
from worker.store.state.quarantine import list_quarantined_keys
from worker.store.state.streams import Stream
from worker.store.state.unresolved import list_unanswered_parts, list_unresolved_keys
from worker.sync.context import SliceContext


def find_rows_live_since(
    context: SliceContext, tx: Transaction, stream: Stream, page: Page
) -> LiveSince:
    """Return since when the objects of a stream's page are live.

    New assignments cannot be distinguished from those of a role that Graph had not answered for:
    while any such role is recorded, the time is unknown.
    """
    if not stream.can_date_changes(tx.moment):
        return NOT_OBSERVED
    parts: set[str] = set()
    if context.has_unresolved and (stream.source.filtered_by or stream.source.below):
        parts = list_unanswered_parts(tx, stream.resource)
    if parts and stream.source.filtered_by:
        return NOT_OBSERVED
    unknown = _list_rows_in(stream.resource, page, parts)
    if context.has_quarantined.get(stream.name):
        unknown |= list_quarantined_keys(tx, stream.name)
    return LiveSince(tx.moment, unknown)


def _list_rows_in(resource: Resource, page: Page, parts: set[str]) -> set[str]:
    """Return the rows of a page that belong to one of these parts of a walk."""
    if resource.partition is None or not parts:
        return set()
    place = resource.column_names.index(resource.partition.name)
    return {key for key, one in page.rows.items() if one.row[place] in parts}


def find_members_live_since(
    context: SliceContext, tx: Transaction, parents: Stream, edge: Resource
) -> LiveSince:
    """Return since when the edges that come with their parents are live."""
    if not parents.can_date_changes(tx.moment) or parents.is_first_read(edge):
        return NOT_OBSERVED
    unknown: set[str] = set()
    if context.has_quarantined.get(parents.name):
        unknown |= list_quarantined_keys(tx, parents.name)
    if context.has_unresolved:
        unknown |= list_unresolved_keys(tx, edge.name, PartKind.MEMBERS)
    return LiveSince(tx.moment, unknown, is_full_walk=parents.phase is Phase.LISTING)


def find_restored_live_since(
    context: SliceContext, tx: Transaction, parents: Stream, edge: Resource
) -> LiveSince:
    """Return since when the edges of objects restored in this slice are live.

    The rounds before date the restoration, and they may have been the first for a long time.
    """
    if not context.unobserved_streams.isdisjoint(list_edge_ends(edge)):
        return NOT_OBSERVED
    return find_members_live_since(context, tx, parents, edge)
