"""What may go wrong with one reply, by name.

`TRANSIENT` goes away when one tries again. `EXPIRIES` end a cursor, so that a walk begins again.
`BROKEN` says that a connection or the whole installation is of no use for now.
"""

from collections.abc import Callable

from sandbox.tenant import spoil
from sandbox.tenant.refresh import BACKOFF, EXHAUSTED, FAILED
from sandbox.tenant.spoil import Hit, Make
from sandbox.tenant.wire import Request, Response

Applies = Callable[[Request], bool]


def is_connections(request: Request) -> bool:
    return request.path.startswith("/connections")


def _call(request: Request) -> bool:
    """A request with a connection of its own, so not one within a batch."""
    return request.item is None


def _proxied(request: Request) -> bool:
    return request.item is None and not is_connections(request)


def _graph(request: Request) -> bool:
    return not is_connections(request)


def _item(request: Request) -> bool:
    return request.item is not None


def _batch(request: Request) -> bool:
    return request.item is None and request.path.endswith("$batch")


def _has(request: Request, name: str) -> bool:
    query = request.query.lower()
    return f"{name}=" in query and f"{name}=latest" not in query


def _is_delta(request: Request) -> bool:
    return request.path.rstrip("/").removesuffix("()").endswith("delta")


def _delta_link(request: Request) -> bool:
    return _is_delta(request) and (_has(request, "$deltatoken") or _has(request, "$skiptoken"))


def _page_link(request: Request) -> bool:
    return _has(request, "$skiptoken") and not _is_delta(request)


_CATALOGUE: dict[str, tuple[Applies, Make]] = {
    # Graph throttles.
    "429-integer": (_graph, spoil.in_whole_seconds),
    "429-decimal": (_graph, spoil.in_decimals),
    "429-date": (_graph, spoil.as_a_date),
    "429-zero": (_graph, lambda hit: spoil.throttled(hit, "0")),
    "429-absent": (_graph, lambda hit: spoil.throttled(hit, None)),
    "429-lower-case": (_graph, spoil.in_lower_case),
    "429-sharepoint": (_graph, spoil.sharepoint),
    # Graph fails.
    "500": (_graph, spoil.error(500, "InternalServerError", "An internal error has occurred.")),
    "502": (_graph, spoil.error(502, "BadGateway", "Bad gateway.")),
    "503": (_graph, spoil.error(503, "serviceNotAvailable", "The service is unavailable.")),
    "503-retry-after": (_graph, spoil.unavailable),
    "504": (_graph, spoil.error(504, "UnknownError", "")),
    "507": (_graph, spoil.error(507, "InsufficientStorage", "Insufficient storage.")),
    "509": (_graph, spoil.error(509, "BandwidthLimitExceeded", "The bandwidth cap is exceeded.")),
    # Graph is not ready for the request yet.
    "408": (_graph, spoil.error(408, "RequestTimeout", "The request timed out.")),
    "409": (_graph, spoil.error(409, "Conflict", "There is a conflict with another operation.")),
    "421": (_graph, spoil.error(421, "MisdirectedRequest", "The request was misdirected.")),
    "423": (_graph, spoil.error(423, "Locked", "The resource is locked.")),
    "425": (_graph, spoil.error(425, "TooEarly", "The request came too early.")),
    "449": (_graph, spoil.error(449, "RetryWith", "Retry after the operation has completed.")),
    # Something in between answers, or nothing does.
    "html-200": (_call, spoil.html(200, b"Welcome")),
    "html-502": (_call, spoil.html(502, b"502 Bad Gateway")),
    "html-503": (_call, spoil.html(503, b"503 Service Unavailable")),
    "empty-200": (_call, spoil.empty(200)),
    "empty-500": (_call, spoil.empty(500)),
    "truncated": (_call, spoil.truncated),
    "cut": (_call, spoil.cut),
    "reset": (_call, spoil.reset),
    "reset-midway": (_call, spoil.reset_midway),
    "stall": (_call, spoil.stalled),
    "trickle": (_call, spoil.trickling),
    "item-missing": (_item, spoil.lost),
    "batch-424": (_batch, spoil.whole_batch_424),
    "html-403": (_call, spoil.html(403, b"Request blocked")),
    "html-404": (_call, spoil.html(404, b"404 Not Found")),
    "empty-401": (_call, spoil.empty(401)),
    "empty-403": (_call, spoil.empty(403)),
    "foreign-403": (_call, spoil.foreign(403)),
    "redirected": (_call, spoil.empty(302)),
    # Nango fails.
    "nango-429": (_call, spoil.limited),
    "nango-500": (_call, spoil.nango(500, "generic_error_support")),
    "nango-reset": (_proxied, spoil.network("ECONNRESET", "read ECONNRESET")),
    "nango-refused": (
        _proxied,
        spoil.network("ECONNREFUSED", "connect ECONNREFUSED 20.190.1.1:443"),
    ),
    # Cursors end.
    "delta-gone": (_delta_link, spoil.gone("syncStateNotFound", location=True)),
    "delta-gone-bare": (_delta_link, spoil.gone("syncStateNotFound")),
    "delta-resync": (_delta_link, spoil.gone("resyncRequired", location=True)),
    "delta-not-found": (_delta_link, spoil.gone("SyncStateNotFound", 400)),
    "page-expired": (
        _page_link,
        spoil.error(
            400,
            "Directory_ExpiredPageToken",
            "The specified page token value has expired and can no longer be included in your "
            "request.",
        ),
    ),
    # A connection, or all of them, is of no use.
    "refresh-failed": (_proxied, spoil.nango(400, "server_error", FAILED)),
    "refresh-backoff": (_proxied, spoil.nango(424, "connection_refresh_backoff", BACKOFF)),
    "refresh-exhausted": (_proxied, spoil.nango(424, "server_error", EXHAUSTED)),
    "connection-unknown": (_proxied, spoil.nango(400, "server_error", "Failed to get connection")),
    "dns": (
        _proxied,
        spoil.nango(
            400,
            "base_url_override_not_allowed",
            "This outbound URL is not allowed by server configuration.",
        ),
    ),
    "plan-limit": (_proxied, spoil.nango(402, "plan_limit", "The plan's limit has been reached.")),
    "graph-401": (
        _graph,
        spoil.error(
            401, "InvalidAuthenticationToken", "Access token has expired or is not yet valid."
        ),
    ),
    "graph-403": (
        _graph,
        spoil.error(403, "Authorization_RequestDenied", "Insufficient privileges."),
    ),
    "nango-401": (
        _call,
        spoil.nango(401, "unknown_account", "Authentication failed.", payload={}),
    ),
    "nango-database-away": (
        _call,
        spoil.nango(401, "malformed_auth_header", "Authentication failed.", payload={}),
    ),
    "nango-403": (
        _call,
        spoil.nango(403, "forbidden", "Insufficient scope. Required: environment:proxy"),
    ),
}

_BROKEN = (
    "refresh-failed refresh-backoff refresh-exhausted connection-unknown dns plan-limit "
    "graph-401 graph-403 nango-401 nango-403 nango-database-away "
    "html-403 html-404 empty-401 empty-403 foreign-403 redirected"
)
ALL_KINDS = frozenset(_CATALOGUE)
BROKEN = frozenset(_BROKEN.split())
EXPIRIES = frozenset(k for k in ALL_KINDS if k.startswith("delta-") or k == "page-expired")
TRANSIENT = ALL_KINDS - BROKEN - EXPIRIES


def applies(kind: str, request: Request) -> bool:
    """Whether that may happen to this request."""
    return _CATALOGUE[kind][0](request)


def make(kind: str, hit: Hit) -> Response:
    return _CATALOGUE[kind][1](hit)
