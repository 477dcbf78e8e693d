"""Classifies responses of the proxy: Graph's or Nango's own, and what Nango's mean.

Nango passes Graph's responses through and mixes in its own errors, with misleading statuses (an
unknown connection is a 400). The order of the checks distinguishes them; see
https://nango.dev/docs/reference/api for the documented part.
"""

from typing import Any

import httpx

from worker.conditions.reasons import ACCESS_NOT_RENEWED, ACCESS_NOT_RENEWED_NOW
from worker.core.errors import (
    BudgetExhausted,
    ConfigurationError,
    ConnectionBroken,
    MalformedResponse,
    MirrorError,
    RetryLater,
    RetryNow,
)
from worker.core.net.transport import CertificateError, ProxyRefusal
from worker.nango.response import ApiResponse, is_timeout


class RateLimited(RetryNow):
    """Nango's own rate limit, which is shared by the whole account."""


class UnexpectedHtml(RetryNow):
    """The response is an HTML page."""


class SuspectedMisconfiguration(ConfigurationError):
    """Either a wrong key or address, or a transient fault or a firewall.

    The client decides which: it knows whether Nango has worked before, and can send a health check.
    """


class InterceptedResponse(MalformedResponse):
    """A gateway or firewall answered this request in Nango's place; Nango answers others."""


class SuspectedGlobalFailure(SuspectedMisconfiguration):
    """A suspected fault that concerns every call, so that a health check is sent at once."""


class SuspectedInvalidKey(SuspectedGlobalFailure):
    """The key is refused, which Nango also does to every key while its database is down."""


class SuspectedNetworkRefusal(SuspectedGlobalFailure):
    """Nango's certificate is not trusted, or the HTTP proxy refuses the connection."""


GRAPH_HEADERS = ("request-id", "x-ms-ags-diagnostic", "client-request-id")

_TIMEOUT_CODES = frozenset({"ETIMEDOUT", "ESOCKETTIMEDOUT", "ECONNABORTED"})
"""Nango's codes for a request to Graph that timed out."""

_CHECK_KEY = (
    "check NANGO_SECRET_KEY: it must be the API key of the environment with the connections"
)
_RECREATE_INTEGRATION = "recreate it from one of Nango's Microsoft providers"
_NANGO_ERRORS: dict[str, tuple[type[MirrorError], str]] = {
    "missing_auth_header": (SuspectedInvalidKey, f"Nango got no key; {_CHECK_KEY}"),
    "malformed_auth_header": (SuspectedInvalidKey, f"Nango could not read the key; {_CHECK_KEY}"),
    "invalid_secret_key_format": (
        SuspectedInvalidKey,
        f"Nango says that the key is not one of its keys; {_CHECK_KEY}",
    ),
    "unknown_account": (ConfigurationError, f"Nango does not know the key; {_CHECK_KEY}"),
    "forbidden": (
        ConfigurationError,
        (
            "Nango's key lacks a scope; it needs environment:connections:list, "
            "environment:connections:read and environment:proxy"
        ),
    ),
    "plan_limit": (
        ConfigurationError,
        "Nango's plan has no proxy calls left; upgrade it or wait for renewal",
    ),
    "unknown_provider_config": (
        ConnectionBroken,
        "Nango no longer has this integration; restore it or delete the connection",
    ),
    "connection_refresh_backoff": (ConnectionBroken, ACCESS_NOT_RENEWED_NOW),
    "invalid_credentials": (ConnectionBroken, ACCESS_NOT_RENEWED),
    "unknown_connection": (ConnectionBroken, "Nango does not know this connection"),
    "unsupported_provider": (
        ConnectionBroken,
        f"Nango cannot proxy for this integration; {_RECREATE_INTEGRATION}",
    ),
    "unknown_provider": (
        ConnectionBroken,
        f"Nango does not know the integration's provider; {_RECREATE_INTEGRATION}",
    ),
    "missing_api_url": (
        ConnectionBroken,
        f"Nango knows no address of Graph; {_RECREATE_INTEGRATION}",
    ),
    "base_url_override_disabled": (
        ConnectionBroken,
        f"Nango may not reach Graph's address for this integration; {_RECREATE_INTEGRATION}",
    ),
    "base_url_override_not_allowed": (
        RetryNow,
        "Nango could not resolve or was not allowed to reach Graph's host",
    ),
}


_KEY_REFUSED_CODES = frozenset(
    code for code, (kind, _) in _NANGO_ERRORS.items() if kind is SuspectedInvalidKey
) | {"unknown_account"}


def is_from_working_nango(response: ApiResponse) -> bool:
    """Whether a response proves that Nango works and accepts our key; Graph's responses do, too."""
    if _has_graph_headers(response):
        return True
    if response.is_success:
        return _classify_html(response) is None and response.body.lstrip()[:1] in (b"{", b"[")
    document = response.parse_json()
    code = _get_text(_get_error(document), "code")
    if response.status >= 500 and not is_from_graph(response):
        named = document.get("code") if isinstance(document, dict) else None
        return isinstance(named, str)  # Nango found the connection, but cannot reach Graph
    return (
        bool(code)
        and code not in _KEY_REFUSED_CODES
        and (response.status != 401 or is_from_graph(response))
    )


def is_from_graph(response: ApiResponse) -> bool:
    """Whether the response is Graph's own, by its headers or the shape of its body."""
    if _has_graph_headers(response):
        return True
    error = _get_error(response.parse_json())
    code = error.get("code")
    if not isinstance(code, str):
        return False
    return "innerError" in error or "innererror" in error or not _is_nango_code(code)


def _has_graph_headers(response: ApiResponse) -> bool:
    return any(name in response.headers for name in GRAPH_HEADERS)


def _is_nango_code(code: str) -> bool:
    return code in _NANGO_ERRORS or code == code.lower()


def _get_error(document: Any) -> dict[str, Any]:
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else {}


def _get_text(error: dict[str, Any], name: str) -> str:
    value = error.get(name)
    return value if isinstance(value, str) else ""


def classify_nango_response(response: ApiResponse, now: float) -> MirrorError | None:
    """Return the error of a response by Nango itself; None for any response of Graph."""
    if response.is_success:
        return None if _has_graph_headers(response) else _classify_html(response)
    if is_from_graph(response):
        return None
    document = response.parse_json()
    error = _get_error(document)
    code, message = _get_text(error, "code"), _get_text(error, "message")
    if response.status == 429 or code == "too_many_request":
        after = max(1.0, response.get_retry_after(now) or 0.0)
        return RateLimited("Nango's own rate limit is reached", after=after)
    if code in _NANGO_ERRORS:
        kind, sentence = _NANGO_ERRORS[code]
        return kind(sentence)
    if code == "server_error":
        return _classify_server_error(message)
    return _classify_by_status(response, document, code)


def _classify_server_error(message: str) -> MirrorError:
    if "credentials" in message or "refresh limit" in message:
        return ConnectionBroken(ACCESS_NOT_RENEWED)
    return ConnectionBroken("Nango does not know this connection")


def _classify_by_status(response: ApiResponse, document: Any, code: str) -> MirrorError | None:
    if response.status >= 500:
        named = document.get("code") if isinstance(document, dict) else None
        reason = f" ({named})" if isinstance(named, str) else ""
        retry = RetryNow(f"Nango got no answer from Graph{reason}; HTTP {response.status}")
        retry.needs_smaller_request = is_timeout(response) or named in _TIMEOUT_CODES
        return retry
    if response.status == 401:
        return SuspectedMisconfiguration(f"Nango refused the key (HTTP 401); {_CHECK_KEY}")
    if response.status in (408, 409, 421, 423, 425, 449):
        return RetryNow(f"the request did not reach Graph; HTTP {response.status}")
    if response.status in (413, 414, 431):
        return MalformedResponse(
            f"a request is too large for Nango; HTTP {response.status}", after=3600
        )
    if not code:
        return SuspectedMisconfiguration(
            f"an HTTP {response.status} that is neither Nango's nor Graph's; check NANGO_HOST and "
            "what stands in front of it (a firewall, a gateway)"
        )
    return _classify_by_code(code[:60], _get_error(document))


def _classify_by_code(code: str, error: dict[str, Any]) -> MirrorError:
    """Classify other responses by Nango's code, so that none counts as Graph's expired cursor."""
    about_id = code == "invalid_headers" and _is_about_connection_id(error.get("errors"))
    if code == "invalid_uri_params" or about_id:
        return ConnectionBroken(
            f"Nango's proxy does not accept the connection's id ({code}); "
            "connect it again under an id of letters, digits and hyphens"
        )
    if code.startswith("invalid_"):
        return SuspectedMisconfiguration(
            f"Nango refused our request ({code}); this is a fault of Tenant Mirror"
        )
    return ConnectionBroken(f"Nango refused the request ({code}); see Nango's log")


def _is_about_connection_id(faults: Any) -> bool:
    """Whether Nango rejects the headers that hold the connection's ids, or names no header."""
    listed = faults if isinstance(faults, list) else []
    paths = [fault.get("path") for fault in listed if isinstance(fault, dict)]
    named = {part for path in paths if isinstance(path, list) for part in map(str, path)}
    return not named or not named.isdisjoint(("connection-id", "provider-config-key"))


def _classify_html(response: ApiResponse) -> MirrorError | None:
    """Classify an HTML page. With status 200 it is Nango's dashboard, or a gateway's page."""
    kind = response.headers.get("content-type", "")
    if "html" in kind or response.body[:1] == b"<":
        return UnexpectedHtml("received a web page instead of a response of Nango or Graph")
    return None


def classify_transport_error(error: httpx.HTTPError | httpx.InvalidURL) -> MirrorError:
    """Translate an httpx error into one of ours. Covers every exception of httpx."""
    name = type(error).__name__
    match error:
        case httpx.TooManyRedirects() | httpx.UnsupportedProtocol() | httpx.InvalidURL():
            return ConfigurationError(f"NANGO_HOST cannot be used ({name}); check the address")
        case CertificateError() | ProxyRefusal():
            return SuspectedNetworkRefusal(f"Nango cannot be reached: {error}")
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            return RetryNow(
                f"Nango cannot be reached ({name}: {error}); check NANGO_HOST if it lasts"
            )
        case httpx.TransportError() | httpx.DecodingError():
            retry = RetryNow(f"the connection to Nango failed ({name})")
            retry.needs_smaller_request = isinstance(error, httpx.ReadTimeout)
            return retry
        case _:
            return MalformedResponse(f"Nango's answer could not be read ({name})")


def to_retry_later(
    error: RetryNow, pause: float, *, has_worked: bool = False
) -> RetryLater | ConfigurationError:
    """Return the error to raise once the retries in place are used up.

    ``has_worked``: the address has answered like Nango before, so a web page is a gateway's
    transient fault.
    """
    if isinstance(error, UnexpectedHtml) and not has_worked:
        return ConfigurationError(
            "NANGO_HOST answers with a web page instead of Nango's API; check the address"
        )
    kind = BudgetExhausted if isinstance(error, RateLimited) else RetryLater
    later = kind(
        error.message,
        connection=error.connection,
        resource=error.resource,
        after=max(pause, error.after or 0.0),
    )
    later.status, later.has_exhausted_retries, later.needs_smaller_request = (
        error.status,
        True,
        error.needs_smaller_request,
    )
    return later
