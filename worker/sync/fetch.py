"""Asking for the pages of a walk or round, one page ahead of the loader.

The asks run on threads of the pool and only talk to Graph; they are put together on the loader's
thread.
"""

from collections.abc import Callable
from dataclasses import dataclass

from models.stream import Mode
from worker.graph.links import target_of
from worker.graph.page import Page
from worker.nango.reply import Reply
from worker.store.seen import live_ids_after
from worker.store.streams import Stream
from worker.sync.members import Place, place_of, read_member_page
from worker.sync.onward import Coming, Follow, Onward
from worker.sync.session import Session
from worker.sync.walk import Ask, read_part, turned


@dataclass
class Read:
    """A page with its place in the walk, and the list a filtered walk goes through."""

    stream: Stream
    page: Page
    parts: list[str] | None = None
    coming: Coming | None = None


def link_of(stream: Stream) -> str:
    """Where the next page of a stream is."""
    link = stream.next_link or stream.delta_link
    assert link is not None, "a page is only asked for where there is a link"
    return link


def page_ask(
    session: Session,
    follow: Follow,
    stream: Stream,
    opened: Reply | None,
    coming: Coming | None,
) -> Ask:
    """The ask for a stream's next page; ``opened`` or ``coming`` may be its answer already."""
    if stream.mode is Mode.BY_DEFINITION:
        return lambda: Read(stream, *read_part(session.batcher, stream))
    place = place_of(stream.next_link)
    if place is not None:
        return _reading_members(session, stream, place)
    link = link_of(stream)
    if coming is not None and coming.link == link:
        return lambda: _read(stream, coming.onward, coming.reply.result)
    onward = Onward(session.batcher, follow)
    get = session.batcher.get
    return lambda: _read(stream, onward, lambda: opened or get(target_of(link), watch=onward))


def _read(stream: Stream, onward: Onward, receive: Callable[[], Reply]) -> Read:
    """Understand a page while the one behind it is on its way."""
    onward.await_page()
    reply = receive()
    coming = onward.behind(reply)
    return Read(stream, turned(stream, reply), coming=coming)


def _reading_members(session: Session, stream: Stream, place: Place) -> Ask:
    """Which groups come next is looked up here, on the loader's thread."""
    batcher, top = session.batcher, stream.page_size
    with session.database.begin() as connection:
        number = session.lease.connection_id
        groups = live_ids_after(connection, number, stream.resource, place.after, place.room)
    return lambda: Read(stream, read_member_page(batcher, place, groups, top=top))
