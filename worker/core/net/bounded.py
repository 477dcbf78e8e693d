"""A network backend for httpcore in which every wait ends at a deadline.

httpcore applies its time limits to each single read and write. A peer that sends a byte now and
then (a slow head, endless 1xx responses, chunk extensions) keeps such a call going for ever. Here
the ``timeout`` that httpcore passes on is a deadline of ``time.monotonic``: all reads and writes of
one request share it, so their sum is bounded.

Waits are made in slices, so that ``set_deadline`` takes effect on waits of other threads.
"""

import math
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

import httpcore

from worker.core.net.resolver import POLL_SECONDS, RESOLVER, Resolver
from worker.core.net.tls import explain_certificate_error

T = TypeVar("T")

CONNECT_SECONDS: Final = 10.0
"""Time limit for DNS, TCP connection and TLS handshake together, within the deadline."""


class UntrustedCertificate(httpcore.ConnectError):
    """We do not trust the host's certificate."""


class Deadline:
    """The deadline of a whole backend, on top of the deadlines of its requests."""

    def __init__(self) -> None:
        self._latest = math.inf

    def set_deadline(self, moment: float) -> None:
        self._latest = min(self._latest, moment)

    def require_time_left(self, deadline: float | None) -> float:
        """Return the seconds left, more than 0. Raises TimeoutError if there are none."""
        until = self._latest if deadline is None else min(deadline, self._latest)
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def run_interruptibly(
        self, sock: socket.socket, deadline: float | None, work: Callable[[], T]
    ) -> T:
        """Repeat ``work``, which waits for a socket, until it succeeds or the time is up."""
        while True:
            sock.settimeout(min(POLL_SECONDS, self.require_time_left(deadline)))
            try:
                return work()
            except TimeoutError:
                continue


class BoundedStream(httpcore.NetworkStream):
    """A connection; every ``timeout`` is a deadline of ``time.monotonic``."""

    def __init__(self, sock: socket.socket, deadline: Deadline, connect_seconds: float) -> None:
        self._socket = sock
        self._deadline = deadline
        self._connect_seconds = connect_seconds

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with translate_socket_errors(httpcore.ReadTimeout, httpcore.ReadError):
            receive = partial(self._socket.recv, max_bytes)
            return self._deadline.run_interruptibly(self._socket, timeout, receive)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = memoryview(buffer)
        with translate_socket_errors(httpcore.WriteTimeout, httpcore.WriteError):
            while left:
                send = partial(self._socket.send, left)
                left = left[self._deadline.run_interruptibly(self._socket, timeout, send) :]

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        until = cap_deadline(timeout, self._connect_seconds)
        with (
            translate_socket_errors(httpcore.ConnectTimeout, httpcore.ConnectError),
            _close_on_error(self._socket),
        ):
            self._socket.settimeout(self._deadline.require_time_left(until))
            wrapped = ssl_context.wrap_socket(
                self._socket, server_hostname=server_hostname, do_handshake_on_connect=False
            )
            with _close_on_error(wrapped):
                self._deadline.run_interruptibly(wrapped, until, wrapped.do_handshake)
        return BoundedStream(wrapped, self._deadline, self._connect_seconds)

    def get_extra_info(self, info: str) -> Any:
        match info:
            case "ssl_object":
                return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
            case "client_addr":
                return self._socket.getsockname()
            case "server_addr":
                return self._socket.getpeername()
            case "socket":
                return self._socket
            case "is_readable":
                return _is_readable(self._socket)
            case _:
                return None


class BoundedBackend(httpcore.NetworkBackend):
    """Opens connections; every ``timeout`` is a deadline. Safe to use from several threads.

    ``filter_addresses`` returns those addresses of a host that may be connected to.
    """

    def __init__(
        self,
        *,
        filter_addresses: Callable[[str, list[str]], list[str]] | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        resolver: Resolver = RESOLVER,
    ) -> None:
        self._filter_addresses = filter_addresses
        self._connect_seconds = connect_seconds
        self._resolver = resolver
        self._deadline = Deadline()

    def set_deadline(self, moment: float) -> None:
        """Let every wait of every connection fail from ``moment`` on, also those under way."""
        self._deadline.set_deadline(moment)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        assert local_address is None, "no address of ours is ever chosen"
        until = cap_deadline(timeout, self._connect_seconds)
        return self._open_connection(host, port, until, list(socket_options or ()))

    def _open_connection(
        self, host: str, port: int, until: float, options: list[Any]
    ) -> BoundedStream:
        """Open a connection to the host."""
        with translate_socket_errors(httpcore.ConnectTimeout, httpcore.ConnectError):
            return self._connect_to_any(self._resolve(host, port, until), port, until, options)

    def _connect_to_any(
        self, addresses: list[str], port: int, until: float, options: list[Any]
    ) -> BoundedStream:
        """Connect to the first address that accepts, and wrap the socket in a stream."""
        sock = self._connect_first(addresses, port, until)
        for option in options:
            sock.setsockopt(*option)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._build_stream(sock)

    def _build_stream(self, sock: socket.socket) -> BoundedStream:
        return BoundedStream(sock, self._deadline, self._connect_seconds)

    def _resolve(self, host: str, port: int, until: float) -> list[str]:
        """Return the addresses that may be connected to, at least one."""
        found = self._resolver.resolve(host, port, lambda: self._deadline.require_time_left(until))
        return found if self._filter_addresses is None else self._filter_addresses(host, found)

    def _connect_first(self, addresses: list[str], port: int, until: float) -> socket.socket:
        """Connect to the first address that accepts; each gets an equal share of the time.

        Raises the error of the last one.
        """
        for number, address in enumerate(addresses[:-1]):
            share = self._deadline.require_time_left(until) / (len(addresses) - number)
            try:
                return self._connect(address, port, time.monotonic() + share)
            except OSError:
                continue  # nothing was sent; the host has another address
        return self._connect(addresses[-1], port, until)

    def _connect(self, address: str, port: int, until: float) -> socket.socket:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0]
        sock = socket.socket(family, kind, protocol)
        with _close_on_error(sock):
            sock.setblocking(False)
            if sock.connect_ex(place):
                self._await_connection(sock, until)
        return sock

    def _await_connection(self, sock: socket.socket, until: float) -> None:
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        while not poll.poll(min(POLL_SECONDS, self._deadline.require_time_left(until)) * 1000):
            continue
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))


def cap_deadline(deadline: float | None, seconds: float) -> float:
    moment = time.monotonic() + seconds
    return moment if deadline is None else min(deadline, moment)


def _is_readable(sock: socket.socket) -> bool:
    """Whether a read would return at once; an idle connection is then closed."""
    if sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def _close_on_error(sock: socket.socket) -> Iterator[None]:
    """Close the socket if the block raises."""
    try:
        yield
    except BaseException:
        sock.close()
        raise


@contextmanager
def translate_socket_errors(late: type[Exception], failed: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise late(str(error) or "the time is over") from error
    except ssl.SSLCertVerificationError as error:
        raise UntrustedCertificate(explain_certificate_error(error)) from error
    except OSError as error:
        raise failed(str(error)) from error
