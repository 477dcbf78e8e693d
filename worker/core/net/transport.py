"""The httpx transport: each request and its response end at one deadline."""

import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import httpcore
import httpx

from worker.core.net.bounded import BoundedBackend, UntrustedCertificate
from worker.core.net.proxy import TunnelFailed, TunnelRefused
from worker.core.net.tls import build_ssl_context
from worker.core.net.url import HttpProxy

DEADLINE_EXTENSION: Final = "deadline"
"""Request extension: the ``time.monotonic`` by which the response must have been read."""
DEFAULT_SECONDS: Final = 60.0
"""Time limit of a request without a deadline."""


class CertificateError(httpx.ConnectError):
    """We do not trust the host's certificate."""


class ProxyRefusal(httpx.ProxyError):
    """The proxy refuses the request: our settings, or its rules, are wrong."""


_HTTPX_ERRORS: Final[dict[type[Exception], type[httpx.HTTPError]]] = {
    UntrustedCertificate: CertificateError,
    TunnelRefused: ProxyRefusal,
    TunnelFailed: httpx.ProxyError,
    httpcore.ConnectTimeout: httpx.ConnectTimeout,
    httpcore.ReadTimeout: httpx.ReadTimeout,
    httpcore.WriteTimeout: httpx.WriteTimeout,
    httpcore.PoolTimeout: httpx.PoolTimeout,
    httpcore.ConnectError: httpx.ConnectError,
    httpcore.ReadError: httpx.ReadError,
    httpcore.WriteError: httpx.WriteError,
    httpcore.LocalProtocolError: httpx.LocalProtocolError,
    httpcore.RemoteProtocolError: httpx.RemoteProtocolError,
    httpcore.UnsupportedProtocol: httpx.UnsupportedProtocol,
    httpcore.ProxyError: httpx.ProxyError,
}
_HTTPCORE_ERRORS: Final = tuple(_HTTPX_ERRORS)


def find_content_encoding(response: httpx.Response) -> str | None:
    """Return the content encoding of a response that should have none, or None.

    Such a body is never decompressed: a few bytes can become gigabytes.
    """
    named = response.headers.get("content-encoding", "").strip().lower()
    return None if named in ("", "identity") else re.sub(r"[^a-z0-9,. _-]", "?", named)[:40]


@dataclass(frozen=True)
class TransportConfig:
    """The TLS and proxy configuration of a transport."""

    ssl_context: ssl.SSLContext | None = None
    """Trusts extra certificate authorities; without it, only the public ones are trusted."""
    proxy: HttpProxy | None = None
    proxy_resolves: bool = False
    """The proxy resolves the names of webhooks, and has to block those of internal hosts."""


class BoundedTransport(httpx.BaseTransport):
    """Pooled connections to hosts. Safe to use from several threads."""

    def __init__(
        self,
        backend: BoundedBackend,
        *,
        ssl_context: ssl.SSLContext | None = None,
        max_connections: int,
        keepalive_seconds: float,
    ) -> None:
        """Without ``ssl_context`` the public authorities are trusted.

        Raises ConfigurationError if the environment names certificates that cannot be read.
        """
        self._backend = backend
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl_context or build_ssl_context(),
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=keepalive_seconds,
            network_backend=backend,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        now = time.monotonic()
        deadline = float(request.extensions.get(DEADLINE_EXTENSION, now + DEFAULT_SECONDS))
        left = max(0.01, deadline - now)
        # The pool takes seconds, the backend takes deadlines.
        timeouts = {"pool": left, **dict.fromkeys(("connect", "read", "write"), deadline)}
        with _translate_httpcore_errors():
            response = self._pool.handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions={**request.extensions, "timeout": timeouts},
                )
            )
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_ResponseBody(response),
            extensions=response.extensions,
        )

    def set_deadline(self, moment: float) -> None:
        """Let every request fail from ``moment`` on, also those under way in other threads."""
        self._backend.set_deadline(moment)

    def close(self) -> None:
        self._pool.close()


class _ResponseBody(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with _translate_httpcore_errors():
            yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


@contextmanager
def _translate_httpcore_errors() -> Iterator[None]:
    try:
        yield
    except _HTTPCORE_ERRORS as error:
        error_type = next(there for here, there in _HTTPX_ERRORS.items() if isinstance(error, here))
        raise error_type(str(error)) from error
