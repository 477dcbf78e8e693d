"""Sends one HTTP request and reads its response; an observer may watch the body arrive."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final, Protocol

import httpx
import msgspec

from worker.core.errors import ConfigurationError, MalformedResponse, MirrorError, RetryNow
from worker.core.net.bounded import BoundedBackend
from worker.core.net.proxy import ProxiedBackend
from worker.core.net.transport import (
    DEADLINE_EXTENSION,
    BoundedTransport,
    TransportConfig,
    find_content_encoding,
)
from worker.nango.errors import classify_transport_error
from worker.nango.response import ApiResponse

MAX_BODY = 64 * 1024 * 1024
MAX_OBSERVED_BYTES = 64 * 1024
"""Bytes of a response shown to an observer; a link after them is found at the end."""


_GZIP_MAGIC: Final = b"\x1f\x8b"
"""The first bytes of gzip data."""


class ResponseObserver(Protocol):
    """Follows one request while it is under way, on the thread that sends it."""

    def mark_sent(self) -> None:
        """Called once the request has been sent."""

    def observe(self, head: bytes) -> bool:
        """Look at what has arrived of a response with 200. Returns whether that was enough.

        Starts again from the beginning if the request is retried.
        """


@dataclass(frozen=True)
class ApiRequest:
    """A request; ``path`` includes the query and is sent byte for byte."""

    method: str
    path: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    observer: ResponseObserver | None = None


class HttpTransport:
    """Pooled connections to one host. Safe to use from several threads."""

    def __init__(self, host: str, key: str, way: TransportConfig | None = None) -> None:
        """Raises ConfigurationError."""
        proxy = None if way is None else way.proxy
        self._base = _parse_base_url(host)
        self._prefix = self._base.raw_path.rstrip(b"/")
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            transport=BoundedTransport(
                BoundedBackend() if proxy is None else ProxiedBackend(proxy, proxy_resolves=True),
                ssl_context=None if way is None else way.ssl_context,
                max_connections=16,
                keepalive_seconds=45.0,
            ),
            follow_redirects=False,
            trust_env=False,
        )

    def close(self) -> None:
        self._http.close()

    def send(
        self, request: ApiRequest, until: float, on_headers: Callable[[ApiResponse], None]
    ) -> ApiResponse:
        """Send a request and read the response; ``on_headers`` is called before the body is read.

        Everything, from the DNS lookup to the last byte, ends at ``until``.
        Raises RetryNow, MalformedResponse, ConfigurationError.
        """
        url = self._base.copy_with(raw_path=self._prefix + request.path)
        options = _build_options(request, until)
        try:
            with self._http.stream(request.method, url, **options) as response:
                head = ApiResponse(response.status_code, b"", _lower_names(response.headers))
                on_headers(head)
                watch = request.observer if head.status == HTTPStatus.OK else None
                return replace(head, body=_read_body(response, until, watch))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise classify_transport_error(error) from error


def _build_options(request: ApiRequest, until: float) -> dict[str, Any]:
    extensions: dict[str, Any] = {DEADLINE_EXTENSION: until}
    options: dict[str, Any] = {"headers": request.headers, "extensions": extensions}
    if request.body is not None:
        options["content"] = msgspec.json.encode(request.body)
        options["headers"] = {**request.headers, "Content-Type": "application/json"}
    if request.observer is not None:
        extensions["trace"] = _build_trace(request.observer)
    return options


def _read_body(response: httpx.Response, until: float, observer: ResponseObserver | None) -> bytes:
    data = bytearray()
    packed = find_content_encoding(response)
    for chunk in response.iter_raw():
        if packed is not None:
            raise _classify_compressed(packed, chunk)
        data += chunk
        if observer is not None and (
            observer.observe(bytes(data)) or len(data) >= MAX_OBSERVED_BYTES
        ):
            observer = None
        if len(data) > MAX_BODY:
            torn = MalformedResponse(f"a response exceeds {MAX_BODY >> 20} MB", after=600)
            torn.needs_smaller_request = True
            raise torn
        if time.monotonic() > until:
            retry = RetryNow("Nango's response took too long")
            retry.needs_smaller_request = True
            raise retry
    return bytes(data)


def _classify_compressed(how: str, beginning: bytes) -> MirrorError:
    """Return the error for a compressed response, which we never ask for and never decompress."""
    if how in ("gzip", "x-gzip") and not beginning.startswith(_GZIP_MAGIC):
        return RetryNow("a response is declared as compressed, but is not")
    return MalformedResponse(
        f"a response is compressed ({how}) without being requested, and may exceed "
        f"{MAX_BODY >> 20} MB; check the proxies in front of Nango",
        after=600,
    )


def _build_trace(observer: ResponseObserver) -> Callable[[str, object], None]:
    """Return a trace hook for httpcore that reports when the request has been sent."""

    def trace(step: str, _: object) -> None:
        if step.endswith(".send_request_body.complete"):
            observer.mark_sent()

    return trace


def _parse_base_url(host: str) -> httpx.URL:
    try:
        url = httpx.URL(host)
    except httpx.InvalidURL:
        raise ConfigurationError("NANGO_HOST is not an address") from None
    if url.port is not None and not 0 < url.port < 65_536:
        raise ConfigurationError("NANGO_HOST has an invalid port")
    return url


def _lower_names(headers: httpx.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
