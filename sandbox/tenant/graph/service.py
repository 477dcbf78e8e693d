"""Simulates Microsoft Graph v1.0 for one tenant: routes requests and answers as Graph does."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from urllib.parse import unquote

from sandbox.tenant.directory.fields import GROUPS, OTHERS, USERS, ResourceFields
from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.state import Directory
from sandbox.tenant.errors import GraphError
from sandbox.tenant.graph import delta, lists, roles
from sandbox.tenant.graph.call import GraphCall, GraphQuery
from sandbox.tenant.graph.costs import (
    compute_directory_cost,
    compute_sharepoint_cost,
    is_sharepoint,
)
from sandbox.tenant.http import GRAPH_JSON, Request, Response, encode

Handler = Callable[[GraphCall], bytes]

VERSION = "v1.0/"
_ROLES = "roleManagement/directory"
_DELTA = "microsoft.graph.delta"
_COLLECTION_ROUTES: dict[str, Handler] = {
    "users": lists.list_users,
    "groups": lists.list_groups,
    "users/delta": delta.serve_users_delta,
    "groups/delta": delta.serve_groups_delta,
    "sites": lists.search_sites,
    "sites/getAllSites": lists.list_all_sites,
    "sites/oneDrive.getAllSites": lists.list_all_sites,
    "organization": lists.get_organization,
    f"{_ROLES}/roleDefinitions": roles.list_definitions,
    f"{_ROLES}/roleAssignments": roles.list_assignments,
}
_OBJECT_ROUTES: dict[tuple[str, str], Callable[[GraphCall, str], bytes]] = {
    ("users", ""): lambda call, one: lists.get_object(call, USERS, "users", one),
    ("groups", ""): lambda call, one: lists.get_object(call, GROUPS, "groups", one),
    ("groups", "members"): lists.list_members,
    ("users", "memberOf"): lambda call, one: lists.list_member_of(call, USERS, one),
    ("groups", "memberOf"): lambda call, one: lists.list_member_of(call, GROUPS, one),
    ("sites", ""): lists.get_site,
    (f"{_ROLES}/roleDefinitions", ""): roles.get_definition,
    (f"{_ROLES}/roleAssignments", ""): roles.get_assignment,
}


def _add_other_routes() -> None:
    """Serve every other resource at the paths that its declaration names."""
    for fields in OTHERS:
        source = fields.declared.source
        _COLLECTION_ROUTES[source.path.strip("/")] = partial(lists.list_others, fields=fields)
        if source.follows_delta:
            _COLLECTION_ROUTES[source.delta_path.strip("/")] = partial(
                delta.serve_others_delta, fields=fields
            )
        base = fields.declared.by_id.strip("/").removesuffix("/{id}")
        _OBJECT_ROUTES[base, ""] = partial(_get_other, fields=fields, base=base)


def _get_other(call: GraphCall, one: str, *, fields: ResourceFields, base: str) -> bytes:
    return lists.get_object(call, fields, base, one)


_add_other_routes()


def to_path_template(path: str) -> str:
    """Return the path with ids replaced by `{id}`, by which calls are counted."""
    path = _normalize_path(path)
    found = _match_object_route(path)
    if path in _COLLECTION_ROUTES or not found:
        return path
    base, _, rest = found
    return "/".join(filter(None, (base, "{id}", rest)))


def _normalize_path(path: str) -> str:
    path = path.strip("/").removesuffix("()")
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


def _handle(call: GraphCall) -> bytes:
    call.path = _normalize_path(call.path)
    plain = _COLLECTION_ROUTES.get(call.path)
    if plain:
        return plain(call)
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
