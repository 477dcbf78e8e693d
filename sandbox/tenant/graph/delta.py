"""Deltas: rounds over all objects, and over the changes in the log.

A page shows objects as they are when it is served. The delta link of a first round starts at the
log position at which that round began, so the next round reports what changed meanwhile.
"""

from dataclasses import dataclass, field, replace

from sandbox.tenant.directory.fields import (
    GROUPS,
    MANAGER,
    MANAGERS,
    MEMBERS,
    USERS,
    ResourceFields,
)
from sandbox.tenant.directory.members import Edges, LoggedEdge, Member
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
    if "signInActivity" in call.query.params.get("$select", "").split(","):
        raise GraphError(
            400,
            "BadRequest",
            "Delta query is not supported for the following properties: signInActivity",
        )
    return _serve_delta(call, USERS)


def serve_groups_delta(call: GraphCall) -> bytes:
    call.check_permission("groups")
    return _serve_delta(call, GROUPS)


def serve_others_delta(call: GraphCall, fields: ResourceFields, link: str = "") -> bytes:
    """Return a page of a resource that has no options or oddities of its own.

    `link` is another path at which Graph serves it as well.
    """
    call.check_permission(fields.resource)
    return _serve_delta(call, fields, link)


def _serve_delta(call: GraphCall, fields: ResourceFields, link: str = "") -> bytes:
    link, knobs = link or fields.delta_path, call.tenant.options
    if knobs.no_delta:
        raise GraphError(
            knobs.no_delta_status,
            knobs.no_delta_code,
            "Differential query is not supported in this type of tenant.",
        )
    call.query.check_parameters("$select", "$top", "$deltatoken")
    cursor = _read_cursor(call, fields, link)
    if fields.has_relation(cursor.select_mask, MANAGER):
        call.check_permission(MANAGERS)
    if cursor.mode is TokenMode.ROUND_START and call.query.params.get("$deltatoken") == LATEST:
        return _render_answer(
            call, fields, link, cursor, DeltaPage([], cursor.position, is_last=True)
        )
    if is_empty_page(call, cursor):
        return _render_answer(
            call, fields, link, cursor, DeltaPage([], cursor.position, cursor.offset)
        )
    leaf = _read_page(call, fields, cursor)
    call.check_page_size(len(leaf.texts), knobs.time_out_above)
    return _render_answer(call, fields, link, cursor, leaf)


def _read_page(call: GraphCall, fields: ResourceFields, cursor: TokenCursor) -> DeltaPage:
    initial = cursor.mode is TokenMode.INITIAL
    edges = tuple(
        one
        for one in call.tenant.edges.values()
        if one.parents.fields.resource == fields.resource
        and fields.has_relation(cursor.select_mask, one.relation)
    )
    if not edges and fields is not GROUPS:
        return (_read_all_objects if initial else _read_changed_objects)(call, fields, cursor)
    page = _EdgePage(call, fields, cursor, edges)
    return _read_all_parents(page) if initial else _read_changed_parents(page)


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
        if change is None or (isinstance(change, frozenset) and change & tracked):
            found[index] = None
        at += 1
    texts = [
        shelf.render(i, view)
        if shelf.state_at(i) is LifecycleState.LIVE
        else _render_tombstone(shelf, i)
        for i in found
    ]
    return DeltaPage(texts, at, is_last=at >= len(log))


# -- objects with edges -------------------------------------------------------------------------


@dataclass(slots=True)
class _EdgePage:
    """The parents of one page and the edges to report, in the order they were added."""

    call: GraphCall
    fields: ResourceFields
    cursor: TokenCursor
    edges: tuple[Edges, ...]
    """The relations to report."""
    found: dict[int, dict[tuple[str, str], Member]] = field(default_factory=dict)
    """The edges of each parent, by relation and id."""
    edge_count: int = 0

    @property
    def shelf(self) -> ObjectStore:
        return self.call.tenant.store(self.fields.resource)

    def find_edges(self, relation: str) -> Edges | None:
        return next((one for one in self.edges if one.relation == relation), None)

    def is_full(self) -> bool:
        knobs = self.call.tenant.options
        return (
            len(self.found) >= choose_page_size(self.call, self.cursor)
            or self.edge_count >= 4 * knobs.members_per_entry
        )

    def add_parent(self, parent: int, offset: int) -> int:
        """Add a parent and a slice of its edges; return the next slice's start, 0 at the end.

        The slots of all relations count as one sequence. As slots are only added, one that
        grows meanwhile lets others be told twice, and none be missed.
        """
        tenant, entry = self.call.tenant, self.found.setdefault(parent, {})
        if self.shelf.state_at(parent) is not LifecycleState.LIVE:
            return 0
        left, first = tenant.options.members_per_entry, 0
        total = sum(edges.count_slots(parent) for edges in self.edges)
        for edges in self.edges:
            slots = edges.count_slots(parent)
            start = max(offset - first, 0) if tenant.shows(edges, parent) else slots
            for slot in range(start, slots):
                member = edges.member_at(parent, slot)
                if member and tenant.is_end_live(member):
                    entry[edges.relation, member.id] = member
                    self.edge_count += 1
                    left -= 1
                    if not left:
                        ahead = first + slot + 1
                        return ahead if ahead < total else 0
            first += slots
        return 0

    def add_edge(self, parent: int, edges: Edges, member: Member) -> None:
        if not self.call.tenant.shows(edges, parent):
            return
        self.found.setdefault(parent, {})[edges.relation, member.id] = member
        self.edge_count += 1

    def render(self) -> list[bytes]:
        return [self._render_parent(parent, found) for parent, found in self.found.items()]

    def _render_parent(self, parent: int, found: dict[tuple[str, str], Member]) -> bytes:
        if self.shelf.state_at(parent) is not LifecycleState.LIVE:
            return _render_tombstone(self.shelf, parent)
        text = self.shelf.render(
            parent, build_delta_projection(self.fields, self.cursor.select_mask)
        )
        for edges in self.edges:
            members = (one for (relation, _), one in found.items() if relation == edges.relation)
            entries = [entry for m in members if (entry := self._render_edge(edges, parent, m))]
            if entries:
                name = edges.relation.encode()
                text = b'%b,"%b@delta":[%b]}' % (text[:-1], name, b",".join(entries))
        return text

    def _render_edge(self, edges: Edges, parent: int, member: Member) -> bytes | None:
        """Render the edge as it is now; None if an end is deleted."""
        tenant = self.call.tenant
        text = f'{{"@odata.type":"#microsoft.graph.{member.type}","id":"{member.id}"'
        on_paper = edges.slot_of(parent, member.id) is not None
        if on_paper and tenant.is_end_live(member):
            return f"{text}}}".encode()
        tells = tenant.options.removals_on_delete or edges.relation == MANAGER
        if on_paper and not tells:
            return None
        return f'{text},"@removed":{{"reason":"deleted"}}}}'.encode()


def _read_all_parents(page: _EdgePage) -> DeltaPage:
    shelf, knobs, cursor = page.shelf, page.call.tenant.options, page.cursor
    at, offset = cursor.position, cursor.offset
    while at < shelf.total and not page.is_full():
        if shelf.state_at(at) is LifecycleState.LIVE or knobs.initial_tombstones:
            offset = page.add_parent(at, offset)
            if offset:
                break
        at, offset = at + 1, 0
    return DeltaPage(page.render(), at, offset, is_last=at >= shelf.total)


def _read_changed_parents(page: _EdgePage) -> DeltaPage:
    log = page.call.tenant.change_log[page.fields.resource]
    tracked = frozenset(build_delta_projection(page.fields, page.cursor.select_mask).names)
    at, offset = page.cursor.position, page.cursor.offset
    while at < len(log) and not page.is_full():
        parent, change = log[at]
        if change is None:
            offset = page.add_parent(parent, offset)
            if offset:
                break
        elif isinstance(change, frozenset):
            if change & tracked:
                page.found.setdefault(parent, {})
        else:
            _add_logged_edge(page, parent, change)
        at, offset = at + 1, 0
    return DeltaPage(page.render(), at, offset, is_last=at >= len(log))


def _add_logged_edge(page: _EdgePage, parent: int, change: Member | LoggedEdge) -> None:
    told = change if isinstance(change, LoggedEdge) else LoggedEdge(MEMBERS, change)
    edges = page.find_edges(told.relation)
    if edges:
        page.add_edge(parent, edges, told.member)
