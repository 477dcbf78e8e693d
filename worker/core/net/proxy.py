"""Connections through an HTTP proxy with CONNECT; every wait ends at a deadline.

To httpcore's pool it looks like any other connection: TLS runs end to end from here to the host,
and the time that the proxy takes counts against the same deadline.
https://www.rfc-editor.org/rfc/rfc9110#CONNECT
"""

import base64
import re
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final

import httpcore

from worker.core.net.bounded import (
    CONNECT_SECONDS,
    BoundedBackend,
    BoundedStream,
    Deadline,
    translate_socket_errors,
)
from worker.core.net.resolver import RESOLVER, Resolver
from worker.core.net.url import HttpProxy, bracket_ipv6, is_loopback

MAX_HEAD_BYTES: Final = 16_384
"""Most bytes of a proxy's response head that are read."""

_HEAD_END: Final = b"\r\n\r\n"
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?(?:\r\n|$)")
_TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, *range(500, 600)})


class TunnelFailed(httpcore.ProxyError):
    """The proxy is down, too slow, or cannot reach the host. This may pass."""


class TunnelRefused(httpcore.ProxyError):
    """The proxy refuses the request: our settings, or its rules, are wrong."""


class _Tunnel(BoundedStream):
    """A connection through a proxy. Errors of a TLS handshake that times out name the proxy."""

    def __init__(
        self, sock: socket.socket, deadline: Deadline, connect_seconds: float, proxy: HttpProxy
    ) -> None:
        super().__init__(sock, deadline, connect_seconds)
        self._proxy = proxy

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            return super().start_tls(ssl_context, server_hostname, timeout)
        except httpcore.ConnectTimeout as late:
            hint = f"check {self._proxy.setting} too"
            raise httpcore.ConnectTimeout(f"{late}, through {self._proxy}; {hint}") from late


class ProxiedBackend(BoundedBackend):
    """Opens connections through a proxy. Safe to use from several threads.

    Hosts are resolved here and the proxy gets an address that passed ``filter_addresses``. With
    ``proxy_resolves`` the proxy gets the name and resolves it. Numeric hosts are always filtered.
    """

    def __init__(
        self,
        proxy: HttpProxy,
        *,
        filter_addresses: Callable[[str, list[str]], list[str]] | None = None,
        proxy_resolves: bool = False,
        connect_seconds: float = CONNECT_SECONDS,
        resolver: Resolver = RESOLVER,
    ) -> None:
        super().__init__(
            filter_addresses=filter_addresses, connect_seconds=connect_seconds, resolver=resolver
        )
        self._proxy = proxy
        self._proxy_resolves = proxy_resolves

    def _open_connection(
        self, host: str, port: int, until: float, options: list[Any]
    ) -> BoundedStream:
        names = self._list_targets(host, port, until)
        for number, name in enumerate(names[:-1]):
            share = (until - time.monotonic()) / (len(names) - number)
            try:
                return self._open_tunnel(name, port, time.monotonic() + share, options)
            except TunnelFailed:
                continue  # the host has another address
        return self._open_tunnel(names[-1], port, until, options)

    def _list_targets(self, host: str, port: int, until: float) -> list[str]:
        """Return the hosts or addresses to ask the proxy for, one after another."""
        if self._proxy_resolves and (
            self._filter_addresses is None or not _is_local_or_numeric(host)
        ):
            return [host]
        try:
            with translate_socket_errors(httpcore.ConnectTimeout, httpcore.ConnectError):
                return self._resolve(host, port, until)
        except httpcore.ConnectError as error:
            hint = f"; if only the proxy can look it up, set {self._proxy.setting}_RESOLVES to yes"
            raise httpcore.ConnectError(f"{error}{hint}") from error

    def _open_tunnel(self, name: str, port: int, until: float, options: list[Any]) -> BoundedStream:
        """Open a connection through the proxy to the host."""
        try:
            with translate_socket_errors(httpcore.ConnectTimeout, httpcore.ConnectError):
                stream = self._connect_to_proxy(until, options)
            try:
                self._send_connect(stream, f"{bracket_ipv6(name)}:{port}", until)
            except BaseException:
                stream.close()
                raise
        except (httpcore.TimeoutException, httpcore.NetworkError) as error:
            late = isinstance(error, httpcore.TimeoutException)
            why = "did not answer in time" if late else f"cannot be reached ({error})"
            raise TunnelFailed(f"{self._proxy} {why}; check {self._proxy.setting}") from error
        return stream

    def _build_stream(self, sock: socket.socket) -> BoundedStream:
        return _Tunnel(sock, self._deadline, self._connect_seconds, self._proxy)

    def _connect_to_proxy(self, until: float, options: list[Any]) -> BoundedStream:
        host, port = self._proxy.host, self._proxy.port
        addresses = self._resolver.resolve(
            host, port, lambda: self._deadline.require_time_left(until)
        )
        return self._connect_to_any(addresses, port, until, options)

    def _send_connect(self, stream: BoundedStream, place: str, until: float) -> None:
        """Ask the proxy for a connection to a host. Raises TunnelFailed, TunnelRefused."""
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if self._proxy.credentials is not None:
            login = base64.b64encode(self._proxy.credentials.encode()).decode("ascii")
            lines.append(f"Proxy-Authorization: Basic {login}")
        stream.write("\r\n".join([*lines, "", ""]).encode("ascii"), until)
        status = self._read_status(stream, until)
        if not 200 <= status < 300:
            raise self._build_refusal(status, place)

    def _read_status(self, stream: BoundedStream, until: float) -> int:
        """Return the status of the proxy's response, once its head is complete."""
        head = bytearray()
        while True:
            end = head.find(_HEAD_END)
            if end < 0:
                self._read_more(stream, head, until)
                continue
            match = _STATUS_LINE.match(head)
            if match is None:
                raise self._build_protocol_error()
            status, behind = int(match[1]), head[end + len(_HEAD_END) :]
            if status >= 200:
                if behind and status < 300:
                    raise self._build_protocol_error()
                return status
            head = behind

    def _read_more(self, stream: BoundedStream, head: bytearray, until: float) -> None:
        if len(head) > MAX_HEAD_BYTES or not b"HTTP/1.".startswith(bytes(head[:7])):
            raise self._build_protocol_error()
        chunk = stream.read(MAX_HEAD_BYTES, until)
        if not chunk:
            why = "closed the connection without a response"
            raise TunnelFailed(f"{self._proxy} {why}; check {self._proxy.setting}")
        head += chunk

    def _build_protocol_error(self) -> TunnelRefused:
        return TunnelRefused(
            f"{self._proxy} does not respond like an HTTP proxy; check {self._proxy.setting}"
        )

    def _build_refusal(self, status: int, place: str) -> httpcore.ProxyError:
        proxy, setting = self._proxy, self._proxy.setting
        if status == 407 and proxy.credentials is None:
            return TunnelRefused(
                f"{proxy} asks for a user and password (HTTP 407); put them into {setting}: "
                "http://user:password@host:port"
            )
        if status == 407:
            return TunnelRefused(
                f"{proxy} rejects the user and password (HTTP 407); check {setting}"
            )
        if status in _TRANSIENT_STATUSES:
            return TunnelFailed(f"{proxy} cannot reach {place} (HTTP {status})")
        return TunnelRefused(
            f"{proxy} refuses connections to {place} (HTTP {status}); allow them "
            f"there, or check {setting}"
        )


def _is_local_or_numeric(host: str) -> bool:
    """Whether a host is a numeric address in any notation, or this machine's own name."""
    if is_loopback(host):
        return True
    with suppress(ValueError):
        ip_address(host)
        return True
    with suppress(OSError):
        socket.inet_aton(host)
        return True
    return False
