"""Whose answer is it, Graph's or Nango's, and what does Nango's mean?

Nango passes Graph's answers through and mixes its own errors in with misleading statuses (an
unknown connection is a 400). The order of the tests is what tells them apart; see
https://nango.dev/docs/reference/api for the documented part.
"""

from typing import Any

import httpx

from worker.core.errors import Broken, Halt, Later, Retry, Spent, Torn, Trouble
from worker.core.transport import CertificateError, ProxyRefusal
from worker.nango.reply import Reply, is_slow


class Limited(Retry):
    """Nango's own rate limit, which is the whole account's."""


class WebPage(Retry):
    """HTML in place of an answer."""


class Doubtful(Halt):
    """What a wrong key or address looks like, and also a passing fault or a firewall's refusal.

    The client decides which: it knows whether Nango has worked, and can ask Nango itself.
    """


class StrangeAnswer(Torn):
    """Something in between answered this one request; Nango answers others."""


class AllDoubted(Doubtful):
    """What is doubted concerns every call: whether others get through is asked at once."""


class KeyDoubted(AllDoubted):
    """The key is refused in a way that a Nango without its database refuses every key."""


class WayDoubted(AllDoubted):
    """The way to Nango: its certificate is not trusted, or the proxy does not let us through."""


GRAPH_HEADERS = ("request-id", "x-ms-ags-diagnostic", "client-request-id")

_OUT_OF_TIME = frozenset({"ETIMEDOUT", "ESOCKETTIMEDOUT", "ECONNABORTED"})
"""What Nango calls a request to Graph that took too long."""

_KEY = "check NANGO_SECRET_KEY: it must be the API key of the environment with the connections"
_INTEGRATION = "recreate it from one of Nango's Microsoft providers"
_OURS: dict[str, tuple[type[Trouble], str]] = {
    "missing_auth_header": (KeyDoubted, f"Nango got no key; {_KEY}"),
    "malformed_auth_header": (KeyDoubted, f"Nango could not read the key; {_KEY}"),
    "invalid_secret_key_format": (
        KeyDoubted,
        f"Nango says that the key is not one of its keys; {_KEY}",
    ),
    "unknown_account": (Halt, f"Nango does not know the key; {_KEY}"),
    "forbidden": (
        Halt,
        (
            "Nango's key lacks a scope; it needs environment:connections:list, "
            "environment:connections:read and environment:proxy"
        ),
    ),
    "plan_limit": (Halt, "Nango's plan has no proxy calls left; upgrade it or wait for renewal"),
    "unknown_provider_config": (
        Broken,
        "Nango no longer has this integration; restore it or delete the connection",
    ),
    "connection_refresh_backoff": (
        Broken,
        "Nango could not renew the connection's token a moment ago; if it lasts, reconnect it",
    ),
    "invalid_credentials": (
        Broken,
        "Nango could not renew the connection's token; if it lasts, the customer must reconnect",
    ),
    "unknown_connection": (Broken, "Nango does not know this connection"),
    "unsupported_provider": (Broken, f"Nango cannot proxy for this integration; {_INTEGRATION}"),
    "unknown_provider": (Broken, f"Nango does not know the integration's provider; {_INTEGRATION}"),
    "missing_api_url": (Broken, f"Nango knows no address of Graph; {_INTEGRATION}"),
    "base_url_override_disabled": (
        Broken,
        f"Nango may not reach Graph's address for this integration; {_INTEGRATION}",
    ),
    "base_url_override_not_allowed": (
        Retry,
        "Nango could not resolve or was not allowed to reach Graph's host",
    ),
}


_KEY_REFUSED = frozenset(code for code, (kind, _) in _OURS.items() if kind is KeyDoubted) | {
    "unknown_account"
}


def shows_that_nango_works(reply: Reply) -> bool:
    """Whether only a Nango that accepts our key gives such an answer, or Graph behind it."""
    if _has_graph_headers(reply):
        return True
    if reply.ok:
        return _not_json(reply) is None and reply.body.lstrip()[:1] in (b"{", b"[")
    document = reply.document()
    code = _text(_error(document), "code")
    if reply.status >= 500 and not from_graph(reply):
        named = document.get("code") if isinstance(document, dict) else None
        return isinstance(named, str)  # Nango found the connection, and no way to Graph
    return bool(code) and code not in _KEY_REFUSED and (reply.status != 401 or from_graph(reply))


def from_graph(reply: Reply) -> bool:
    """Whether the answer is Graph's own, by its headers or the shape of its body."""
    if _has_graph_headers(reply):
        return True
    error = _error(reply.document())
    code = error.get("code")
    if not isinstance(code, str):
        return False
    return "innerError" in error or "innererror" in error or not _is_nango_code(code)


def _has_graph_headers(reply: Reply) -> bool:
    return any(name in reply.headers for name in GRAPH_HEADERS)


def _is_nango_code(code: str) -> bool:
    return code in _OURS or code == code.lower()


def _error(document: Any) -> dict[str, Any]:
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else {}


def _text(error: dict[str, Any], name: str) -> str:
    value = error.get(name)
    return value if isinstance(value, str) else ""


def nango_trouble(reply: Reply, now: float) -> Trouble | None:
    """Nango's own failure, or None where the answer is Graph's (of whatever status)."""
    if reply.ok:
        return None if _has_graph_headers(reply) else _not_json(reply)
    if from_graph(reply):
        return None
    document = reply.document()
    error = _error(document)
    code, message = _text(error, "code"), _text(error, "message")
    if reply.status == 429 or code == "too_many_request":
        after = max(1.0, reply.retry_after(now) or 0.0)
        return Limited("Nango's own rate limit is reached", after=after)
    if code in _OURS:
        kind, sentence = _OURS[code]
        return kind(sentence)
    if code == "server_error":
        return _server_error(message)
    return _by_status(reply, document, code)


def _server_error(message: str) -> Trouble:
    if "credentials" in message or "refresh limit" in message:
        return Broken(
            "Nango could not renew the connection's token; if it lasts, the customer must reconnect"
        )
    return Broken("Nango does not know this connection")


def _by_status(reply: Reply, document: Any, code: str) -> Trouble | None:
    if reply.status >= 500:
        named = document.get("code") if isinstance(document, dict) else None
        reason = f" ({named})" if isinstance(named, str) else ""
        retry = Retry(f"Nango got no answer from Graph{reason}; HTTP {reply.status}")
        retry.slow = is_slow(reply) or named in _OUT_OF_TIME
        return retry
    if reply.status == 401:
        return Doubtful(f"Nango refused the key (HTTP 401); {_KEY}")
    if reply.status in (408, 409, 421, 423, 425, 449):
        return Retry(f"the request did not get through to Graph; HTTP {reply.status}")
    if reply.status in (413, 414, 431):
        return Torn(f"a request is too large for Nango; HTTP {reply.status}", after=3600)
    if not code:
        return Doubtful(
            f"an HTTP {reply.status} that is neither Nango's nor Graph's; check NANGO_HOST and "
            "what stands in front of it (a firewall, a gateway)"
        )
    return _by_code(code[:60], _error(document))


def _by_code(code: str, error: dict[str, Any]) -> Trouble:
    """What else Nango says; its code tells it from Graph, whose refusals can cost a cursor."""
    about_id = code == "invalid_headers" and _objects_to_ids(error.get("errors"))
    if code == "invalid_uri_params" or about_id:
        return Broken(
            f"Nango's proxy does not accept the connection's id ({code}); "
            "connect it again under an id of letters, digits and hyphens"
        )
    if code.startswith("invalid_"):
        return Doubtful(f"Nango refused our request ({code}); this is a fault of Tenant Mirror")
    return Broken(f"Nango refused the request ({code}); its log tells why")


def _objects_to_ids(faults: Any) -> bool:
    """Whether Nango names the headers that hold a connection's own words, or none at all."""
    listed = faults if isinstance(faults, list) else []
    paths = [fault.get("path") for fault in listed if isinstance(fault, dict)]
    named = {part for path in paths if isinstance(path, list) for part in map(str, path)}
    return not named or not named.isdisjoint(("connection-id", "provider-config-key"))


def _not_json(reply: Reply) -> Trouble | None:
    """A page of HTML with 200 is Nango's dashboard, or a gateway's on the way."""
    kind = reply.headers.get("content-type", "")
    if "html" in kind or reply.body[:1] == b"<":
        return WebPage("a web page came instead of an answer of Nango or Graph")
    return None


def transport_trouble(fault: httpx.HTTPError | httpx.InvalidURL) -> Trouble:
    """What an httpx failure means for us. Every exception of httpx has a place here."""
    name = type(fault).__name__
    match fault:
        case httpx.TooManyRedirects() | httpx.UnsupportedProtocol() | httpx.InvalidURL():
            return Halt(f"NANGO_HOST cannot be used ({name}); check the address")
        case CertificateError() | ProxyRefusal():
            return WayDoubted(f"Nango cannot be reached: {fault}")
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            return Retry(f"Nango cannot be reached ({name}: {fault}); check NANGO_HOST if it lasts")
        case httpx.TransportError() | httpx.DecodingError():
            retry = Retry(f"the connection to Nango failed ({name})")
            retry.slow = isinstance(fault, httpx.ReadTimeout)
            return retry
        case _:
            return Torn(f"Nango's answer could not be read ({name})")


def exhausted(trouble: Retry, pause: float, *, proven: bool = False) -> Later | Halt:
    """The same trouble once trying in place is over.

    ``proven`` says that the address answered like Nango before: then a web page is a passing
    fault of something in between.
    """
    if isinstance(trouble, WebPage) and not proven:
        return Halt("NANGO_HOST answers with a web page instead of Nango's API; check the address")
    kind = Spent if isinstance(trouble, Limited) else Later
    later = kind(
        trouble.message,
        connection=trouble.connection,
        resource=trouble.resource,
        after=max(pause, trouble.after or 0.0),
    )
    later.status, later.tried, later.slow = trouble.status, True, trouble.slow
    return later
