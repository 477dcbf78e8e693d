"""roleManagement/directory: definitions and assignments, with or without a required filter."""

import re
from collections.abc import Callable

from sandbox.tenant.directory.fields import ROLE_ASSIGNMENTS, ROLE_DEFINITIONS
from sandbox.tenant.directory.object_store import LifecycleState
from sandbox.tenant.directory.templates.template import Props
from sandbox.tenant.errors import GraphError, build_bad_request
from sandbox.tenant.graph.call import GraphCall, build_list_projection
from sandbox.tenant.graph.lists import ListPage, get_object, list_objects
from sandbox.tenant.graph.oddities import is_empty_page

_BASE = "roleManagement/directory"
_FILTER = re.compile(r"\s*(roleDefinitionId|principalId)\s+eq\s+'([^']*)'\s*")


def list_definitions(call: GraphCall) -> bytes:
    call.check_permission("role_definitions")
    size = call.tenant.options.role_page_size
    path = f"{_BASE}/roleDefinitions"
    return list_objects(call, path, ROLE_DEFINITIONS, path, size)


def get_definition(call: GraphCall, object_id: str) -> bytes:
    return get_object(call, ROLE_DEFINITIONS, f"{_BASE}/roleDefinitions", object_id)


def get_assignment(call: GraphCall, object_id: str) -> bytes:
    return get_object(call, ROLE_ASSIGNMENTS, f"{_BASE}/roleAssignments", object_id)


def list_assignments(call: GraphCall) -> bytes:
    """List all assignments, or those that match a `$filter` on the role or the principal."""
    call.check_permission("role_assignments")
    call.query.check_parameters("$select", "$top", "$filter")
    tenant, path = call.tenant, f"{_BASE}/roleAssignments"
    cursor = call.read_list_cursor(path, ROLE_ASSIGNMENTS, tenant.options.role_page_size)
    keeps = _parse_filter(call)
    listing = ListPage(call, path, path, cursor)
    if is_empty_page(call, cursor):
        return listing.render_empty()
    shelf, view = (
        tenant.role_assignments,
        build_list_projection(ROLE_ASSIGNMENTS, cursor.select_mask),
    )
    texts: list[bytes] = []
    for index in range(cursor.position, shelf.total):
        if shelf.state_at(index) is not LifecycleState.LIVE or not keeps(shelf.props_at(index)):
            continue
        if len(texts) == cursor.page_size:
            return listing.render(texts, index)
        texts.append(shelf.render(index, view))
    return listing.render(texts)


def _parse_filter(call: GraphCall) -> Callable[[Props], bool]:
    text = call.query.params.get("$filter")
    if text is None:
        if call.tenant.options.requires_role_filter:
            raise build_bad_request("A $filter on roleDefinitionId or principalId is required.")
        return lambda _: True
    match = _FILTER.fullmatch(text)
    if match is None:
        raise GraphError(400, "Request_UnsupportedQuery", "Unsupported $filter.")
    name, value = match[1], match[2].lower()
    return lambda props: bool(props[name].lower() == value)
