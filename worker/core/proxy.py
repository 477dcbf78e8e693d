"""Connections through an HTTP proxy, with CONNECT, each of whose waits ends at a moment.

Below httpcore's pool it looks like any other connection: what is encrypted is so from here to the
host, and the time that the proxy takes counts like the host's own.
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

from worker.core.bounded_net import (
    CONNECT_SECONDS,
    BoundedBackend,
    BoundedStream,
    Limit,
    told_as,
)
from worker.core.resolver import RESOLVER, Resolver
from worker.core.url import Proxy, bracketed, is_loopback

MOST_HEAD: Final = 16_384
"""Bytes of a proxy's answer that are read."""

_END: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?(?:\r\n|$)")
_PASSING: Final = frozenset({408, 425, 429, *range(500, 600)})


class ProxyFailed(httpcore.ProxyError):
    """The proxy is away, too slow, or found no way to the host: that may pass."""


class ProxyRefused(httpcore.ProxyError):
    """The proxy does not do what we ask for: our settings, or its rules, are wrong."""


class _Tunnel(BoundedStream):
    """A connection through a proxy, which is named where TLS is not had in time."""

    def __init__(
        self, sock: socket.socket, limit: Limit, connect_seconds: float, proxy: Proxy
    ) -> None:
        super().__init__(sock, limit, connect_seconds)
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

    Hosts are resolved here and the proxy is asked for an address that was judged; or ``by_name``,
    and then it is the proxy that resolves. Numbers are judged here in both cases.
    """

    def __init__(
        self,
        proxy: Proxy,
        *,
        permitted: Callable[[str, list[str]], list[str]] | None = None,
        by_name: bool = False,
        connect_seconds: float = CONNECT_SECONDS,
        resolver: Resolver = RESOLVER,
    ) -> None:
        super().__init__(permitted=permitted, connect_seconds=connect_seconds, resolver=resolver)
        self._proxy = proxy
        self._by_name = by_name

    def _connection_to(
        self, host: str, port: int, until: float, options: list[Any]
    ) -> BoundedStream:
        names = self._names(host, port, until)
        for number, name in enumerate(names[:-1]):
            share = (until - time.monotonic()) / (len(names) - number)
            try:
                return self._tunnel(name, port, time.monotonic() + share, options)
            except ProxyFailed:
                continue  # the host has another address
        return self._tunnel(names[-1], port, until, options)

    def _names(self, host: str, port: int, until: float) -> list[str]:
        """What the proxy is asked for, one after another."""
        if self._by_name and (self._permitted is None or not _is_known_here(host)):
            return [host]
        try:
            with told_as(httpcore.ConnectTimeout, httpcore.ConnectError):
                return self._found(host, port, until)
        except httpcore.ConnectError as fault:
            hint = f"; if only the proxy can look it up, set {self._proxy.setting}_RESOLVES to yes"
            raise httpcore.ConnectError(f"{fault}{hint}") from fault

    def _tunnel(self, name: str, port: int, until: float, options: list[Any]) -> BoundedStream:
        """A connection that ends at the host."""
        try:
            with told_as(httpcore.ConnectTimeout, httpcore.ConnectError):
                stream = self._to_proxy(until, options)
            try:
                self._ask(stream, f"{bracketed(name)}:{port}", until)
            except BaseException:
                stream.close()
                raise
        except (httpcore.TimeoutException, httpcore.NetworkError) as fault:
            late = isinstance(fault, httpcore.TimeoutException)
            why = "did not answer in time" if late else f"cannot be reached ({fault})"
            raise ProxyFailed(f"{self._proxy} {why}; check {self._proxy.setting}") from fault
        return stream

    def _stream_of(self, sock: socket.socket) -> BoundedStream:
        return _Tunnel(sock, self._limit, self._connect_seconds, self._proxy)

    def _to_proxy(self, until: float, options: list[Any]) -> BoundedStream:
        host, port = self._proxy.host, self._proxy.port
        addresses = self._resolver.addresses(host, port, lambda: self._limit.left(until))
        return self._opened(addresses, port, until, options)

    def _ask(self, stream: BoundedStream, place: str, until: float) -> None:
        """Ask for a connection to a host. Raises ProxyFailed, ProxyRefused."""
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if self._proxy.login is not None:
            login = base64.b64encode(self._proxy.login.encode()).decode("ascii")
            lines.append(f"Proxy-Authorization: Basic {login}")
        stream.write("\r\n".join([*lines, "", ""]).encode("ascii"), until)
        status = self._status(stream, until)
        if not 200 <= status < 300:
            raise self._refusal(status, place)

    def _status(self, stream: BoundedStream, until: float) -> int:
        """What the proxy answers, once its head is complete."""
        head = bytearray()
        while True:
            end = head.find(_END)
            if end < 0:
                self._read_on(stream, head, until)
                continue
            match = _STATUS.match(head)
            if match is None:
                raise self._strange()
            status, behind = int(match[1]), head[end + len(_END) :]
            if status >= 200:
                if behind and status < 300:
                    raise self._strange()
                return status
            head = behind

    def _read_on(self, stream: BoundedStream, head: bytearray, until: float) -> None:
        if len(head) > MOST_HEAD or not b"HTTP/1.".startswith(bytes(head[:7])):
            raise self._strange()
        chunk = stream.read(MOST_HEAD, until)
        if not chunk:
            why = "ended the connection without an answer"
            raise ProxyFailed(f"{self._proxy} {why}; check {self._proxy.setting}")
        head += chunk

    def _strange(self) -> ProxyRefused:
        return ProxyRefused(
            f"{self._proxy} does not answer like an HTTP proxy; check {self._proxy.setting}"
        )

    def _refusal(self, status: int, place: str) -> httpcore.ProxyError:
        proxy, setting = self._proxy, self._proxy.setting
        if status == 407 and proxy.login is None:
            return ProxyRefused(
                f"{proxy} asks for a user and password (HTTP 407); put them into {setting}: "
                "http://user:password@host:port"
            )
        if status == 407:
            return ProxyRefused(
                f"{proxy} does not accept our user and password (HTTP 407); check {setting}"
            )
        if status in _PASSING:
            return ProxyFailed(f"{proxy} finds no way to {place} (HTTP {status})")
        return ProxyRefused(
            f"{proxy} refuses connections to {place} (HTTP {status}); let it permit them, "
            f"or check {setting}"
        )


def _is_known_here(host: str) -> bool:
    """Whether a host is a number, however it is spelled, or this machine's own name."""
    if is_loopback(host):
        return True
    with suppress(ValueError):
        ip_address(host)
        return True
    with suppress(OSError):
        socket.inet_aton(host)
        return True
    return False
