"""roleManagement/directory: definitions and assignments, with or without the demanded filter."""

import re
from collections.abc import Callable

from sandbox.tenant.errors import GraphError, bad_request
from sandbox.tenant.fields import ROLE_ASSIGNMENTS, ROLE_DEFINITIONS
from sandbox.tenant.graph.call import Call, list_view
from sandbox.tenant.graph.lists import Listing, by_id, empty_now, shelf_list
from sandbox.tenant.shelf import Props, State

_BASE = "roleManagement/directory"
_FILTER = re.compile(r"\s*(roleDefinitionId|principalId)\s+eq\s+'([^']*)'\s*")


def definitions(call: Call) -> bytes:
    call.require("role_definitions")
    size = call.tenant.knobs.role_page
    path = f"{_BASE}/roleDefinitions"
    return shelf_list(call, path, ROLE_DEFINITIONS, path, size)


def definition(call: Call, object_id: str) -> bytes:
    return by_id(call, ROLE_DEFINITIONS, f"{_BASE}/roleDefinitions", object_id)


def assignment(call: Call, object_id: str) -> bytes:
    return by_id(call, ROLE_ASSIGNMENTS, f"{_BASE}/roleAssignments", object_id)


def assignments(call: Call) -> bytes:
    """All of them, or those that a `$filter` on the role or the principal keeps."""
    call.require("role_assignments")
    call.query.allow("$select", "$top", "$filter")
    tenant, path = call.tenant, f"{_BASE}/roleAssignments"
    cursor = call.list_cursor(path, ROLE_ASSIGNMENTS, tenant.knobs.role_page)
    keeps = _filter(call)
    listing = Listing(call, path, path, cursor)
    if empty_now(call, cursor):
        return listing.nothing()
    shelf, view = tenant.role_assignments, list_view(ROLE_ASSIGNMENTS, cursor.mask)
    texts: list[bytes] = []
    for index in range(cursor.at, shelf.total):
        if shelf.state(index) is not State.LIVE or not keeps(shelf.props(index)):
            continue
        if len(texts) == cursor.top:
            return listing.answer(texts, index)
        texts.append(shelf.text(index, view))
    return listing.answer(texts)


def _filter(call: Call) -> Callable[[Props], bool]:
    text = call.query.params.get("$filter")
    if text is None:
        if call.tenant.knobs.demand_role_filter:
            raise bad_request("A $filter on roleDefinitionId or principalId is required.")
        return lambda _: True
    match = _FILTER.fullmatch(text)
    if match is None:
        raise GraphError(400, "Request_UnsupportedQuery", "Unsupported $filter.")
    name, value = match[1], match[2].lower()
    return lambda props: bool(props[name].lower() == value)
