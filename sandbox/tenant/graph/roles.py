"""roleManagement/directory: definitions, assignments (perhaps by a filter only), instances."""

import re
from collections.abc import Callable

from sandbox.tenant.directory.fields import ROLE_ASSIGNMENTS, ROLE_DEFINITIONS, ResourceFields
from sandbox.tenant.directory.templates.template import Props
from sandbox.tenant.errors import GraphError, build_bad_request
from sandbox.tenant.graph.call import GraphCall
from sandbox.tenant.graph.lists import get_object, list_matching, list_objects

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
    call.tenant.end_schedules()
    return get_object(call, ROLE_ASSIGNMENTS, f"{_BASE}/roleAssignments", object_id)


def list_assignments(call: GraphCall) -> bytes:
    """List all assignments, or those that match a `$filter` on the role or the principal."""
    call.check_permission("role_assignments")
    call.query.check_parameters("$select", "$top", "$filter")
    call.tenant.end_schedules()
    size, path = call.tenant.options.role_page_size, f"{_BASE}/roleAssignments"
    keeps = _parse_filter(call, required=call.tenant.options.requires_role_filter)
    return list_matching(call, path, ROLE_ASSIGNMENTS, size, keeps)


def list_instances(call: GraphCall, fields: ResourceFields) -> bytes:
    """List instances of schedules, perhaps those of such a `$filter`; they take no `$top`."""
    call.check_permission(fields.resource)
    call.query.check_parameters("$select", "$filter")
    call.tenant.end_schedules()
    size, keeps = call.tenant.options.role_page_size, _parse_filter(call, required=False)
    return list_matching(call, fields.path, fields, size, keeps)


def get_instance(call: GraphCall, object_id: str, fields: ResourceFields) -> bytes:
    call.tenant.end_schedules()
    return get_object(call, fields, fields.path, object_id)


def _parse_filter(call: GraphCall, *, required: bool) -> Callable[[Props], bool]:
    text = call.query.params.get("$filter")
    if text is None:
        if required:
            raise build_bad_request("A $filter on roleDefinitionId or principalId is required.")
        return lambda _: True
    match = _FILTER.fullmatch(text)
    if match is None:
        raise GraphError(400, "Request_UnsupportedQuery", "Unsupported $filter.")
    name, value = match[1], match[2].lower()
    return lambda props: bool(props[name].lower() == value)
