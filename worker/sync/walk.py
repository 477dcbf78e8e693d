"""Reading: what a step asks of Graph. Runs beside the loader and touches no database."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from models.resources import RESOURCES
from models.stream import Mode, Phase
from models.unresolved import Part, PartKind
from worker.core.errors import Broken, Later, Refused, Restart, Torn, Trouble
from worker.core.stopping import sleep
from worker.graph.batch import LIMIT, Batcher
from worker.graph.decode import decode_page
from worker.graph.left_out import find_refused, leave_out
from worker.graph.links import target_of
from worker.graph.page import Page
from worker.graph.targets import (
    assignments_link,
    delta_link,
    listing_link,
    search_link,
    token_link,
)
from worker.graph.verdict import graph_trouble
from worker.nango.reply import Reply
from worker.store.streams import Stream
from worker.sync.members import FIRST
from worker.sync.parts import GONE, ask_each, parts_of_a_walk

Ask = Callable[[], object]
"""What is done on a thread of the pool: it only talks to Graph."""

DEFINITIONS_A_PAGE: Final = LIMIT
"""Role definitions asked for in one ``$batch``: one page of a filtered walk."""


USUAL: Final = 200
"""Objects on a page where Graph chooses: in delta enumerations and among sites."""


def after_pause(seconds: float, ask: Ask) -> Ask:
    """The same ask, sent a little later; a process that stops waits no longer."""

    def waiting() -> object:
        sleep(seconds)
        return ask()

    return waiting


def first_link(stream: Stream) -> str:
    """Where a full walk of a stream starts."""
    without, top = stream.left_out or (), stream.page_size
    if stream.mode is Mode.SEARCH:
        return search_link(stream.resource, without, top=top)
    if stream.resource.children and stream.mode is not Mode.LIST_ONLY:
        return delta_link(stream.resource, without, top=top)
    return listing_link(stream.resource, without, top=top)


def token_target(stream: Stream) -> str:
    """What is asked for a delta token, which has the page size of its rounds."""
    small = stream.page_size is not None and stream.page_size < USUAL
    top = stream.page_size if small else None
    return target_of(token_link(stream.resource, stream.left_out or (), top=top))


def understood(stream: Stream, reply: Reply, *, again: bool = False) -> Page:
    """A page out of an answer, over known ground ``again``.

    Raises what the answer means where it is none.
    """
    trouble = graph_trouble(reply, time.time(), stream.resource.permission)
    if trouble is not None:
        trouble.resource = stream.name
        raise trouble
    page = decode_page(stream.resource, reply.body, first=stream.initial, again=again)
    if stream.left_out:
        leave_out(page, stream.resource, stream.columns_left_out)
    if page.next_link is not None and page.delta_link is not None:
        page.delta_link = None
    for link in (page.next_link, page.delta_link):
        if link is not None:
            target_of(link)
    return page


def read_page(batcher: Batcher, stream: Stream, link: str) -> Page:
    """One page of a walk or round."""
    return turned(stream, batcher.get(target_of(link)))


def turned(stream: Stream, reply: Reply) -> Page:
    """A page of a walk or round out of its answer, with where the walk goes on."""
    again = stream.phase is Phase.LISTING and not stream.initial
    page = understood(stream, reply, again=again)
    if page.is_last and stream.mode is Mode.LIST_ONLY and stream.resource.children:
        page.next_link = FIRST
    return page


def read_token(batcher: Batcher, stream: Stream, opened: Reply | None = None) -> str:
    """A delta link that starts now. Pages before it are empty, but may be several."""
    page = understood(stream, opened or batcher.get(token_target(stream)))
    for _ in range(100):
        if page.delta_link is not None:
            return page.delta_link
        if page.next_link is None:
            break
        page = understood(stream, batcher.get(target_of(page.next_link)))
    raise Torn("Graph gave no delta link for $deltatoken=latest", after=600, resource=stream.name)


def find_unknown(batcher: Batcher, stream: Stream) -> list[str]:
    """The properties that Graph refuses to this stream: parts of the list are halved.

    A few calls: the parts of one size travel in one ``$batch``. None where Graph takes the request
    with all of them, or refuses it without any.
    """
    optional = [one for one in stream.resource.optional if one not in (stream.left_out or ())]
    ends = {"none": _with_only(stream, ()), "all": _with_only(stream, optional)}
    if find_refused(batcher, ends) != {"all"}:
        return []
    found: list[str] = []
    parts = list(_halves(optional)) or [optional]
    while parts:
        asked = {str(number): _with_only(stream, part) for number, part in enumerate(parts)}
        refused = [parts[int(number)] for number in find_refused(batcher, asked)]
        found += [part[0] for part in refused if len(part) == 1]
        parts = [half for part in refused for half in _halves(part)]
    return found


def _halves(names: list[str]) -> Iterator[list[str]]:
    """Both halves of a list; none of one that cannot be halved."""
    cut = len(names) // 2
    if cut:
        yield from (names[:cut], names[cut:])


def _with_only(stream: Stream, names: Collection[str]) -> str:
    """A small request of the kind that was refused, with these optional properties."""
    resource = stream.resource
    without = [one for one in resource.optional if one not in names]
    if resource.delta_path and stream.mode is Mode.PLAIN:
        return target_of(token_link(resource, without))
    if stream.mode is Mode.SEARCH:
        return target_of(search_link(resource, without))
    return target_of(listing_link(resource, without, top=1 if resource.page_size else None))


def read_one(batcher: Batcher, stream: Stream) -> None:
    """Ask for the smallest page there is. Raises what an answer means where it is none."""
    resource = stream.resource
    understood(stream, batcher.get(target_of(listing_link(resource, resource.optional, top=1))))


def read_definitions(batcher: Batcher) -> list[str]:
    """The ids of all role definitions, in order: what a filtered walk goes through."""
    stream = Stream(resource=RESOURCES["role_definitions"])
    link: str | None = listing_link(stream.resource, stream.resource.optional)
    found: set[str] = set()
    seen: set[str] = set()
    while link is not None:
        if link in seen:
            raise Restart("Graph's next links go in circles", resource=stream.name)
        seen.add(link)
        page = read_page(batcher, stream, link)
        if page.rejects:
            raise Torn("a role definition cannot be read", after=3600, resource=stream.name)
        found |= page.rows.keys()
        link = page.next_link
    return sorted(found)


def read_part(batcher: Batcher, stream: Stream) -> tuple[Page, list[str]]:
    """A page of a filtered walk, and the role definitions that the walk goes through.

    Raises Restart where those are not the same at its end.
    """
    parts = stream.parts if stream.page_no else read_definitions(batcher)
    parts = parts or []
    start = stream.page_no * DEFINITIONS_A_PAGE
    page = read_assignments(batcher, stream, parts[start : start + DEFINITIONS_A_PAGE])
    if start + DEFINITIONS_A_PAGE < len(parts):
        page.next_link = f"part:{stream.page_no + 1}"
    elif read_definitions(batcher) != parts:
        raise Restart("the role definitions changed while their assignments were read")
    return page, parts


def assignments_of(definition: str) -> Part:
    """The assignments of a role definition, as a part."""
    return Part("role_definitions", PartKind.ASSIGNMENTS, definition)


def read_assignments(batcher: Batcher, stream: Stream, definitions: Sequence[str]) -> Page:
    """The assignments of some role definitions, each to its very end, as one page.

    A definition whose query Graph refuses is set apart; one that is gone has none. Raises what an
    answer means where it is about all of them.
    """
    whole = Page()
    links = {one: assignments_link(stream.resource, one) for one in definitions}
    first = stream.page_no == 0
    for _ in range(1000):
        if not links:
            return whole
        links = _read_each(batcher, stream, whole, links, first=first)
        first = False
    raise Restart("Graph's next links go in circles", resource=stream.name)


def _read_each(
    batcher: Batcher, stream: Stream, whole: Page, links: Mapping[str, str], *, first: bool
) -> dict[str, str]:
    """Add the next page of each definition's assignments; the links of those that go on."""
    replies = ask_each(batcher, {one: target_of(link) for one, link in links.items()})
    upcoming: dict[str, str] = {}
    troubles: dict[str, Trouble] = {}
    for one, reply in replies.items():
        if reply.status in GONE:
            continue
        try:
            page = understood(stream, reply)
            if page.next_link == links[one]:
                raise Torn("Graph's next links go in circles", after=600)
        except (Refused, Later, Broken) as trouble:
            troubles[one] = trouble
            continue
        whole.rows |= page.rows
        whole.rejects += page.rejects
        whole.passed_over += page.passed_over
        whole.count += page.count
        if page.next_link is None:
            whole.answered.append(assignments_of(one))
        else:
            upcoming[one] = page.next_link
    apart = parts_of_a_walk(troubles, len(links), first=first)
    whole.apart |= {assignments_of(one): why for one, why in apart.items()}
    return upcoming
