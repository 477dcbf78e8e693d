"""Plain lists and reads by id: users, groups, memberships, sites, the organization."""

from dataclasses import dataclass, replace

from sandbox.tenant.errors import GraphError, not_found
from sandbox.tenant.fields import GROUPS, SITES, USERS, Fields
from sandbox.tenant.graph.call import Call, entity, list_view, page
from sandbox.tenant.graph.loops import following, loops_now
from sandbox.tenant.members import Member
from sandbox.tenant.shelf import Shelf, State
from sandbox.tenant.tokens import Cursor
from sandbox.tenant.wire import encode


def empty_now(call: Call, cursor: Cursor) -> bool:
    """Whether this page of the walk is one of those that are empty for no reason."""
    every = call.tenant.knobs.empty_page_every
    if call.tenant.knobs.loop == "empty" and loops_now(call, cursor):
        return True
    return every > 1 and cursor.page % every == every - 1


def repeat_now(call: Call, cursor: Cursor) -> bool:
    every = call.tenant.knobs.repeat_every
    return every > 0 and cursor.page % every == every - 1


@dataclass(frozen=True, slots=True)
class Listing:
    """One call of a plain list: where it is in its walk, and how its pages are written."""

    call: Call
    link: str
    context: str
    cursor: Cursor

    def answer(self, texts: list[bytes], at: int | None = None) -> bytes:
        """A page of a list that goes on at the position `at`, or ends."""
        planned = None if at is None else replace(self.cursor, at=at, page=self.cursor.page + 1)
        ahead = following(self.call, self.cursor, planned)
        if ahead is None:
            return page(self.context, texts)
        link = self.call.link(self.link, ahead, keep=self.call.first_query())
        return page(self.context, texts, nextLink=link)

    def nothing(self) -> bytes:
        """An empty page after which the list goes on."""
        return self.answer([], self.cursor.at)


def repeated(call: Call, cursor: Cursor, texts: list[bytes], at: int) -> tuple[list[bytes], int]:
    """The page with its first object twice, and the last one again on the next page."""
    if repeat_now(call, cursor) and len(texts) > 1:
        return [*texts, texts[0]], at - 1
    return texts, at


def shelf_list(call: Call, link: str, fields: Fields, context: str, size: int) -> bytes:
    """A list of one resource, `size` objects a page unless there is a `$top`."""
    call.query.allow("$select", "$top")
    cursor = call.list_cursor(link, fields, size)
    if fields.resource in ("users", "groups"):
        call.serve(cursor.top, call.tenant.knobs.slow_page)
    shelf = call.tenant.shelf(fields.resource)
    listing = Listing(call, link, context, cursor)
    if empty_now(call, cursor):
        return listing.nothing()
    stop = cursor.at + cursor.top
    texts = shelf.texts(cursor.at, stop, list_view(fields, cursor.mask))
    if stop >= shelf.total:
        return listing.answer(texts)
    texts, stop = repeated(call, cursor, texts, stop)
    return listing.answer(texts, stop)


def users(call: Call) -> bytes:
    call.require("users")
    return shelf_list(call, "users", USERS, "users", call.tenant.knobs.list_page)


def groups(call: Call) -> bytes:
    call.require("groups")
    return shelf_list(call, "groups", GROUPS, "groups", call.tenant.knobs.list_page)


def live_index(shelf: Shelf, object_id: str) -> int:
    index = shelf.index_of(object_id)
    if index is None or shelf.state(index) is not State.LIVE:
        raise not_found(object_id)
    return index


def by_id(call: Call, fields: Fields, context: str, object_id: str) -> bytes:
    """One object, by id."""
    call.require(fields.resource)
    call.query.allow("$select")
    shelf = call.tenant.shelf(fields.resource)
    index = live_index(shelf, object_id)
    return entity(context, shelf.text(index, list_view(fields, call.mask(fields))))


# -- memberships --------------------------------------------------------------------------------


def members(call: Call, group_id: str) -> bytes:
    """/groups/{id}/members: those whose both ends are live, of every type."""
    call.require("group_members")
    call.query.allow("$select", "$top")
    tenant, link = call.tenant, f"groups/{group_id}/members"
    group = live_index(tenant.groups, group_id)
    cursor = call.list_cursor(link, USERS, tenant.knobs.member_page or tenant.knobs.list_page)
    call.serve(cursor.top, tenant.knobs.slow_member_page)
    listing = Listing(call, link, "directoryObjects", cursor)
    if empty_now(call, cursor):
        return listing.nothing()
    texts: list[bytes] = []
    if not tenant.shows_members(group):
        return listing.answer(texts)
    slot, slots = cursor.at, tenant.members.slots(group)
    while slot < slots and len(texts) < cursor.top:
        member = tenant.members.at(group, slot)
        if member and tenant.end_is_live(member):
            texts.append(_member_text(call, member, cursor.mask))
        slot += 1
    return listing.answer(texts, slot if slot < slots else None)


def _member_text(call: Call, member: Member, mask: int) -> bytes:
    head = encode({"@odata.type": f"#microsoft.graph.{member.type}"})[:-1]
    view = list_view(USERS, mask)
    if member.type == "user":
        index = call.tenant.users.index_of(member.id)
        if index is not None:
            return head + b"," + call.tenant.users.text(index, view)[1:]
    if member.type == "group":
        index = call.tenant.groups.index_of(member.id)
        if index is not None:
            names = tuple(n for n in view.names if n in GROUPS.names)
            return head + b"," + call.tenant.groups.text(index, view._replace(names=names))[1:]
    return head + b"," + encode({"id": member.id, "displayName": None})[1:]


def member_of(call: Call, fields: Fields, object_id: str) -> bytes:
    """/users/{id}/memberOf and /groups/{id}/memberOf: the groups that it is directly in."""
    call.require("group_members")
    call.query.allow("$select", "$top")
    tenant, link = call.tenant, f"{fields.resource}/{object_id}/memberOf"
    live_index(tenant.shelf(fields.resource), object_id)
    cursor = call.list_cursor(link, GROUPS, tenant.knobs.list_page)
    listing = Listing(call, link, "directoryObjects", cursor)
    if empty_now(call, cursor):
        return listing.nothing()
    view = list_view(GROUPS, cursor.mask)
    texts: list[bytes] = []
    for group in tenant.members.groups_of(object_id, cursor.at):
        if tenant.groups.state(group) is not State.LIVE or not tenant.shows_members(group):
            continue
        if len(texts) == cursor.top:
            return listing.answer(texts, group)
        head = b'{"@odata.type":"#microsoft.graph.group",'
        texts.append(head + tenant.groups.text(group, view)[1:])
    return listing.answer(texts)


# -- sites --------------------------------------------------------------------------------------


def all_sites(call: Call) -> bytes:
    """/sites/getAllSites, whose next links have another path."""
    call.require("sites")
    if call.tenant.knobs.refuse_get_all_sites:
        raise GraphError(403, "accessDenied", "Access denied")
    size = call.tenant.knobs.site_page
    return shelf_list(call, "sites/oneDrive.getAllSites", SITES, "sites", size)


def search_sites(call: Call) -> bytes:
    """/sites?search=*: from the search index, which does not know personal sites."""
    call.require("sites")
    call.query.allow("search", "$select", "$top")
    if call.query.token is None and call.query.params.get("search") != "*":
        raise GraphError(400, "invalidRequest", "Only a search for * is simulated.")
    tenant = call.tenant
    cursor = call.list_cursor("sites", SITES, tenant.knobs.site_page)
    listing = Listing(call, "sites", "sites", cursor)
    if empty_now(call, cursor):
        return listing.nothing()
    view, stop = list_view(SITES, cursor.mask), cursor.at + cursor.top
    texts = [
        tenant.sites.text(index, view)
        for index in range(cursor.at, min(stop, tenant.sites.total))
        if tenant.sites.state(index) is State.LIVE
        and not tenant.sites.props(index).get("isPersonalSite")
    ]
    return listing.answer(texts, stop if stop < tenant.sites.total else None)


def site(call: Call, site_id: str) -> bytes:
    """A site by its composite id, or by its web GUID alone."""
    call.require("sites")
    call.query.allow("$select")
    shelf = call.tenant.sites
    index = shelf.index_of(site_id.rpartition(",")[2])
    known = index is not None and shelf.state(index) is State.LIVE
    if index is None or not known or not _names(shelf.props(index)["id"], site_id):
        raise GraphError(404, "itemNotFound", "Requested site could not be found")
    return entity("sites", shelf.text(index, list_view(SITES, call.mask(SITES))))


def _names(composite_id: str, asked: str) -> bool:
    return "," not in asked or composite_id.lower() == asked.lower()


def organization(call: Call) -> bytes:
    call.require("organization")
    call.query.allow("$select")
    tenant = call.tenant
    found = {
        "id": tenant.tenant_id,
        "displayName": tenant.display_name,
        "deletedDateTime": None,
        "businessPhones": [],
        "countryLetterCode": "SE",
        "createdDateTime": "2019-03-11T08:30:00Z",
        "tenantType": "AAD",
        "verifiedDomains": [{"name": tenant.domain, "isDefault": True, "isInitial": True}],
    }
    select = call.query.params.get("$select")
    names = select.split(",") if select else list(found)
    return page("organization", [encode({name: found.get(name) for name in names})])
