"""Simulates Microsoft Graph v1.0 for one tenant: routes requests and answers as Graph does."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from urllib.parse import unquote

from sandbox.tenant.directory.fields import (
    ADMINISTRATIVE_UNITS,
    APP_ROLE_ASSIGNMENTS,
    GROUPS,
    KINDS,
    OTHERS,
    ROLE_ELIGIBILITIES,
    ROLE_INSTANCES,
    SERVICE_PRINCIPALS,
    USERS,
    ResourceFields,
)
from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.state import Directory
from sandbox.tenant.errors import GraphError
from sandbox.tenant.graph import applications, delta, lists, roles, user_parts
from sandbox.tenant.graph.call import GraphCall, GraphQuery
from sandbox.tenant.graph.costs import (
    compute_directory_cost,
    compute_sharepoint_cost,
    is_sharepoint,
)
from sandbox.tenant.http import GRAPH_JSON, Request, Response, encode

Handler = Callable[[GraphCall], bytes]
ObjectHandler = Callable[[GraphCall, str], bytes]

VERSION = "v1.0/"
_ROLES = "roleManagement/directory"
_DELTA = "microsoft.graph.delta"
_UNITS = ADMINISTRATIVE_UNITS.path
_COLLECTION_ROUTES: dict[str, Handler] = {
    "users": user_parts.list_users,
    "groups": lists.list_groups,
    "users/delta": delta.serve_users_delta,
    "groups/delta": delta.serve_groups_delta,
    "sites": lists.search_sites,
    "sites/getAllSites": lists.list_all_sites,
    "sites/oneDrive.getAllSites": lists.list_all_sites,
    "organization": lists.get_organization,
    "subscribedSkus": lists.list_skus,
    f"{_ROLES}/roleDefinitions": roles.list_definitions,
    f"{_ROLES}/roleAssignments": roles.list_assignments,
    ROLE_ELIGIBILITIES.path: partial(roles.list_instances, fields=ROLE_ELIGIBILITIES),
    ROLE_INSTANCES.path: partial(roles.list_instances, fields=ROLE_INSTANCES),
}
_OBJECT_ROUTES: dict[tuple[str, str], ObjectHandler] = {
    ("users", ""): user_parts.get_user,
    ("groups", ""): lambda call, one: lists.get_object(call, GROUPS, "groups", one),
    ("groups", "members"): partial(lists.list_edges, fields=GROUPS, resource="group_members"),
    ("groups", "owners"): partial(lists.list_edges, fields=GROUPS, resource="group_owners"),
    ("users", "memberOf"): lambda call, one: lists.list_member_of(call, USERS, one),
    ("groups", "memberOf"): lambda call, one: lists.list_member_of(call, GROUPS, one),
    ("users", "manager"): lists.get_manager,
    ("sites", ""): lists.get_site,
    (f"{_ROLES}/roleDefinitions", ""): roles.get_definition,
    (f"{_ROLES}/roleAssignments", ""): roles.get_assignment,
    (ROLE_ELIGIBILITIES.path, ""): partial(roles.get_instance, fields=ROLE_ELIGIBILITIES),
    (ROLE_INSTANCES.path, ""): partial(roles.get_instance, fields=ROLE_INSTANCES),
    ("servicePrincipals", ""): applications.get_service_principal,
    ("servicePrincipals", "appRoleAssignedTo"): applications.list_app_roles_of_resource,
    **{
        (one.path, "appRoleAssignments"): partial(
            applications.list_app_roles_of_principal, fields=one
        )
        for one in (USERS, GROUPS, SERVICE_PRINCIPALS)
    },
    **{
        (path, "members"): partial(
            lists.list_edges,
            fields=ADMINISTRATIVE_UNITS,
            resource="administrative_unit_members",
            path=path,
        )
        for path in (_UNITS, "administrativeUnits")
    },
}
_NESTED_ROUTES = {("servicePrincipals", "appRoleAssignedTo"): applications.get_app_role}
"""Reads of what belongs to one object, by its own id behind the path."""
_BY_KEY = re.compile(r"servicePrincipals\((appId='[^']*')\)")
"""A service principal by another key than its id."""


def _add_routes(fields: ResourceFields, path: str) -> None:
    """Serve a resource at the paths that it names, or at other ones."""
    _COLLECTION_ROUTES.setdefault(path, partial(lists.list_others, fields=fields, path=path))
    if fields.delta_path:
        link = f"{path}/delta" if path != fields.path else fields.delta_path
        _COLLECTION_ROUTES.setdefault(
            link, partial(delta.serve_others_delta, fields=fields, link=link)
        )
    base = fields.object_path if path == fields.path else path
    _OBJECT_ROUTES.setdefault((base, ""), partial(_get_other, fields=fields, base=base))


def _get_other(call: GraphCall, one: str, *, fields: ResourceFields, base: str) -> bytes:
    return lists.get_object(call, fields, base, one)


for _fields in (*KINDS, *OTHERS):
    if _fields is not APP_ROLE_ASSIGNMENTS:
        _add_routes(_fields, _fields.path)
_add_routes(ADMINISTRATIVE_UNITS, "administrativeUnits")


def to_path_template(path: str) -> str:
    """Return the path with ids replaced by `{id}`, by which calls are counted."""
    path = _normalize_path(path)
    nested = _match_nested_route(path)
    if nested:
        (base, rest), _, _ = nested
        return f"{base}/{{id}}/{rest}/{{id}}"
    found = _match_object_route(path)
    if path in _COLLECTION_ROUTES or not found:
        return path
    base, _, rest = found
    return "/".join(filter(None, (base, "{id}", rest)))


def _normalize_path(path: str) -> str:
    path = path.strip("/").removesuffix("()")
    by_key = _BY_KEY.match(unquote(path)) if path.startswith("servicePrincipals") else None
    if by_key:
        path = f"servicePrincipals/{by_key[1]}{unquote(path)[by_key.end() :]}"
    return path.removesuffix(_DELTA) + "delta" if path.endswith(f"/{_DELTA}") else path


def _match_object_route(path: str) -> tuple[str, str, str] | None:
    """Return the collection, the id and the rest of a path about one object."""
    for base, rest in _OBJECT_ROUTES:
        head, tail = f"{base}/", f"/{rest}" if rest else ""
        if path.startswith(head) and path.endswith(tail):
            one = path[len(head) : len(path) - len(tail)]
            if one and "/" not in one:
                return base, unquote(one), rest
    return None


def _match_nested_route(path: str) -> tuple[tuple[str, str], str, str] | None:
    """Return the route of a nested object, the outer id and its own."""
    parts = path.split("/")
    if len(parts) != 4 or (parts[0], parts[2]) not in _NESTED_ROUTES:
        return None
    return (parts[0], parts[2]), unquote(parts[1]), unquote(parts[3])


def _handle(call: GraphCall) -> bytes:
    call.path = _normalize_path(call.path)
    plain = _COLLECTION_ROUTES.get(call.path)
    if plain:
        return plain(call)
    nested = _match_nested_route(call.path)
    if nested:
        route, outer, inner = nested
        return _NESTED_ROUTES[route](call, outer, inner)
    found = _match_object_route(call.path)
    if found is None:
        segment = call.path.split("/", maxsplit=1)[0]
        raise GraphError(400, "BadRequest", f"Resource not found for the segment '{segment}'.")
    base, one, rest = found
    return _OBJECT_ROUTES[base, rest](call, one)


def _check_path(request: Request) -> str:
    if not request.path.startswith(VERSION):
        raise GraphError(400, "BadRequest", "Invalid version.")
    if request.method != "GET":
        raise GraphError(405, "Request_BadRequest", "Specified HTTP method is not allowed.")
    return request.path.removeprefix(VERSION)


def _charge(tenant: Directory, shape: str, query: GraphQuery) -> dict[str, str]:
    """Return the headers about the call's cost. Raises GraphError if it exceeds the budget."""
    if is_sharepoint(shape):
        return tenant.throttle.charge_sharepoint(compute_sharepoint_cost(shape), tenant.options)
    cost = compute_directory_cost(shape, query.params)
    return tenant.throttle.charge_directory(cost, tenant.options, tenant.tenant_id)


class GraphService:
    """Answers Graph requests. Counts them only to number the request ids."""

    def __init__(self) -> None:
        self._served = 0

    def handle(
        self, tenant: Directory, request: Request, refused: frozenset[str] = frozenset()
    ) -> Response:
        """Return the response to one request whose path starts with the version."""
        charged: dict[str, str] = {}
        try:
            path, query = _check_path(request), GraphQuery.parse(request.query)
            shape = to_path_template(path)
            charged = _charge(tenant, shape, query)
            body = _handle(GraphCall(tenant, path, query, refused, shape))
        except GraphError as error:
            error.headers = charged | error.headers
            return self.render_error(request, error)
        return Response(200, body, self.build_headers(request) | charged)

    def build_headers(self, request: Request) -> dict[str, str]:
        self._served += 1
        request_id = guid_from_parts("request", self._served)
        return {
            "content-type": GRAPH_JSON,
            "request-id": request_id,
            "client-request-id": request.headers.get("client-request-id", request_id),
            "x-ms-ags-diagnostic": '{"ServerInfo":{"DataCenter":"Sandbox","Ring":"5"}}',
            "odata-version": "4.0",
            "cache-control": "no-cache",
        }

    def render_error(self, request: Request, error: GraphError) -> Response:
        """Return an error as a response with Graph's error body."""
        headers = self.build_headers(request) | error.headers
        inner = error.inner_error | {
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            "request-id": headers["request-id"],
            "client-request-id": headers["client-request-id"],
        }
        content = {"code": error.code, "message": error.message, "innerError": inner}
        return Response(error.status, encode({"error": content}), headers)
