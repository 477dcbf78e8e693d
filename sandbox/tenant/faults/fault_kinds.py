"""The kinds of faults, by name.

`TRANSIENT` ones pass with a retry. `EXPIRIES` expire a cursor, so that a walk restarts. `BROKEN`
ones mean that a connection or the whole installation cannot be used for now.
"""

from collections.abc import Callable

from sandbox.tenant.errors import REFRESH_BACKOFF, REFRESH_EXHAUSTED, REFRESH_FAILED
from sandbox.tenant.faults import fault_responses
from sandbox.tenant.faults.fault_responses import FaultContext, FaultResponse
from sandbox.tenant.http import Request, Response

AppliesTo = Callable[[Request], bool]


def is_connections(request: Request) -> bool:
    return request.path.startswith("/connections")


def _is_top_level(request: Request) -> bool:
    """Whether a request was sent by itself, not within a batch."""
    return request.item is None


def _is_proxied(request: Request) -> bool:
    return request.item is None and not is_connections(request)


def _is_graph(request: Request) -> bool:
    return not is_connections(request)


def _is_batch_item(request: Request) -> bool:
    return request.item is not None


def _is_batch(request: Request) -> bool:
    return request.item is None and request.path.endswith("$batch")


def _has_token(request: Request, name: str) -> bool:
    query = request.query.lower()
    return f"{name}=" in query and f"{name}=latest" not in query


def _is_delta(request: Request) -> bool:
    return request.path.rstrip("/").removesuffix("()").endswith("delta")


def _is_delta_link(request: Request) -> bool:
    return _is_delta(request) and (
        _has_token(request, "$deltatoken") or _has_token(request, "$skiptoken")
    )


def _is_page_link(request: Request) -> bool:
    return _has_token(request, "$skiptoken") and not _is_delta(request)


_KINDS: dict[str, tuple[AppliesTo, FaultResponse]] = {
    # Graph throttles the request.
    "429-integer": (_is_graph, fault_responses.throttle_in_whole_seconds),
    "429-decimal": (_is_graph, fault_responses.throttle_in_decimals),
    "429-date": (_is_graph, fault_responses.throttle_until_date),
    "429-zero": (_is_graph, lambda hit: fault_responses.throttle(hit, "0")),
    "429-absent": (_is_graph, lambda hit: fault_responses.throttle(hit, None)),
    "429-lower-case": (_is_graph, fault_responses.throttle_in_lower_case),
    "429-sharepoint": (_is_graph, fault_responses.throttle_sharepoint),
    # Graph fails with an error of its own.
    "500": (
        _is_graph,
        fault_responses.build_graph_error(
            500, "InternalServerError", "An internal error has occurred."
        ),
    ),
    "502": (_is_graph, fault_responses.build_graph_error(502, "BadGateway", "Bad gateway.")),
    "503": (
        _is_graph,
        fault_responses.build_graph_error(
            503, "serviceNotAvailable", "The service is unavailable."
        ),
    ),
    "503-retry-after": (_is_graph, fault_responses.refuse_unavailable),
    "504": (_is_graph, fault_responses.build_graph_error(504, "UnknownError", "")),
    "507": (
        _is_graph,
        fault_responses.build_graph_error(507, "InsufficientStorage", "Insufficient storage."),
    ),
    "509": (
        _is_graph,
        fault_responses.build_graph_error(
            509, "BandwidthLimitExceeded", "The bandwidth cap is exceeded."
        ),
    ),
    # Graph is not ready for the request yet.
    "408": (
        _is_graph,
        fault_responses.build_graph_error(408, "RequestTimeout", "The request timed out."),
    ),
    "409": (
        _is_graph,
        fault_responses.build_graph_error(
            409, "Conflict", "There is a conflict with another operation."
        ),
    ),
    "421": (
        _is_graph,
        fault_responses.build_graph_error(
            421, "MisdirectedRequest", "The request was misdirected."
        ),
    ),
    "423": (_is_graph, fault_responses.build_graph_error(423, "Locked", "The resource is locked.")),
    "425": (
        _is_graph,
        fault_responses.build_graph_error(425, "TooEarly", "The request came too early."),
    ),
    "449": (
        _is_graph,
        fault_responses.build_graph_error(
            449, "RetryWith", "Retry after the operation has completed."
        ),
    ),
    # A gateway answers, or no response comes.
    "html-200": (_is_top_level, fault_responses.build_html(200, b"Welcome")),
    "html-502": (_is_top_level, fault_responses.build_html(502, b"502 Bad Gateway")),
    "html-503": (_is_top_level, fault_responses.build_html(503, b"503 Service Unavailable")),
    "empty-200": (_is_top_level, fault_responses.build_empty(200)),
    "empty-500": (_is_top_level, fault_responses.build_empty(500)),
    "truncated": (_is_top_level, fault_responses.truncate_body),
    "cut": (_is_top_level, fault_responses.cut_connection),
    "reset": (_is_top_level, fault_responses.reset_connection),
    "reset-midway": (_is_top_level, fault_responses.reset_mid_body),
    "stall": (_is_top_level, fault_responses.stall_response),
    "trickle": (_is_top_level, fault_responses.trickle_body),
    "item-missing": (_is_batch_item, fault_responses.omit_batch_item),
    "batch-424": (_is_batch, fault_responses.fail_batch_424),
    "html-403": (_is_top_level, fault_responses.build_html(403, b"Request blocked")),
    "html-404": (_is_top_level, fault_responses.build_html(404, b"404 Not Found")),
    "empty-401": (_is_top_level, fault_responses.build_empty(401)),
    "empty-403": (_is_top_level, fault_responses.build_empty(403)),
    "foreign-403": (_is_top_level, fault_responses.build_gateway_error(403)),
    "redirected": (_is_top_level, fault_responses.build_empty(302)),
    # Nango itself fails.
    "nango-429": (_is_top_level, fault_responses.build_rate_limited),
    "nango-500": (_is_top_level, fault_responses.build_nango_fault(500, "generic_error_support")),
    "nango-reset": (
        _is_proxied,
        fault_responses.build_network_error("ECONNRESET", "read ECONNRESET"),
    ),
    "nango-refused": (
        _is_proxied,
        fault_responses.build_network_error("ECONNREFUSED", "connect ECONNREFUSED 20.190.1.1:443"),
    ),
    # Cursors expire.
    "delta-gone": (
        _is_delta_link,
        fault_responses.expire_token("syncStateNotFound", location=True),
    ),
    "delta-gone-bare": (_is_delta_link, fault_responses.expire_token("syncStateNotFound")),
    "delta-resync": (_is_delta_link, fault_responses.expire_token("resyncRequired", location=True)),
    "delta-not-found": (_is_delta_link, fault_responses.expire_token("SyncStateNotFound", 400)),
    "page-expired": (
        _is_page_link,
        fault_responses.build_graph_error(
            400,
            "Directory_ExpiredPageToken",
            "The specified page token value has expired and can no longer be included in your "
            "request.",
        ),
    ),
    # A connection, or all of them, cannot be used.
    "refresh-failed": (
        _is_proxied,
        fault_responses.build_nango_fault(400, "server_error", REFRESH_FAILED),
    ),
    "refresh-backoff": (
        _is_proxied,
        fault_responses.build_nango_fault(424, "connection_refresh_backoff", REFRESH_BACKOFF),
    ),
    "refresh-exhausted": (
        _is_proxied,
        fault_responses.build_nango_fault(424, "server_error", REFRESH_EXHAUSTED),
    ),
    "connection-unknown": (
        _is_proxied,
        fault_responses.build_nango_fault(400, "server_error", "Failed to get connection"),
    ),
    "dns": (
        _is_proxied,
        fault_responses.build_nango_fault(
            400,
            "base_url_override_not_allowed",
            "This outbound URL is not allowed by server configuration.",
        ),
    ),
    "plan-limit": (
        _is_proxied,
        fault_responses.build_nango_fault(402, "plan_limit", "The plan's limit has been reached."),
    ),
    "graph-401": (
        _is_graph,
        fault_responses.build_graph_error(
            401, "InvalidAuthenticationToken", "Access token has expired or is not yet valid."
        ),
    ),
    "graph-403": (
        _is_graph,
        fault_responses.build_graph_error(
            403, "Authorization_RequestDenied", "Insufficient privileges."
        ),
    ),
    "nango-401": (
        _is_top_level,
        fault_responses.build_nango_fault(
            401, "unknown_account", "Authentication failed.", payload={}
        ),
    ),
    "nango-database-away": (
        _is_top_level,
        fault_responses.build_nango_fault(
            401, "malformed_auth_header", "Authentication failed.", payload={}
        ),
    ),
    "nango-403": (
        _is_top_level,
        fault_responses.build_nango_fault(
            403, "forbidden", "Insufficient scope. Required: environment:proxy"
        ),
    ),
}

_BROKEN = (
    "refresh-failed refresh-backoff refresh-exhausted connection-unknown dns plan-limit "
    "graph-401 graph-403 nango-401 nango-403 nango-database-away "
    "html-403 html-404 empty-401 empty-403 foreign-403 redirected"
)
ALL_KINDS = frozenset(_KINDS)
BROKEN = frozenset(_BROKEN.split())
EXPIRIES = frozenset(k for k in ALL_KINDS if k.startswith("delta-") or k == "page-expired")
TRANSIENT = ALL_KINDS - BROKEN - EXPIRIES


def can_apply(kind: str, request: Request) -> bool:
    """Whether a fault of this kind may happen to this request."""
    return _KINDS[kind][0](request)


def build_fault(kind: str, hit: FaultContext) -> Response:
    return _KINDS[kind][1](hit)
