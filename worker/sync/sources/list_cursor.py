"""The position of a walk through the lists below all objects of another resource. Pure.

It is kept in the stream's next link: the last parent that was begun, and where each unfinished list
goes on. Each list watches itself for a loop, so that one that never ends is given up alone.
"""

from typing import Final

import msgspec

from worker.graph.client import MAX_BATCH_ITEMS

MAX_IDLE_PAGES: Final = 50
"""Empty pages of a list in a row after which its next links form a loop."""

MAX_RESTARTS: Final = 2
"""How often one list starts again because Graph no longer knows its next link."""

_LINK_PREFIX: Final = "below:"
_ZERO: Final = "00000000-0000-0000-0000-000000000000"


class ListPlace(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one list goes on."""

    link: str
    page_no: int = 0
    """Pages that were read."""
    mark: str = ""
    """Digest of page 1, 2, 4, 8 ...; meeting it again is a loop (Brent's algorithm)."""
    idle: int = 0
    """Empty pages in a row."""
    restarts: int = 0

    def follow(self, link: str, digest: str) -> "ListPlace | None":
        """Return the place after a page with this digest, empty if it had nothing; None in a loop.

        Two pages of one list never hold the same.
        """
        number, idle = self.page_no + 1, 0 if digest else self.idle + 1
        if link == self.link or (digest and digest == self.mark) or idle > MAX_IDLE_PAGES:
            return None
        mark = digest if digest and number & (number - 1) == 0 else self.mark
        return ListPlace(link, number, mark, idle, self.restarts)

    def restart(self, link: str) -> "ListPlace | None":
        """Return the place at the start of the list, as a link expired; None if that is in vain."""
        return ListPlace(link, restarts=self.restarts + 1) if self.restarts < MAX_RESTARTS else None


class ListCursor(msgspec.Struct, frozen=True, omit_defaults=True):
    """The position of the walk."""

    after: str = _ZERO
    under_way: dict[str, ListPlace] = msgspec.field(default_factory=dict)
    is_second: bool = False
    """Whether it goes through the parents again that came or changed since the walk began."""

    @property
    def free_slots(self) -> int:
        """How many further lists fit into the next page."""
        return max(0, MAX_BATCH_ITEMS - len(self.under_way))

    @property
    def is_start(self) -> bool:
        """Whether no list has been read yet."""
        return self.after == _ZERO and not self.under_way and not self.is_second

    @property
    def link(self) -> str:
        return _LINK_PREFIX + msgspec.json.encode(self).decode()

    def find_next(self, parents: list[str], under_way: dict[str, ListPlace]) -> "ListCursor | None":
        """Return the cursor after a page that began the lists of ``parents``; None at the end."""
        if under_way or len(parents) == self.free_slots:
            after = parents[-1] if parents else self.after
            return ListCursor(after, under_way, self.is_second)
        return None if self.is_second else ListCursor(is_second=True)


FIRST_LIST_LINK: Final = ListCursor().link


def parse_list_cursor(link: str | None) -> ListCursor | None:
    """Return the cursor in a stream's next link, or None."""
    if link is None or not link.startswith(_LINK_PREFIX):
        return None
    return msgspec.json.decode(link.removeprefix(_LINK_PREFIX), type=ListCursor)
