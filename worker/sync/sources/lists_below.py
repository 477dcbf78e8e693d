"""Fetch the lists below the objects of another resource, such as who may use each application.

The lists of 19 parents are read in parallel: each page of the walk is one ``$batch``. A parent that
was deleted meanwhile has nothing. One whose list Graph refuses, or that never ends, becomes an
unanswered part; the others go on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from models.resource import Resource
from models.unresolved import Part, PartKind
from worker.core.errors import (
    ConnectionBroken,
    CursorExpired,
    MalformedResponse,
    MirrorError,
    ResourceRefused,
    RetryLater,
)
from worker.graph.client import GraphClient
from worker.graph.links import path_from_link
from worker.graph.page import Page
from worker.graph.urls import build_below_url
from worker.nango.response import ApiResponse
from worker.store.state.streams import Stream
from worker.sync.sources.list_cursor import ListCursor, ListPlace, parse_list_cursor
from worker.sync.sources.pages import parse_response
from worker.sync.sources.partial_failures import fetch_each, isolate_walk_errors

MIN_LIST_PAGE: Final = 100
"""Objects on a page at which the size no longer explains a timeout for one parent."""


def build_list_part(resource: Resource, parent: str) -> Part:
    """Return the part for the list below one parent."""
    return Part(resource.name, PartKind.LIST, parent)


@dataclass
class ListsPage:
    """The next pages of several lists as one page, and what is known of each list."""

    page: Page = field(default_factory=Page)
    under_way: dict[str, ListPlace] = field(default_factory=dict)
    errors: dict[str, MirrorError] = field(default_factory=dict)


def fetch_lists_page(
    client: GraphClient, stream: Stream, cursor: ListCursor, parents: list[str]
) -> Page:
    """Return the next page of a walk: of the lists under way, and those of further ``parents``.

    Raises the error of a response that concerns all lists, or that a smaller page may avoid.
    """
    read = fetch_lists(client, stream, cursor.under_way, parents)
    size = stream.page_size or stream.source.page_size or 0
    for error in read.errors.values():
        if error.needs_smaller_request and size > MIN_LIST_PAGE:
            raise error
    asked = len(cursor.under_way) + len(parents)
    apart = isolate_walk_errors(read.errors, asked, is_first_page=cursor.is_start)
    page = read.page
    page.unanswered_parts = {
        build_list_part(stream.resource, one): why for one, why in apart.items()
    }
    following = cursor.find_next(parents, read.under_way)
    page.next_link = None if following is None else following.link
    return page


def fetch_lists(
    client: GraphClient,
    stream: Stream,
    under_way: Mapping[str, ListPlace],
    parents: Iterable[str],
) -> ListsPage:
    """Return the next page of each list under way, and the first one below each of ``parents``."""
    places = {**under_way, **{one: ListPlace(_build_start(stream, one)) for one in parents}}
    replies = fetch_each(client, {one: path_from_link(at.link) for one, at in places.items()})
    read = ListsPage()
    for one, response in replies.items():
        try:
            following = _add_page(read.page, stream, places[one], response)
        except CursorExpired as error:
            again = places[one].restart(_build_start(stream, one))
            if again is None:
                read.errors[one] = error
            else:
                read.under_way[one] = again
            continue
        except (ResourceRefused, RetryLater, ConnectionBroken) as error:
            read.errors[one] = error
            continue
        if following is None:
            read.page.answered_parts.append(build_list_part(stream.resource, one))
        else:
            read.under_way[one] = following
    return read


def shrink_lists(stream: Stream, link: str) -> str:
    """Return the cursor in ``link`` for the stream's page size: lists under way start again."""
    cursor = parse_list_cursor(link)
    if cursor is None:
        return link
    starts = {one: ListPlace(_build_start(stream, one)) for one in cursor.under_way}
    return ListCursor(cursor.after, starts, cursor.is_second).link


def _build_start(stream: Stream, parent: str) -> str:
    return build_below_url(stream.resource, parent, stream.without, top=stream.page_size)


def _add_page(
    whole: Page, stream: Stream, place: ListPlace, response: ApiResponse
) -> ListPlace | None:
    """Add a page of one list; return where the list goes on, None at its end."""
    if response.status == 404 or (response.status == 410 and not place.page_no):
        return None
    page = parse_response(stream, response, expects_unchanged=stream.is_walking_again)
    link = page.next_link
    following = None if link is None else place.follow(link, page.digest)
    if link is not None and following is None:
        raise MalformedResponse("Graph's next links form a cycle", after=600)
    whole.add(page)
    return following
