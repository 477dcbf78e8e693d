"""Fetch role assignments one role definition at a time."""

from collections.abc import Mapping, Sequence
from typing import Final

from models.resources import RESOURCES
from models.unresolved import Part, PartKind
from worker.core.errors import (
    ConnectionBroken,
    CursorExpired,
    MalformedResponse,
    MirrorError,
    ResourceRefused,
    RetryLater,
)
from worker.graph.client import MAX_BATCH_ITEMS, GraphClient
from worker.graph.links import path_from_link
from worker.graph.page import Page
from worker.graph.urls import build_filtered_url, build_listing_url
from worker.store.state.streams import Stream
from worker.sync.sources.by_id import GONE_STATUSES
from worker.sync.sources.pages import fetch_page, parse_response
from worker.sync.sources.partial_failures import fetch_each, isolate_walk_errors

DEFINITIONS_PER_PAGE: Final = MAX_BATCH_ITEMS
"""Role definitions requested in one ``$batch``: one page of a filtered walk."""


def fetch_definition_ids(client: GraphClient, assignments: Stream) -> list[str]:
    """Return the ids of all role definitions, sorted: the parts of a filtered walk."""
    stream = Stream(resource=RESOURCES[assignments.resource.partitioned_by])
    link: str | None = build_listing_url(stream.resource, stream.resource.optional)
    ids: set[str] = set()
    seen: set[str] = set()
    while link is not None:
        if link in seen:
            raise CursorExpired("Graph's next links form a cycle", resource=stream.name)
        seen.add(link)
        page = fetch_page(client, stream, link)
        if page.rejects:
            raise MalformedResponse(
                "a role definition cannot be read", after=3600, resource=stream.name
            )
        ids |= page.rows.keys()
        link = page.next_link
    return sorted(ids)


def fetch_assignment_page(client: GraphClient, stream: Stream) -> tuple[Page, list[str]]:
    """Return a page of a filtered walk, and the role definitions that the walk covers.

    Raises CursorExpired if the role definitions have changed by the walk's end.
    """
    parts = stream.parts if stream.page_no else fetch_definition_ids(client, stream)
    parts = parts or []
    start = stream.page_no * DEFINITIONS_PER_PAGE
    page = fetch_assignments(client, stream, parts[start : start + DEFINITIONS_PER_PAGE])
    if start + DEFINITIONS_PER_PAGE < len(parts):
        page.next_link = f"part:{stream.page_no + 1}"
    elif fetch_definition_ids(client, stream) != parts:
        raise CursorExpired("the role definitions changed while their assignments were read")
    return page, parts


def build_assignments_part(stream: Stream, definition: str) -> Part:
    """Return the part for the assignments of a role definition."""
    return Part(stream.resource.partitioned_by, PartKind.ASSIGNMENTS, definition)


def fetch_assignments(client: GraphClient, stream: Stream, definitions: Sequence[str]) -> Page:
    """Return the complete assignments of some role definitions as one page.

    A definition whose query Graph refuses becomes an unanswered part; a deleted one has none.
    Raises the error of a response that concerns all of them.
    """
    whole = Page()
    links = {one: build_filtered_url(stream.resource, one) for one in definitions}
    first = stream.page_no == 0
    for _ in range(1000):
        if not links:
            return whole
        links = _fetch_next_pages(client, stream, whole, links, first=first)
        first = False
    raise CursorExpired("Graph's next links form a cycle", resource=stream.name)


def _fetch_next_pages(
    client: GraphClient, stream: Stream, whole: Page, links: Mapping[str, str], *, first: bool
) -> dict[str, str]:
    """Add each definition's next page of assignments; return the next links that remain."""
    replies = fetch_each(client, {one: path_from_link(link) for one, link in links.items()})
    upcoming: dict[str, str] = {}
    errors: dict[str, MirrorError] = {}
    for one, response in replies.items():
        if response.status in GONE_STATUSES:
            continue
        try:
            page = parse_response(stream, response)
            if page.next_link == links[one]:
                raise MalformedResponse("Graph's next links form a cycle", after=600)
        except (ResourceRefused, RetryLater, ConnectionBroken) as error:
            errors[one] = error
            continue
        whole.add(page)
        if page.next_link is None:
            whole.answered_parts.append(build_assignments_part(stream, one))
        else:
            upcoming[one] = page.next_link
    apart = isolate_walk_errors(errors, len(links), is_first_page=first)
    whole.unanswered_parts |= {
        build_assignments_part(stream, one): why for one, why in apart.items()
    }
    return upcoming
