"""Reading: what a step asks of Graph. Runs beside the loader and touches no database."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from models.resources import RESOURCES
from models.stream import Mode, Phase
from models.unresolved import Part, PartKind
from worker.core.errors import (
    ConnectionBroken,
    CursorExpired,
    MalformedResponse,
    MirrorError,
    ResourceRefused,
    RetryLater,
)
from worker.core.stopping import sleep_unless_stopping
from worker.graph.batch import MAX_BATCH_ITEMS, GraphClient
from worker.graph.decode import decode_page
from worker.graph.left_out import clear_columns, find_refused_requests
from worker.graph.links import path_from_link
from worker.graph.page import Page
from worker.graph.targets import (
    build_assignments_url,
    build_delta_url,
    build_listing_url,
    build_search_url,
    build_token_url,
)
from worker.graph.verdict import classify_graph_response
from worker.nango.reply import ApiResponse
from worker.store.streams import Stream
from worker.sync.members import FIRST_MEMBER_LINK
from worker.sync.parts import GONE_STATUSES, fetch_each, isolate_walk_errors

Fetch = Callable[[], object]
"""What is done on a thread of the pool: it only talks to Graph."""

DEFINITIONS_PER_PAGE: Final = MAX_BATCH_ITEMS
"""Role definitions asked for in one ``$batch``: one page of a filtered walk."""


DEFAULT_PAGE_SIZE: Final = 200
"""Objects on a page where Graph chooses: in delta enumerations and among sites."""


def delay_fetch(seconds: float, ask: Fetch) -> Fetch:
    """The same ask, sent a little later; a process that stops waits no longer."""

    def waiting() -> object:
        sleep_unless_stopping(seconds)
        return ask()

    return waiting


def build_first_link(stream: Stream) -> str:
    """Where a full walk of a stream starts."""
    without, top = stream.left_out or (), stream.page_size
    if stream.mode is Mode.SEARCH:
        return build_search_url(stream.resource, without, top=top)
    if stream.resource.children and stream.mode is not Mode.LIST_ONLY:
        return build_delta_url(stream.resource, without, top=top)
    return build_listing_url(stream.resource, without, top=top)


def build_token_path(stream: Stream) -> str:
    """What is asked for a delta token, which has the page size of its rounds."""
    small = stream.page_size is not None and stream.page_size < DEFAULT_PAGE_SIZE
    top = stream.page_size if small else None
    return path_from_link(build_token_url(stream.resource, stream.left_out or (), top=top))


def parse_response(
    stream: Stream, response: ApiResponse, *, expects_unchanged: bool = False
) -> Page:
    """A page out of an answer, over known ground ``expects_unchanged``.

    Raises what the answer means where it is none.
    """
    trouble = classify_graph_response(response, time.time(), stream.resource.permission)
    if trouble is not None:
        trouble.resource = stream.name
        raise trouble
    page = decode_page(
        stream.resource, response.body, is_first_load=stream.is_initial, is_rewalk=expects_unchanged
    )
    if stream.left_out:
        clear_columns(page, stream.resource, stream.left_out_columns)
    if page.next_link is not None and page.delta_link is not None:
        page.delta_link = None
    for link in (page.next_link, page.delta_link):
        if link is not None:
            path_from_link(link)
    return page


def fetch_page(client: GraphClient, stream: Stream, link: str) -> Page:
    """One page of a walk or round."""
    return parse_page(stream, client.get(path_from_link(link)))


def parse_page(stream: Stream, response: ApiResponse) -> Page:
    """A page of a walk or round out of its answer, with where the walk goes on."""
    again = stream.phase is Phase.LISTING and not stream.is_initial
    page = parse_response(stream, response, expects_unchanged=again)
    if page.is_last and stream.mode is Mode.LIST_ONLY and stream.resource.children:
        page.next_link = FIRST_MEMBER_LINK
    return page


def fetch_delta_token(
    client: GraphClient, stream: Stream, opening_response: ApiResponse | None = None
) -> str:
    """A delta link that starts now. Pages before it are empty, but may be several."""
    page = parse_response(stream, opening_response or client.get(build_token_path(stream)))
    for _ in range(100):
        if page.delta_link is not None:
            return page.delta_link
        if page.next_link is None:
            break
        page = parse_response(stream, client.get(path_from_link(page.next_link)))
    raise MalformedResponse(
        "Graph gave no delta link for $deltatoken=latest", after=600, resource=stream.name
    )


def find_refused_properties(client: GraphClient, stream: Stream) -> list[str]:
    """The properties that Graph refuses to this stream: parts of the list are halved.

    A few calls: the parts of one size travel in one ``$batch``. None where Graph takes the request
    with all of them, or refuses it without any.
    """
    optional = [one for one in stream.resource.optional if one not in (stream.left_out or ())]
    ends = {"none": _build_request_with(stream, ()), "all": _build_request_with(stream, optional)}
    if find_refused_requests(client, ends) != {"all"}:
        return []
    found: list[str] = []
    parts = list(_split_in_half(optional)) or [optional]
    while parts:
        asked = {
            str(number): _build_request_with(stream, part) for number, part in enumerate(parts)
        }
        refused = [parts[int(number)] for number in find_refused_requests(client, asked)]
        found += [part[0] for part in refused if len(part) == 1]
        parts = [half for part in refused for half in _split_in_half(part)]
    return found


def _split_in_half(names: list[str]) -> Iterator[list[str]]:
    """Both halves of a list; none of one that cannot be halved."""
    cut = len(names) // 2
    if cut:
        yield from (names[:cut], names[cut:])


def _build_request_with(stream: Stream, names: Collection[str]) -> str:
    """A small request of the kind that was refused, with these optional properties."""
    resource = stream.resource
    without = [one for one in resource.optional if one not in names]
    if resource.delta_path and stream.mode is Mode.PLAIN:
        return path_from_link(build_token_url(resource, without))
    if stream.mode is Mode.SEARCH:
        return path_from_link(build_search_url(resource, without))
    return path_from_link(
        build_listing_url(resource, without, top=1 if resource.page_size else None)
    )


def fetch_smallest_page(client: GraphClient, stream: Stream) -> None:
    """Ask for the smallest page there is. Raises what an answer means where it is none."""
    resource = stream.resource
    parse_response(
        stream, client.get(path_from_link(build_listing_url(resource, resource.optional, top=1)))
    )


def fetch_definition_ids(client: GraphClient) -> list[str]:
    """The ids of all role definitions, in order: what a filtered walk goes through."""
    stream = Stream(resource=RESOURCES["role_definitions"])
    link: str | None = build_listing_url(stream.resource, stream.resource.optional)
    found: set[str] = set()
    seen: set[str] = set()
    while link is not None:
        if link in seen:
            raise CursorExpired("Graph's next links go in circles", resource=stream.name)
        seen.add(link)
        page = fetch_page(client, stream, link)
        if page.rejects:
            raise MalformedResponse(
                "a role definition cannot be read", after=3600, resource=stream.name
            )
        found |= page.rows.keys()
        link = page.next_link
    return sorted(found)


def fetch_assignment_page(client: GraphClient, stream: Stream) -> tuple[Page, list[str]]:
    """A page of a filtered walk, and the role definitions that the walk goes through.

    Raises CursorExpired where those are not the same at its end.
    """
    parts = stream.parts if stream.page_no else fetch_definition_ids(client)
    parts = parts or []
    start = stream.page_no * DEFINITIONS_PER_PAGE
    page = fetch_assignments(client, stream, parts[start : start + DEFINITIONS_PER_PAGE])
    if start + DEFINITIONS_PER_PAGE < len(parts):
        page.next_link = f"part:{stream.page_no + 1}"
    elif fetch_definition_ids(client) != parts:
        raise CursorExpired("the role definitions changed while their assignments were read")
    return page, parts


def build_assignments_part(definition: str) -> Part:
    """The assignments of a role definition, as a part."""
    return Part("role_definitions", PartKind.ASSIGNMENTS, definition)


def fetch_assignments(client: GraphClient, stream: Stream, definitions: Sequence[str]) -> Page:
    """The assignments of some role definitions, each to its very end, as one page.

    A definition whose query Graph refuses is set apart; one that is gone has none. Raises what an
    answer means where it is about all of them.
    """
    whole = Page()
    links = {one: build_assignments_url(stream.resource, one) for one in definitions}
    first = stream.page_no == 0
    for _ in range(1000):
        if not links:
            return whole
        links = _fetch_next_pages(client, stream, whole, links, first=first)
        first = False
    raise CursorExpired("Graph's next links go in circles", resource=stream.name)


def _fetch_next_pages(
    client: GraphClient, stream: Stream, whole: Page, links: Mapping[str, str], *, first: bool
) -> dict[str, str]:
    """Add the next page of each definition's assignments; the links of those that go on."""
    replies = fetch_each(client, {one: path_from_link(link) for one, link in links.items()})
    upcoming: dict[str, str] = {}
    troubles: dict[str, MirrorError] = {}
    for one, reply in replies.items():
        if reply.status in GONE_STATUSES:
            continue
        try:
            page = parse_response(stream, reply)
            if page.next_link == links[one]:
                raise MalformedResponse("Graph's next links go in circles", after=600)
        except (ResourceRefused, RetryLater, ConnectionBroken) as trouble:
            troubles[one] = trouble
            continue
        whole.rows |= page.rows
        whole.rejects += page.rejects
        whole.skipped += page.skipped
        whole.count += page.count
        if page.next_link is None:
            whole.answered_parts.append(build_assignments_part(one))
        else:
            upcoming[one] = page.next_link
    apart = isolate_walk_errors(troubles, len(links), is_first_page=first)
    whole.unanswered_parts |= {build_assignments_part(one): why for one, why in apart.items()}
    return upcoming
