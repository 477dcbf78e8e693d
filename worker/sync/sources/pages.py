"""Fetch and decode pages from Graph. Runs beside the loader and touches no database."""

import time
from collections.abc import Callable
from typing import Final

from models.resources import EDGES_IN, RESOURCES
from models.stream import Phase
from worker.core.errors import (
    MalformedResponse,
)
from worker.core.process.shutdown import sleep_unless_stopping
from worker.graph.client import GraphClient
from worker.graph.decode import decode_page
from worker.graph.errors import classify_graph_response
from worker.graph.links import path_from_link
from worker.graph.page import Page
from worker.graph.rowless import drop_rowless
from worker.graph.urls import (
    build_delta_url,
    build_listing_url,
    build_token_url,
)
from worker.nango.response import ApiResponse
from worker.rows.incoming import NOT_ENCODED, EncodedRows, clear_columns, encode_rows
from worker.store.state.streams import Stream
from worker.sync.sources.list_cursor import FIRST_LIST_LINK
from worker.sync.sources.members import FIRST_MEMBER_LINK

Fetch = Callable[[], object]
"""A function that runs on a pool thread and only talks to Graph."""


DEFAULT_PAGE_SIZE: Final = 200
"""Objects on a page if Graph chooses: in delta enumerations and for sites."""


def delay_fetch(seconds: float, ask: Fetch) -> Fetch:
    """Return a fetch that runs after a pause; a stopping process does not wait."""

    def waiting() -> object:
        sleep_unless_stopping(seconds)
        return ask()

    return waiting


def build_first_link(stream: Stream) -> str:
    """Return the URL at which a full walk of a stream starts."""
    without, top = stream.without, stream.page_size
    if stream.source.below:
        return FIRST_LIST_LINK
    if stream.source.walks_by_delta:
        return build_delta_url(stream.resource, without, top=top)
    return build_listing_url(stream.resource, without, source=stream.source, top=top)


def build_token_path(stream: Stream) -> str:
    """Return the path that requests a delta token with the page size of its rounds."""
    small = stream.page_size is not None and stream.page_size < DEFAULT_PAGE_SIZE
    top = stream.page_size if small else None
    return path_from_link(build_token_url(stream.resource, stream.without, top=top))


def parse_response(
    stream: Stream, response: ApiResponse, *, expects_unchanged: bool = False
) -> Page:
    """Return the page in a response.

    With ``expects_unchanged``, most objects are expected to be stored already. Raises the error
    that the response means if it holds no page.
    """
    error = classify_graph_response(response, time.time(), stream.resource.permission)
    if error is not None:
        error.resource = stream.name
        raise error
    # The same bytes as before are no proof of an unchanged row if more of them is stored now.
    bringing = stream.is_bringing_columns
    page = decode_page(
        stream.resource,
        response.body,
        hash_sources=stream.is_initial or bringing,
        is_rewalk=expects_unchanged and not bringing,
    )
    _drop_left_out(stream, page)
    drop_rowless(page, stream.resource, is_whole=stream.phase is Phase.LISTING)
    if page.next_link is not None and page.delta_link is not None:
        page.delta_link = None
    for link in (page.next_link, page.delta_link):
        if link is not None:
            path_from_link(link)
    return page


def _drop_left_out(stream: Stream, page: Page) -> None:
    """Drop what is left out: a cursor may still ask for it."""
    if not stream.without:
        return
    clear_columns(page.rows, stream.resource, stream.left_out_columns)
    for edge in EDGES_IN[stream.name]:
        if edge not in stream.carried_edges:
            page.edges.pop(edge.name, None)


def fetch_page(client: GraphClient, stream: Stream, link: str) -> Page:
    """Return one page of a walk or round."""
    return parse_page(stream, client.get(path_from_link(link)))


def parse_page(stream: Stream, response: ApiResponse) -> Page:
    """Return the page in a response of a walk or round, with its next link."""
    page = parse_response(stream, response, expects_unchanged=stream.is_walking_again)
    if page.is_last and stream.source.relations_apart and stream.carried_edges:
        page.next_link = FIRST_MEMBER_LINK
    return page


def encode_new_rows(stream: Stream, page: Page) -> EncodedRows:
    """Return the rows of a first load's page encoded; in other walks few rows are new."""
    if not (stream.is_initial and stream.resource.is_plain):
        return NOT_ENCODED
    return encode_rows(stream.resource, page.rows)


def fetch_delta_token(
    client: GraphClient, stream: Stream, opening_response: ApiResponse | None = None
) -> str:
    """Return a delta link that starts now; several empty pages may precede it."""
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


def fetch_smallest_page(client: GraphClient, stream: Stream) -> None:
    """Request a page of one object. Raises the error of the response if it fails.

    Instead of a list below another object, of which any may be slow, those objects are asked for.
    """
    if stream.source.below:
        stream = Stream(resource=RESOURCES[stream.resource.partitioned_by])
    resource = stream.resource
    parse_response(
        stream, client.get(path_from_link(build_listing_url(resource, resource.optional, top=1)))
    )
