"""users/delta and groups/delta: rounds over all objects, and over the changes in the log.

A page shows objects as they are when it is served. The delta link of a first round starts at the
log position at which that round began, so the next round reports what changed meanwhile.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sandbox.tenant.directory.fields import GROUPS, MEMBERS, USERS, ResourceFields
from sandbox.tenant.directory.members import Member
from sandbox.tenant.directory.object_store import LifecycleState, ObjectStore
from sandbox.tenant.directory.tokens import TokenCursor, TokenMode
from sandbox.tenant.errors import GraphError, build_bad_request
from sandbox.tenant.graph.call import (
    GRAPH_ROOT,
    LATEST,
    GraphCall,
    build_delta_projection,
    render_page,
)
from sandbox.tenant.graph.oddities import choose_next_cursor, is_empty_page, is_repeating_page
from sandbox.tenant.http import encode


@dataclass(slots=True)
class DeltaPage:
    """The content of one page, and where the walk continues (`is_last`: nowhere)."""

    texts: list[bytes]
    next_position: int
    next_slot: int = 0
    is_last: bool = False


def serve_users_delta(call: GraphCall) -> bytes:
    call.check_permission("users")
    return _serve_delta(call, USERS, _read_all_objects, _read_changed_objects)


def serve_others_delta(call: GraphCall, fields: ResourceFields) -> bytes:
    """Return a page of a resource that has no options or oddities of its own."""
    call.check_permission(fields.resource)
    return _serve_delta(call, fields, _read_all_objects, _read_changed_objects)


def serve_groups_delta(call: GraphCall) -> bytes:
    call.check_permission("groups")
    return _serve_delta(call, GROUPS, _read_all_groups, _read_changed_groups)


ReadDeltaPage = Callable[[GraphCall, ResourceFields, TokenCursor], DeltaPage]


def _serve_delta(
    call: GraphCall, fields: ResourceFields, everything: ReadDeltaPage, changed: ReadDeltaPage
) -> bytes:
    link, knobs = fields.declared.source.delta_path.strip("/"), call.tenant.options
    if knobs.no_delta:
        raise GraphError(
            knobs.no_delta_status,
            knobs.no_delta_code,
            "Differential query is not supported in this type of tenant.",
        )
    call.query.check_parameters("$select", "$top", "$deltatoken")
    cursor = _read_cursor(call, fields, link)
    if cursor.mode is TokenMode.ROUND_START and call.query.params.get("$deltatoken") == LATEST:
        return _render_answer(
            call, fields, link, cursor, DeltaPage([], cursor.position, is_last=True)
        )
    if is_empty_page(call, cursor):
        return _render_answer(
            call, fields, link, cursor, DeltaPage([], cursor.position, cursor.offset)
        )
    leaf = (everything if cursor.mode is TokenMode.INITIAL else changed)(call, fields, cursor)
    call.check_page_size(len(leaf.texts), knobs.time_out_above)
    return _render_answer(call, fields, link, cursor, leaf)


def _read_cursor(call: GraphCall, fields: ResourceFields, link: str) -> TokenCursor:
    tenant, cursor = call.tenant, call.read_cursor(link)
    end = len(tenant.change_log[fields.resource])
    if cursor is None:
        latest = call.query.params.get("$deltatoken") == LATEST
        mode = TokenMode.ROUND_START if latest else TokenMode.INITIAL
        at = end if latest else 0
        top = call.parse_top(0)
        return TokenCursor(
            mode,
            tenant.delta_epoch,
            call.parse_select(fields),
            next_round_at=end,
            position=at,
            page_size=top,
        )
    call.check_properties(fields, cursor.select_mask)
    named_delta = call.query.prefix.endswith("$deltatoken=")
    if cursor.mode is TokenMode.LIST or (cursor.mode is TokenMode.ROUND_START) is not named_delta:
        raise build_bad_request("The token is of another kind.")
    expired = call.has_expired_token(tenant.options.delta_token_ttl)
    if expired or cursor.epoch != tenant.delta_epoch or cursor.next_round_at > end:
        raise _build_gone(call, link)
    return replace(cursor, mode=TokenMode.ROUND) if cursor.mode is TokenMode.ROUND_START else cursor


def choose_page_size(call: GraphCall, cursor: TokenCursor) -> int:
    """Return the objects on a page: `$top` if it is smaller than the service's own size."""
    return min(
        cursor.page_size or call.tenant.options.delta_page_size, call.tenant.options.delta_page_size
    )


def _build_gone(call: GraphCall, link: str) -> GraphError:
    knobs = call.tenant.options
    headers = (
        {"location": f"{GRAPH_ROOT}{link}?$deltatoken="} if knobs.expired_token_location else None
    )
    return GraphError(410, knobs.expired_delta_code, "The sync state is not found.", headers)


def _render_answer(
    call: GraphCall, fields: ResourceFields, link: str, cursor: TokenCursor, leaf: DeltaPage
) -> bytes:
    texts, at = leaf.texts, leaf.next_position
    plain = not leaf.is_last and not leaf.next_slot and at - cursor.position > 1
    if plain and len(texts) > 1 and is_repeating_page(call, cursor):
        texts, at = [*texts, texts[0]], at - 1
    planned = replace(
        cursor, position=at, offset=leaf.next_slot, page_number=cursor.page_number + 1
    )
    ahead = choose_next_cursor(call, cursor, None if leaf.is_last else planned)
    if ahead is not None:
        return render_page(fields.resource, texts, nextLink=call.build_link(link, ahead))
    at = cursor.next_round_at if cursor.mode is TokenMode.INITIAL else leaf.next_position
    start = TokenCursor(
        TokenMode.ROUND_START,
        cursor.epoch,
        cursor.select_mask,
        next_round_at=at,
        position=at,
        page_size=cursor.page_size,
    )
    return render_page(
        fields.resource, texts, deltaLink=call.build_link(link, start, "$deltatoken")
    )


def _render_tombstone(shelf: ObjectStore, index: int) -> bytes:
    reason = shelf.state_at(index).value
    return encode({"id": shelf.id_at(index), "@removed": {"reason": reason}})


# -- users and others ---------------------------------------------------------------------------


def _read_all_objects(call: GraphCall, fields: ResourceFields, cursor: TokenCursor) -> DeltaPage:
    shelf, knobs = call.tenant.store(fields.resource), call.tenant.options
    stop = min(cursor.position + choose_page_size(call, cursor), shelf.total)
    texts = shelf.render_live(
        cursor.position, stop, build_delta_projection(fields, cursor.select_mask)
    )
    if knobs.initial_tombstones and shelf.overlay:
        gone = (
            i for i in range(cursor.position, stop) if shelf.state_at(i) is not LifecycleState.LIVE
        )
        texts = [*texts, *(_render_tombstone(shelf, index) for index in gone)]
    return DeltaPage(texts, stop, is_last=stop >= shelf.total)


def _read_changed_objects(
    call: GraphCall, fields: ResourceFields, cursor: TokenCursor
) -> DeltaPage:
    shelf, log = call.tenant.store(fields.resource), call.tenant.change_log[fields.resource]
    view = build_delta_projection(fields, cursor.select_mask)
    tracked, at, found = frozenset(view.names), cursor.position, dict[int, None]()
    while at < len(log) and len(found) < choose_page_size(call, cursor):
        index, change = log[at]
        if not isinstance(change, frozenset) or change & tracked:
            found[index] = None
        at += 1
    texts = [
        shelf.render(i, view)
        if shelf.state_at(i) is LifecycleState.LIVE
        else _render_tombstone(shelf, i)
        for i in found
    ]
    return DeltaPage(texts, at, is_last=at >= len(log))


# -- groups -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _GroupPage:
    """The groups of one page and the members to report, in the order they were added."""

    call: GraphCall
    cursor: TokenCursor
    found: dict[int, dict[str, Member]] = field(default_factory=dict)
    member_count: int = 0

    @property
    def with_members(self) -> bool:
        mask = self.cursor.select_mask
        return not mask or bool(mask >> GROUPS.known.index(MEMBERS) & 1)

    def is_full(self) -> bool:
        knobs = self.call.tenant.options
        return (
            len(self.found) >= choose_page_size(self.call, self.cursor)
            or self.member_count >= 4 * knobs.members_per_entry
        )

    def add_group(self, group: int, offset: int) -> int:
        """Add a group and a slice of its members; return the next slice's start, 0 at the end."""
        tenant, entry = self.call.tenant, self.found.setdefault(group, {})
        if not self.with_members or tenant.groups.state_at(group) is not LifecycleState.LIVE:
            return 0
        if not tenant.has_visible_members(group):
            return 0
        slots, left = tenant.members.count_slots(group), tenant.options.members_per_entry
        for slot in range(offset, slots):
            member = tenant.members.member_at(group, slot)
            if member and tenant.is_end_live(member):
                entry[member.id] = member
                self.member_count += 1
                left -= 1
                if not left:
                    return slot + 1 if slot + 1 < slots else 0
        return 0

    def add_member(self, group: int, member: Member) -> None:
        if not self.call.tenant.has_visible_members(group):
            return
        self.found.setdefault(group, {})[member.id] = member
        self.member_count += 1

    def render(self) -> list[bytes]:
        return [self._render_group(group, members) for group, members in self.found.items()]

    def _render_group(self, group: int, members: dict[str, Member]) -> bytes:
        shelf = self.call.tenant.groups
        if shelf.state_at(group) is not LifecycleState.LIVE:
            return _render_tombstone(shelf, group)
        text = shelf.render(group, build_delta_projection(GROUPS, self.cursor.select_mask))
        entries = [entry for m in members.values() if (entry := self._render_member(group, m))]
        if not entries:
            return text
        return b'%b,"members@delta":[%b]}' % (text[:-1], b",".join(entries))

    def _render_member(self, group: int, member: Member) -> bytes | None:
        """Render the edge as it is now; None if an end is deleted."""
        tenant = self.call.tenant
        text = f'{{"@odata.type":"#microsoft.graph.{member.type}","id":"{member.id}"'
        on_paper = tenant.members.slot_of(group, member.id) is not None
        if on_paper and tenant.is_end_live(member):
            return f"{text}}}".encode()
        if on_paper and not tenant.options.removals_on_delete:
            return None
        return f'{text},"@removed":{{"reason":"deleted"}}}}'.encode()


def _read_all_groups(call: GraphCall, _: ResourceFields, cursor: TokenCursor) -> DeltaPage:
    shelf, knobs = call.tenant.groups, call.tenant.options
    groups, at, offset = _GroupPage(call, cursor), cursor.position, cursor.offset
    while at < shelf.total and not groups.is_full():
        if shelf.state_at(at) is LifecycleState.LIVE or knobs.initial_tombstones:
            offset = groups.add_group(at, offset)
            if offset:
                break
        at, offset = at + 1, 0
    return DeltaPage(groups.render(), at, offset, is_last=at >= shelf.total)


def _read_changed_groups(call: GraphCall, _: ResourceFields, cursor: TokenCursor) -> DeltaPage:
    log = call.tenant.change_log["groups"]
    tracked = frozenset(build_delta_projection(GROUPS, cursor.select_mask).names)
    groups, at, offset = _GroupPage(call, cursor), cursor.position, cursor.offset
    while at < len(log) and not groups.is_full():
        group, change = log[at]
        if isinstance(change, Member):
            if groups.with_members:
                groups.add_member(group, change)
        elif change is None:
            offset = groups.add_group(group, offset)
            if offset:
                break
        elif change & tracked:
            groups.found.setdefault(group, {})
        at, offset = at + 1, 0
    return DeltaPage(groups.render(), at, offset, is_last=at >= len(log))
