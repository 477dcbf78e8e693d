"""Fetch the pages of a walk or round, one page ahead of the loader.

Fetches run on pool threads and only talk to Graph; they are prepared on the loader's thread.
"""

from collections.abc import Callable
from dataclasses import dataclass

from models.resources import RESOURCES
from worker.graph.client import GraphClient
from worker.graph.links import path_from_link
from worker.graph.page import Page
from worker.nango.response import ApiResponse
from worker.rows.incoming import NOT_ENCODED, EncodedRows
from worker.store.state.streams import Stream
from worker.store.sweep.seen import list_live_ids
from worker.sync.context import SliceContext
from worker.sync.sources.assignments import fetch_assignment_page
from worker.sync.sources.list_cursor import ListCursor, parse_list_cursor
from worker.sync.sources.lists_below import fetch_lists_page
from worker.sync.sources.members import MemberCursor, fetch_member_page, parse_member_cursor
from worker.sync.sources.pages import Fetch, encode_new_rows, parse_page
from worker.sync.sources.prefetch import PendingPage, Prefetch, Submit


@dataclass
class FetchedPage:
    """A page with the stream it was fetched for, and the role definitions of a filtered walk."""

    stream: Stream
    page: Page
    encoded_rows: EncodedRows = NOT_ENCODED
    definition_ids: list[str] | None = None
    pending_page: PendingPage | None = None


def get_link(stream: Stream) -> str:
    """Return the link of the stream's next page."""
    link = stream.next_link or stream.delta_link
    assert link is not None, "a page is only asked for where there is a link"
    return link


def find_opening_path(stream: Stream, link: str) -> str | None:
    """Return the path that the opening ``$batch`` asks for; None if a page is several requests."""
    several = parse_member_cursor(link) or parse_list_cursor(link) or stream.source.filtered_by
    return None if several else path_from_link(link)


def prepare_page_fetch(
    context: SliceContext,
    submit: Submit,
    stream: Stream,
    opening_response: ApiResponse | None,
    pending_page: PendingPage | None,
) -> Fetch:
    """Return the fetch for a stream's next page.

    ``opening_response`` or ``pending_page`` may already hold the response.
    """
    if stream.source.filtered_by:
        return lambda: _fetch_assignments(context.client, stream)
    place = parse_member_cursor(stream.next_link)
    if place is not None:
        return _prepare_member_fetch(context, stream, place)
    cursor = parse_list_cursor(stream.next_link)
    if cursor is not None:
        return _prepare_lists_fetch(context, stream, cursor)
    link = get_link(stream)
    if pending_page is not None and pending_page.link == link:
        return lambda: _fetch_page(stream, pending_page.prefetch, pending_page.future.result)
    onward = Prefetch(context.client, submit)
    get = context.client.get
    return lambda: _fetch_page(
        stream, onward, lambda: opening_response or get(path_from_link(link), observer=onward)
    )


def _fetch_page(
    stream: Stream, onward: Prefetch, receive: Callable[[], ApiResponse]
) -> FetchedPage:
    """Decode a page while the following one is being fetched."""
    onward.mark_awaited()
    response = receive()
    coming = onward.finish(response)
    page = parse_page(stream, response)
    return FetchedPage(stream, page, encode_new_rows(stream, page), pending_page=coming)


def _fetch_assignments(client: GraphClient, stream: Stream) -> FetchedPage:
    page, definition_ids = fetch_assignment_page(client, stream)
    return FetchedPage(stream, page, encode_new_rows(stream, page), definition_ids)


def _prepare_member_fetch(context: SliceContext, stream: Stream, place: MemberCursor) -> Fetch:
    """Return the fetch for a member page; the next parents are read on the loader's thread."""
    client, edges, top = context.client, stream.carried_edges, stream.page_size
    with context.database.open_transaction() as db:
        number = context.lease.connection_id
        parents = list_live_ids(db, number, stream.resource, place.after, place.free_slots)
    return lambda: FetchedPage(stream, fetch_member_page(client, edges, place, parents, top=top))


def _prepare_lists_fetch(context: SliceContext, stream: Stream, cursor: ListCursor) -> Fetch:
    """Return the fetch for a page of lists; the next parents are read on the loader's thread."""
    below = stream.source.below
    assert below is not None, "only lists below other objects have such a cursor"
    with context.database.open_transaction() as db:
        parents = list_live_ids(
            db,
            context.lease.connection_id,
            RESOURCES[stream.resource.partitioned_by],
            cursor.after,
            cursor.free_slots,
            omits=below.omits,
            changed_since=stream.walk_started_at if cursor.is_second else None,
        )
    return lambda: _fetch_lists(context.client, stream, cursor, parents)


def _fetch_lists(
    client: GraphClient, stream: Stream, cursor: ListCursor, parents: list[str]
) -> FetchedPage:
    page = fetch_lists_page(client, stream, cursor, parents)
    return FetchedPage(stream, page, encode_new_rows(stream, page))
