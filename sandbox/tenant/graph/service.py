"""Microsoft Graph v1.0 in front of one tenant: routes a request, answers as Graph does."""

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import unquote

from sandbox.tenant.directory import Directory
from sandbox.tenant.errors import GraphError
from sandbox.tenant.fields import GROUPS, USERS
from sandbox.tenant.graph import delta, lists, roles
from sandbox.tenant.graph.call import Call, Query
from sandbox.tenant.graph.costs import directory_cost, is_sharepoint, sharepoint_cost
from sandbox.tenant.ids import guid_from
from sandbox.tenant.wire import GRAPH_JSON, Request, Response, encode

Handler = Callable[[Call], bytes]

VERSION = "v1.0/"
_ROLES = "roleManagement/directory"
_DELTA = "microsoft.graph.delta"
_PLAIN: dict[str, Handler] = {
    "users": lists.users,
    "groups": lists.groups,
    "users/delta": delta.users_delta,
    "groups/delta": delta.groups_delta,
    "sites": lists.search_sites,
    "sites/getAllSites": lists.all_sites,
    "sites/oneDrive.getAllSites": lists.all_sites,
    "organization": lists.organization,
    f"{_ROLES}/roleDefinitions": roles.definitions,
    f"{_ROLES}/roleAssignments": roles.assignments,
}
_OF_ONE: dict[tuple[str, str], Callable[[Call, str], bytes]] = {
    ("users", ""): lambda call, one: lists.by_id(call, USERS, "users", one),
    ("groups", ""): lambda call, one: lists.by_id(call, GROUPS, "groups", one),
    ("groups", "members"): lists.members,
    ("users", "memberOf"): lambda call, one: lists.member_of(call, USERS, one),
    ("groups", "memberOf"): lambda call, one: lists.member_of(call, GROUPS, one),
    ("sites", ""): lists.site,
    (f"{_ROLES}/roleDefinitions", ""): roles.definition,
    (f"{_ROLES}/roleAssignments", ""): roles.assignment,
}


def shape_of(path: str) -> str:
    """The path as calls are counted by it: ids replaced by `{id}`."""
    path = _canonical(path)
    found = _of_one(path)
    if path in _PLAIN or not found:
        return path
    base, _, rest = found
    return "/".join(filter(None, (base, "{id}", rest)))


def _canonical(path: str) -> str:
    path = path.strip("/").removesuffix("()")
    return path.removesuffix(_DELTA) + "delta" if path.endswith(f"/{_DELTA}") else path


def _of_one(path: str) -> tuple[str, str, str] | None:
    """The collection, the id and what follows it, for a path about one object."""
    for base, rest in _OF_ONE:
        head, tail = f"{base}/", f"/{rest}" if rest else ""
        if path.startswith(head) and path.endswith(tail):
            one = path[len(head) : len(path) - len(tail)]
            if one and "/" not in one:
                return base, unquote(one), rest
    return None


def _handle(call: Call) -> bytes:
    call.path = _canonical(call.path)
    plain = _PLAIN.get(call.path)
    if plain:
        return plain(call)
    found = _of_one(call.path)
    if found is None:
        segment = call.path.split("/", maxsplit=1)[0]
        raise GraphError(400, "BadRequest", f"Resource not found for the segment '{segment}'.")
    base, one, rest = found
    return _OF_ONE[base, rest](call, one)


def _path(request: Request) -> str:
    if not request.path.startswith(VERSION):
        raise GraphError(400, "BadRequest", "Invalid version.")
    if request.method != "GET":
        raise GraphError(405, "Request_BadRequest", "Specified HTTP method is not allowed.")
    return request.path.removeprefix(VERSION)


def _charge(tenant: Directory, shape: str, query: Query) -> dict[str, str]:
    """The headers about what the call cost; raises GraphError if that was too much."""
    if is_sharepoint(shape):
        return tenant.throttle.sharepoint(sharepoint_cost(shape), tenant.knobs)
    cost = directory_cost(shape, query.params)
    return tenant.throttle.directory(cost, tenant.knobs, tenant.tenant_id)


class Graph:
    """Answers Graph requests; counts them only to number its request ids."""

    def __init__(self) -> None:
        self._served = 0

    def answer(
        self, tenant: Directory, request: Request, refused: frozenset[str] = frozenset()
    ) -> Response:
        """The reply to one request whose path starts with the version."""
        charged: dict[str, str] = {}
        try:
            path, query = _path(request), Query.parse(request.query)
            shape = shape_of(path)
            charged = _charge(tenant, shape, query)
            body = _handle(Call(tenant, path, query, refused, shape))
        except GraphError as error:
            error.headers = charged | error.headers
            return self.refuse(request, error)
        return Response(200, body, self.headers(request) | charged)

    def headers(self, request: Request) -> dict[str, str]:
        self._served += 1
        request_id = guid_from("request", self._served)
        return {
            "content-type": GRAPH_JSON,
            "request-id": request_id,
            "client-request-id": request.headers.get("client-request-id", request_id),
            "x-ms-ags-diagnostic": '{"ServerInfo":{"DataCenter":"Sandbox","Ring":"5"}}',
            "odata-version": "4.0",
            "cache-control": "no-cache",
        }

    def refuse(self, request: Request, error: GraphError) -> Response:
        """The reply that an error stands for, with Graph's error body."""
        headers = self.headers(request) | error.headers
        inner = error.inner | {
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            "request-id": headers["request-id"],
            "client-request-id": headers["client-request-id"],
        }
        content = {"code": error.code, "message": error.message, "innerError": inner}
        return Response(error.status, encode({"error": content}), headers)
