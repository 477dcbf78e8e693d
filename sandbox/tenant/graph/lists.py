"""Plain lists and reads by id: users, groups, their edges, sites, the organization."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sandbox.tenant.directory.fields import (
    GROUPS,
    SERVICE_PRINCIPALS,
    SITES,
    SUBSCRIBED_SKUS,
    USERS,
    ResourceFields,
)
from sandbox.tenant.directory.members import Member
from sandbox.tenant.directory.object_store import LifecycleState, ObjectStore
from sandbox.tenant.directory.templates.template import Props
from sandbox.tenant.directory.tokens import TokenCursor
from sandbox.tenant.errors import GraphError, build_not_found
from sandbox.tenant.graph.call import GraphCall, build_list_projection, render_object, render_page
from sandbox.tenant.graph.oddities import (
    choose_next_cursor,
    is_empty_page,
    repeat_objects,
)
from sandbox.tenant.http import encode


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a plain list: its position in the walk, and how it is rendered."""

    call: GraphCall
    link: str
    context: str
    cursor: TokenCursor

    def render(self, texts: list[bytes], at: int | None = None) -> bytes:
        """Render a page of a list that continues at the position `at`, or ends."""
        planned = (
            None
            if at is None
            else replace(self.cursor, position=at, page_number=self.cursor.page_number + 1)
        )
        ahead = choose_next_cursor(self.call, self.cursor, planned)
        if ahead is None:
            return render_page(self.context, texts)
        link = self.call.build_link(self.link, ahead, keep=self.call.get_first_query())
        return render_page(self.context, texts, nextLink=link)

    def render_empty(self) -> bytes:
        """Render an empty page after which the list continues."""
        return self.render([], self.cursor.position)


def list_objects(
    call: GraphCall, link: str, fields: ResourceFields, context: str, size: int
) -> bytes:
    """Return a page of a list, with `size` objects unless there is a `$top`."""
    call.query.check_parameters("$select", "$top")
    cursor = call.read_list_cursor(link, fields, size)
    if fields.resource in ("users", "groups"):
        call.check_page_size(cursor.page_size, call.tenant.options.time_out_above)
    shelf = call.tenant.store(fields.resource)
    listing = ListPage(call, link, context, cursor)
    if is_empty_page(call, cursor):
        return listing.render_empty()
    stop = cursor.position + cursor.page_size
    texts = shelf.render_live(
        cursor.position, stop, build_list_projection(fields, cursor.select_mask)
    )
    if stop >= shelf.total:
        return listing.render(texts)
    texts, stop = repeat_objects(call, cursor, texts, stop)
    return listing.render(texts, stop)


def list_matching(
    call: GraphCall,
    link: str,
    fields: ResourceFields,
    size: int,
    keeps: Callable[[Props], bool],
) -> bytes:
    """Return a page of the objects that `keeps` accepts; each page but the last is full."""
    cursor = call.read_list_cursor(link, fields, size)
    listing = ListPage(call, link, fields.path.rpartition("/{id}/")[2], cursor)
    if is_empty_page(call, cursor):
        return listing.render_empty()
    shelf = call.tenant.store(fields.resource)
    view = build_list_projection(fields, cursor.select_mask)
    texts: list[bytes] = []
    for index in range(cursor.position, shelf.total):
        if shelf.state_at(index) is not LifecycleState.LIVE or not keeps(shelf.props_at(index)):
            continue
        if len(texts) == cursor.page_size:
            return listing.render(texts, index)
        texts.append(shelf.render(index, view))
    return listing.render(texts)


def list_groups(call: GraphCall) -> bytes:
    call.check_permission("groups")
    return list_objects(call, "groups", GROUPS, "groups", call.tenant.options.list_page_size)


def list_others(call: GraphCall, fields: ResourceFields, path: str = "") -> bytes:
    """Return a page of a resource that has no options or oddities of its own.

    `path` is another one at which Graph serves it as well.
    """
    call.check_permission(fields.resource)
    path = path or fields.path
    return list_objects(call, path, fields, path, call.tenant.options.list_page_size)


def list_skus(call: GraphCall) -> bytes:
    """/subscribedSkus: one page, with `$select` at most."""
    call.check_permission(SUBSCRIBED_SKUS.resource)
    call.query.check_parameters("$select")
    shelf, path = call.tenant.store(SUBSCRIBED_SKUS.resource), SUBSCRIBED_SKUS.path
    view = build_list_projection(SUBSCRIBED_SKUS, call.parse_select(SUBSCRIBED_SKUS))
    return render_page(path, shelf.render_live(0, shelf.total, view))


def find_live(shelf: ObjectStore, object_id: str) -> int:
    index = shelf.index_of(object_id)
    if index is None or shelf.state_at(index) is not LifecycleState.LIVE:
        raise build_not_found(object_id)
    return index


def get_object(call: GraphCall, fields: ResourceFields, context: str, object_id: str) -> bytes:
    """Return one object by id."""
    call.check_permission(fields.resource)
    call.query.check_parameters("$select")
    shelf = call.tenant.store(fields.resource)
    index = find_live(shelf, object_id)
    return render_object(
        context, shelf.render(index, build_list_projection(fields, call.parse_select(fields)))
    )


# -- memberships and other edges ----------------------------------------------------------------


def list_edges(
    call: GraphCall, parent_id: str, fields: ResourceFields, resource: str, path: str = ""
) -> bytes:
    """/groups/{id}/members and the like: ends of every type, if both ends of the edge are live."""
    call.check_permission(resource)
    call.query.check_parameters("$select", "$top")
    tenant, edges = call.tenant, call.tenant.edges[resource]
    link, knobs = f"{path or fields.path}/{parent_id}/{edges.relation}", call.tenant.options
    parent = find_live(edges.parents, parent_id)
    cursor = call.read_list_cursor(link, USERS, knobs.member_page_size or knobs.list_page_size)
    call.check_page_size(cursor.page_size, knobs.time_out_members_above)
    listing = ListPage(call, link, "directoryObjects", cursor)
    if is_empty_page(call, cursor):
        return listing.render_empty()
    texts: list[bytes] = []
    if not tenant.shows(edges, parent):
        return listing.render(texts)
    slot, slots = cursor.position, edges.count_slots(parent)
    while slot < slots and len(texts) < cursor.page_size:
        member = edges.member_at(parent, slot)
        if member and tenant.is_end_live(member):
            texts.append(render_member(call, member, cursor.select_mask))
        slot += 1
    return listing.render(texts, slot if slot < slots else None)


def render_member(call: GraphCall, member: Member, mask: int) -> bytes:
    """Render the other end of an edge, with the properties that its type has."""
    head = encode({"@odata.type": f"#microsoft.graph.{member.type}"})[:-1]
    view = build_list_projection(USERS, mask)
    if member.type == "user":
        index = call.tenant.users.index_of(member.id)
        if index is not None:
            return head + b"," + call.tenant.users.render(index, view)[1:]
    fields = {"group": GROUPS, "servicePrincipal": SERVICE_PRINCIPALS}.get(member.type)
    if fields:
        shelf = call.tenant.store(fields.resource)
        index = shelf.index_of(member.id)
        if index is not None:
            names = tuple(n for n in view.names if n in fields.generated)
            return head + b"," + shelf.render(index, view._replace(names=names))[1:]
    return head + b"," + encode({"id": member.id, "displayName": None})[1:]


def get_manager(call: GraphCall, user_id: str) -> bytes:
    """/users/{id}/manager: 404 if there is none."""
    call.check_permission("users")
    call.query.check_parameters("$select")
    mask = call.parse_select(USERS)
    manager = call.tenant.find_manager(find_live(call.tenant.users, user_id))
    if manager is None:
        raise build_not_found("manager")
    return render_object("directoryObjects", render_member(call, manager, mask))


def list_member_of(call: GraphCall, fields: ResourceFields, object_id: str) -> bytes:
    """/users/{id}/memberOf and /groups/{id}/memberOf: the groups with it as a direct member."""
    call.check_permission("group_members")
    call.query.check_parameters("$select", "$top")
    tenant, link = call.tenant, f"{fields.resource}/{object_id}/memberOf"
    find_live(tenant.store(fields.resource), object_id)
    cursor = call.read_list_cursor(link, GROUPS, tenant.options.list_page_size)
    listing = ListPage(call, link, "directoryObjects", cursor)
    if is_empty_page(call, cursor):
        return listing.render_empty()
    view = build_list_projection(GROUPS, cursor.select_mask)
    texts: list[bytes] = []
    for group in tenant.members.find_parents(object_id, cursor.position):
        live = tenant.groups.state_at(group) is LifecycleState.LIVE
        if not live or not tenant.shows(tenant.members, group):
            continue
        if len(texts) == cursor.page_size:
            return listing.render(texts, group)
        head = b'{"@odata.type":"#microsoft.graph.group",'
        texts.append(head + tenant.groups.render(group, view)[1:])
    return listing.render(texts)


# -- sites --------------------------------------------------------------------------------------


def list_all_sites(call: GraphCall) -> bytes:
    """/sites/getAllSites, whose next links have another path."""
    call.check_permission("sites")
    if call.tenant.options.refuse_get_all_sites:
        raise GraphError(403, "accessDenied", "Access denied")
    size = call.tenant.options.site_page_size
    return list_objects(call, "sites/oneDrive.getAllSites", SITES, "sites", size)


def search_sites(call: GraphCall) -> bytes:
    """/sites?search=*: from the search index, which lacks personal sites."""
    call.check_permission("sites")
    call.query.check_parameters("search", "$select", "$top")
    if call.query.token is None and call.query.params.get("search") != "*":
        raise GraphError(400, "invalidRequest", "Only a search for * is simulated.")
    tenant = call.tenant
    cursor = call.read_list_cursor("sites", SITES, tenant.options.site_page_size)
    listing = ListPage(call, "sites", "sites", cursor)
    if is_empty_page(call, cursor):
        return listing.render_empty()
    view, stop = (
        build_list_projection(SITES, cursor.select_mask),
        cursor.position + cursor.page_size,
    )
    texts = [
        tenant.sites.render(index, view)
        for index in range(cursor.position, min(stop, tenant.sites.total))
        if tenant.sites.state_at(index) is LifecycleState.LIVE
        and not tenant.sites.props_at(index).get("isPersonalSite")
    ]
    return listing.render(texts, stop if stop < tenant.sites.total else None)


def get_site(call: GraphCall, site_id: str) -> bytes:
    """Return a site by its composite id, or by its web GUID alone."""
    call.check_permission("sites")
    call.query.check_parameters("$select")
    shelf = call.tenant.sites
    index = shelf.index_of(site_id.rpartition(",")[2])
    known = index is not None and shelf.state_at(index) is LifecycleState.LIVE
    if index is None or not known or not _matches_id(shelf.props_at(index)["id"], site_id):
        raise GraphError(404, "itemNotFound", "Requested site could not be found")
    return render_object(
        "sites", shelf.render(index, build_list_projection(SITES, call.parse_select(SITES)))
    )


def _matches_id(composite_id: str, asked: str) -> bool:
    return "," not in asked or composite_id.lower() == asked.lower()


def get_organization(call: GraphCall) -> bytes:
    call.check_permission("organization")
    call.query.check_parameters("$select")
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
    return render_page("organization", [encode({name: found.get(name) for name in names})])
