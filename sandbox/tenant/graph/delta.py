"""users/delta and groups/delta: rounds over everything, and over what the log says since.

A page shows objects as they are when it is served. The link at the end of a first round starts at
the log's end of when that round began, so whatever changed meanwhile is told by the next round.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sandbox.tenant.errors import GraphError, bad_request
from sandbox.tenant.fields import GROUPS, MEMBERS, USERS, Fields
from sandbox.tenant.graph.call import LATEST, ROOT, Call, delta_view, page
from sandbox.tenant.graph.lists import empty_now, repeat_now
from sandbox.tenant.graph.loops import following
from sandbox.tenant.members import Member
from sandbox.tenant.shelf import Shelf, State
from sandbox.tenant.tokens import Cursor, Mode
from sandbox.tenant.wire import encode


@dataclass(slots=True)
class Leaf:
    """What one page holds, and where the walk goes on (`done`: nowhere)."""

    texts: list[bytes]
    at: int
    offset: int = 0
    done: bool = False


def users_delta(call: Call) -> bytes:
    call.require("users")
    return _delta(call, USERS, _all_users, _changed_users)


def groups_delta(call: Call) -> bytes:
    call.require("groups")
    return _delta(call, GROUPS, _all_groups, _changed_groups)


Walk = Callable[[Call, Cursor], Leaf]


def _delta(call: Call, fields: Fields, everything: Walk, changed: Walk) -> bytes:
    link, knobs = f"{fields.resource}/delta", call.tenant.knobs
    if knobs.no_delta:
        raise GraphError(
            knobs.no_delta_status,
            knobs.no_delta_code,
            "Differential query is not supported in this type of tenant.",
        )
    call.query.allow("$select", "$top", "$deltatoken")
    cursor = _cursor(call, fields, link)
    if cursor.mode is Mode.DELTA and call.query.params.get("$deltatoken") == LATEST:
        return _answer(call, fields, link, cursor, Leaf([], cursor.at, done=True))
    if empty_now(call, cursor):
        return _answer(call, fields, link, cursor, Leaf([], cursor.at, cursor.offset))
    leaf = (everything if cursor.mode is Mode.FIRST else changed)(call, cursor)
    call.serve(len(leaf.texts), knobs.slow_page)
    return _answer(call, fields, link, cursor, leaf)


def _cursor(call: Call, fields: Fields, link: str) -> Cursor:
    tenant, cursor = call.tenant, call.cursor(link)
    end = len(tenant.log[fields.resource])
    if cursor is None:
        latest = call.query.params.get("$deltatoken") == LATEST
        mode = Mode.DELTA if latest else Mode.FIRST
        at = end if latest else 0
        top = call.top(0)
        return Cursor(mode, tenant.delta_epoch, call.mask(fields), base=end, at=at, top=top)
    call.refuse_unknown(fields, cursor.mask)
    named_delta = call.query.before.endswith("$deltatoken=")
    if cursor.mode is Mode.LIST or (cursor.mode is Mode.DELTA) is not named_delta:
        raise bad_request("The token is of another kind.")
    expired = call.outlived(tenant.knobs.delta_token_life)
    if expired or cursor.epoch != tenant.delta_epoch or cursor.base > end:
        raise _gone(call, link)
    return replace(cursor, mode=Mode.ROUND) if cursor.mode is Mode.DELTA else cursor


def page_of(call: Call, cursor: Cursor) -> int:
    """Objects on a page: a `$top` is heeded where it is smaller than the service's own size."""
    return min(cursor.top or call.tenant.knobs.delta_page, call.tenant.knobs.delta_page)


def _gone(call: Call, link: str) -> GraphError:
    knobs = call.tenant.knobs
    headers = {"location": f"{ROOT}{link}?$deltatoken="} if knobs.expired_location else None
    return GraphError(410, knobs.expired_code, "The sync state is not found.", headers)


def _answer(call: Call, fields: Fields, link: str, cursor: Cursor, leaf: Leaf) -> bytes:
    texts, at = leaf.texts, leaf.at
    plain = not leaf.done and not leaf.offset and at - cursor.at > 1
    if plain and len(texts) > 1 and repeat_now(call, cursor):
        texts, at = [*texts, texts[0]], at - 1
    planned = replace(cursor, at=at, offset=leaf.offset, page=cursor.page + 1)
    ahead = following(call, cursor, None if leaf.done else planned)
    if ahead is not None:
        return page(fields.resource, texts, nextLink=call.link(link, ahead))
    at = cursor.base if cursor.mode is Mode.FIRST else leaf.at
    start = Cursor(Mode.DELTA, cursor.epoch, cursor.mask, base=at, at=at, top=cursor.top)
    return page(fields.resource, texts, deltaLink=call.link(link, start, "$deltatoken"))


def _tombstone(shelf: Shelf, index: int) -> bytes:
    reason = shelf.state(index).value
    return encode({"id": shelf.id_at(index), "@removed": {"reason": reason}})


# -- users --------------------------------------------------------------------------------------


def _all_users(call: Call, cursor: Cursor) -> Leaf:
    shelf, knobs = call.tenant.users, call.tenant.knobs
    stop = min(cursor.at + page_of(call, cursor), shelf.total)
    texts = shelf.texts(cursor.at, stop, delta_view(USERS, cursor.mask))
    if knobs.tombstones_first and shelf.overlay:
        gone = (i for i in range(cursor.at, stop) if shelf.state(i) is not State.LIVE)
        texts = [*texts, *(_tombstone(shelf, index) for index in gone)]
    return Leaf(texts, stop, done=stop >= shelf.total)


def _changed_users(call: Call, cursor: Cursor) -> Leaf:
    shelf, log = call.tenant.users, call.tenant.log["users"]
    view = delta_view(USERS, cursor.mask)
    tracked, at, found = frozenset(view.names), cursor.at, dict[int, None]()
    while at < len(log) and len(found) < page_of(call, cursor):
        index, change = log[at]
        if not isinstance(change, frozenset) or change & tracked:
            found[index] = None
        at += 1
    texts = [
        shelf.text(i, view) if shelf.state(i) is State.LIVE else _tombstone(shelf, i) for i in found
    ]
    return Leaf(texts, at, done=at >= len(log))


# -- groups -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Groups:
    """The groups of one page and the members to tell of, in the order they came up."""

    call: Call
    cursor: Cursor
    found: dict[int, dict[str, Member]] = field(default_factory=dict)
    told: int = 0

    @property
    def with_members(self) -> bool:
        mask = self.cursor.mask
        return not mask or bool(mask >> GROUPS.known.index(MEMBERS) & 1)

    def full(self) -> bool:
        knobs = self.call.tenant.knobs
        return (
            len(self.found) >= page_of(self.call, self.cursor)
            or self.told >= 4 * knobs.member_slice
        )

    def whole(self, group: int, offset: int) -> int:
        """Tell of a group and a slice of its members; where the next slice starts, 0 at the end."""
        tenant, entry = self.call.tenant, self.found.setdefault(group, {})
        if not self.with_members or tenant.groups.state(group) is not State.LIVE:
            return 0
        if not tenant.shows_members(group):
            return 0
        slots, left = tenant.members.slots(group), tenant.knobs.member_slice
        for slot in range(offset, slots):
            member = tenant.members.at(group, slot)
            if member and tenant.end_is_live(member):
                entry[member.id] = member
                self.told += 1
                left -= 1
                if not left:
                    return slot + 1 if slot + 1 < slots else 0
        return 0

    def edge(self, group: int, member: Member) -> None:
        if not self.call.tenant.shows_members(group):
            return
        self.found.setdefault(group, {})[member.id] = member
        self.told += 1

    def texts(self) -> list[bytes]:
        return [self._text(group, members) for group, members in self.found.items()]

    def _text(self, group: int, members: dict[str, Member]) -> bytes:
        shelf = self.call.tenant.groups
        if shelf.state(group) is not State.LIVE:
            return _tombstone(shelf, group)
        text = shelf.text(group, delta_view(GROUPS, self.cursor.mask))
        entries = [entry for m in members.values() if (entry := self._entry(group, m))]
        if not entries:
            return text
        return b'%b,"members@delta":[%b]}' % (text[:-1], b",".join(entries))

    def _entry(self, group: int, member: Member) -> bytes | None:
        """The edge as it is now; nothing for one that a dead end hides."""
        tenant = self.call.tenant
        text = f'{{"@odata.type":"#microsoft.graph.{member.type}","id":"{member.id}"'
        on_paper = tenant.members.slot_of(group, member.id) is not None
        if on_paper and tenant.end_is_live(member):
            return f"{text}}}".encode()
        if on_paper and not tenant.knobs.removals_on_delete:
            return None
        return f'{text},"@removed":{{"reason":"deleted"}}}}'.encode()


def _all_groups(call: Call, cursor: Cursor) -> Leaf:
    shelf, knobs = call.tenant.groups, call.tenant.knobs
    groups, at, offset = _Groups(call, cursor), cursor.at, cursor.offset
    while at < shelf.total and not groups.full():
        if shelf.state(at) is State.LIVE or knobs.tombstones_first:
            offset = groups.whole(at, offset)
            if offset:
                break
        at, offset = at + 1, 0
    return Leaf(groups.texts(), at, offset, done=at >= shelf.total)


def _changed_groups(call: Call, cursor: Cursor) -> Leaf:
    log = call.tenant.log["groups"]
    tracked = frozenset(delta_view(GROUPS, cursor.mask).names)
    groups, at, offset = _Groups(call, cursor), cursor.at, cursor.offset
    while at < len(log) and not groups.full():
        group, change = log[at]
        if isinstance(change, Member):
            if groups.with_members:
                groups.edge(group, change)
        elif change is None:
            offset = groups.whole(group, offset)
            if offset:
                break
        elif change & tracked:
            groups.found.setdefault(group, {})
        at, offset = at + 1, 0
    return Leaf(groups.texts(), at, offset, done=at >= len(log))
