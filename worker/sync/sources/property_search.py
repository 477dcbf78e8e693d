"""Find which selected properties Graph refuses, by halving the list."""

from collections.abc import Collection, Iterator, Mapping

from worker.core.errors import (
    ResourceRefused,
)
from worker.graph.client import GraphClient
from worker.graph.errors import classify_graph_response
from worker.graph.links import path_from_link
from worker.graph.unknown_properties import PROPERTY_REFUSAL_STATUSES
from worker.graph.urls import build_listing_url, build_token_url
from worker.store.state.streams import Stream


def find_refused_requests(client: GraphClient, targets: Mapping[str, str]) -> set[str]:
    """Return the names of ``targets`` whose requests are refused because of a property.

    Raises the error of any other failed response.
    """
    refused = set()
    for name, response in client.get_all(targets).items():
        error = classify_graph_response(response, 0.0)
        if isinstance(error, ResourceRefused) and error.status in PROPERTY_REFUSAL_STATUSES:
            refused.add(name)
        elif error is not None:
            raise error
    return refused


def find_refused_properties(client: GraphClient, stream: Stream) -> list[str]:
    """Return the properties that Graph refuses to this stream, found by halving the list.

    Takes a few calls: the parts of one size travel in one ``$batch``. Empty if Graph accepts the
    request with all of them, or refuses it without any.
    """
    optional = [one for one in stream.resource.optional if one not in stream.without]
    ends = {"none": _build_request_with(stream, ()), "all": _build_request_with(stream, optional)}
    if find_refused_requests(client, ends) != {"all"}:
        return []
    properties: list[str] = []
    parts = list(_split_in_half(optional)) or [optional]
    while parts:
        asked = {
            str(number): _build_request_with(stream, part) for number, part in enumerate(parts)
        }
        refused = [parts[int(number)] for number in find_refused_requests(client, asked)]
        properties += [part[0] for part in refused if len(part) == 1]
        parts = [half for part in refused for half in _split_in_half(part)]
    return properties


def _split_in_half(names: list[str]) -> Iterator[list[str]]:
    """Yield both halves of a list; nothing if it has one item."""
    cut = len(names) // 2
    if cut:
        yield from (names[:cut], names[cut:])


def _build_request_with(stream: Stream, names: Collection[str]) -> str:
    """Return the path of a small request of the refused kind, with these optional properties."""
    resource = stream.resource
    without = [one for one in resource.optional if one not in names]
    source = stream.source
    if source.follows_delta:
        return path_from_link(build_token_url(resource, without))
    top = 1 if source.page_size else None
    return path_from_link(build_listing_url(resource, without, source=source, top=top))
