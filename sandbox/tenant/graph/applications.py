"""Service principals by id or application id, who may use them, and what they may do."""

import re
from collections.abc import Callable

from sandbox.tenant.directory.fields import (
    APP_ROLE_ASSIGNMENTS,
    OTHER_APP_ROLES,
    SERVICE_PRINCIPALS,
    ResourceFields,
)
from sandbox.tenant.directory.templates.applications import GRAPH
from sandbox.tenant.directory.templates.template import Props
from sandbox.tenant.errors import build_denied, build_not_found
from sandbox.tenant.graph.call import GraphCall, build_list_projection, render_object
from sandbox.tenant.graph.lists import find_live, get_object, list_matching

_BY_APPLICATION = re.compile(r"appId='([^']*)'")


def get_service_principal(call: GraphCall, name: str) -> bytes:
    index = _find_service_principal(call, name)
    object_id = call.tenant.service_principals.id_at(index)
    return get_object(call, SERVICE_PRINCIPALS, "servicePrincipals", object_id)


def _find_service_principal(call: GraphCall, name: str) -> int:
    """Find one by its id, or by `appId='...'`. Raises GraphError if there is none."""
    call.check_permission("service_principals")
    shelf, match = call.tenant.service_principals, _BY_APPLICATION.fullmatch(name)
    if match is None:
        return find_live(shelf, name)
    for index in shelf.iterate_live():
        if str(shelf.props_at(index).get("appId")).lower() == match[1].lower():
            return index
    raise build_not_found(match[1])


def list_app_roles_of_resource(call: GraphCall, name: str) -> bytes:
    """/servicePrincipals/{id}/appRoleAssignedTo: who may use it.

    Without a `$top`, managed identities are missing, as in Graph.
    """
    if name == f"appId='{GRAPH}'" and not call.tenant.service_principals.count_live():
        resource_id = ""  # every tenant has Microsoft Graph, whether or not it is simulated
    else:
        index = _find_service_principal(call, name)
        resource_id = call.tenant.service_principals.id_at(index)
    options = call.tenant.options
    if resource_id in options.refused_service_principals:
        raise build_denied()
    call.check_page_size(call.parse_top(options.list_page_size), options.time_out_app_roles_above)
    place = f"({name})" if _BY_APPLICATION.fullmatch(name) else f"/{name}"
    link = f"servicePrincipals{place}/appRoleAssignedTo"
    with_all = "$top" in call.query.params

    def keeps(one: Props) -> bool:
        if one["resourceId"] != resource_id:
            return False
        return with_all or not _is_managed_identity(call, one["principalId"])

    return _list_app_roles(call, link, keeps)


def list_app_roles_of_principal(call: GraphCall, object_id: str, fields: ResourceFields) -> bytes:
    """/users/{id}/appRoleAssignments and the like: what it may use, by itself."""
    find_live(call.tenant.store(fields.resource), object_id)
    link = f"{fields.path}/{object_id}/appRoleAssignments"
    return _list_app_roles(call, link, lambda one: bool(one["principalId"] == object_id))


def _list_app_roles(call: GraphCall, link: str, keeps: Callable[[Props], bool]) -> bytes:
    call.check_permission(APP_ROLE_ASSIGNMENTS.resource, OTHER_APP_ROLES)
    call.query.check_parameters("$select", "$top")
    size = call.tenant.options.list_page_size
    return list_matching(call, link, APP_ROLE_ASSIGNMENTS, size, keeps)


def get_app_role(call: GraphCall, name: str, assignment_id: str) -> bytes:
    """/servicePrincipals/{id}/appRoleAssignedTo/{id}."""
    index = _find_service_principal(call, name)
    call.check_permission(APP_ROLE_ASSIGNMENTS.resource, OTHER_APP_ROLES)
    call.query.check_parameters("$select")
    shelf = call.tenant.store("app_role_assignments")
    found = find_live(shelf, assignment_id)
    if shelf.props_at(found)["resourceId"] != call.tenant.service_principals.id_at(index):
        raise build_not_found(assignment_id)
    view = build_list_projection(APP_ROLE_ASSIGNMENTS, call.parse_select(APP_ROLE_ASSIGNMENTS))
    return render_object("appRoleAssignments", shelf.render(found, view))


def _is_managed_identity(call: GraphCall, object_id: str) -> bool:
    shelf = call.tenant.service_principals
    index = shelf.index_of(object_id)
    return (
        index is not None and shelf.props_at(index).get("servicePrincipalType") == "ManagedIdentity"
    )
