"""A TCP proxy that cuts, delays, resets and half-closes connections on demand.

    with FaultProxy("127.0.0.1", 5432) as proxy:
        connect_to(proxy.port)
        proxy.cut(after=100_000, way=Way.UP)

``UP`` is from the client to the server, ``DOWN`` is back. Faults that strike a connection (cut,
reset, half-close) count bytes of one connection in one direction from when they were set, and
strike ``times`` connections. Everything may be switched while bytes flow.
"""

import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Self

_POLL = 0.02
_CHUNK = 1 << 16
_NO_LINGER = struct.pack("ii", 1, 0)


class Direction(Enum):
    UP = "client to server"
    DOWN = "server to client"


class FaultMode(Enum):
    PASS = auto()
    CUT = auto()
    """Both sides see an orderly end."""
    RESET = auto()
    """Both sides see a reset."""
    HALF_CLOSE = auto()
    """One direction ends in order; the other one goes on."""
    DELAY = auto()
    SWALLOW = auto()
    """A black hole: connections are accepted, bytes are taken, nothing comes out."""
    REFUSE = auto()
    """Nobody listens; connections that stand go on."""


_STRIKING = (FaultMode.CUT, FaultMode.RESET, FaultMode.HALF_CLOSE)


@dataclass(eq=False)
class Fault:
    """What happens to the bytes that come now."""

    kind: FaultMode
    direction: Direction = Direction.DOWN
    after_bytes: int = 0
    seconds: float = 0
    strikes_left: int = 0
    """Connections that it may still strike."""


@dataclass(eq=False)
class _Link:
    """One connection through the proxy. Its two pumps close it when both have ended."""

    client: socket.socket
    server: socket.socket
    ending: bool = False
    reset: bool = False
    lost_bytes: bool = False
    """Bytes are missing: it can only be cut now."""
    pumps: int = 2
    guard: threading.Lock = field(default_factory=threading.Lock)

    def end_pump(self) -> bool:
        """One pump has ended; whether it was the last, which closes both sockets."""
        with self.guard:
            self.pumps -= 1
            if self.pumps:
                return False
        for end in (self.client, self.server):
            if self.reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            end.close()
        return True


class FaultProxy:
    """Stands in front of one address; see the module."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._fault = Fault(FaultMode.PASS)
        self._guard = threading.Lock()
        self._links: set[_Link] = set()
        self._closing = False
        self._listener: socket.socket | None = _listen(0)
        self.port: int = self._listener.getsockname()[1]
        self.accepted_count = 0
        """Connections that were accepted so far."""
        self.struck_count = 0
        """Connections that a fault has struck so far, swallowed ones included."""
        self.bytes_passed: Counter[Direction] = Counter()
        """Bytes that were passed on."""
        self._thread = threading.Thread(target=self._accept, name="fault-proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- switching

    def heal(self) -> None:
        """Pass everything from now on. Connections that lost bytes are reset."""
        self._switch(Fault(FaultMode.PASS))
        self._end(lambda link: link.lost_bytes)

    def cut(self, *, after: int = 0, way: Direction = Direction.DOWN, times: int = 1) -> None:
        self._switch(Fault(FaultMode.CUT, way, after, strikes_left=times))

    def reset(self, *, after: int = 0, way: Direction = Direction.DOWN, times: int = 1) -> None:
        self._switch(Fault(FaultMode.RESET, way, after, strikes_left=times))

    def half_close(
        self, *, after: int = 0, way: Direction = Direction.DOWN, times: int = 1
    ) -> None:
        self._switch(Fault(FaultMode.HALF_CLOSE, way, after, strikes_left=times))

    def delay(self, seconds: float, *, way: Direction = Direction.UP) -> None:
        """Hold back whatever comes, chunk by chunk; going up that is about once a request."""
        self._switch(Fault(FaultMode.DELAY, way, seconds=seconds))

    def black_hole(self) -> None:
        """Become a black hole, for new connections and for those that stand."""
        self._switch(Fault(FaultMode.SWALLOW))

    def refuse(self) -> None:
        """Refuse new connections; returns when nobody listens any more."""
        self._switch(Fault(FaultMode.REFUSE))

    def redirect_to(self, host: str, port: int) -> None:
        """Connect clients elsewhere from now on, as a name that moved; who is connected stays."""
        self._upstream = (host, port)

    def drop(self) -> None:
        """Reset every connection that stands now."""
        self._end(lambda _: True)

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        self._end(lambda _: True)
        while self._links:
            time.sleep(_POLL)

    def _switch(self, fault: Fault) -> None:
        self._fault = fault
        refusing = fault.kind is FaultMode.REFUSE
        while self._thread.is_alive() and refusing is (self._listener is not None):
            time.sleep(_POLL)

    def _end(self, which: Callable[[_Link], bool]) -> None:
        with self._guard:
            for link in self._links:
                if which(link):
                    link.reset = link.ending = True

    # ---- carrying

    def _accept(self) -> None:
        """The only thread that opens and closes the listener."""
        while not self._closing:
            if self._fault.kind is FaultMode.REFUSE:
                if self._listener is not None:
                    self._listener.close()
                    self._listener = None
                time.sleep(_POLL)
                continue
            if self._listener is None:
                self._listener = _listen(self.port)
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                self._connect(client)
        if self._listener is not None:
            self._listener.close()

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._upstream, timeout=5)
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            client.close()
            return
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(_POLL)
        link = _Link(client, server)
        with self._guard:
            self._links.add(link)
            self.accepted_count += 1
        for way in Direction:
            threading.Thread(target=self._pump, args=(link, way), daemon=True).start()

    def _pump(self, link: _Link, way: Direction) -> None:
        try:
            self._carry(link, way)
        except OSError:
            link.ending = True  # one side reset it: the other one is told in the same way
            link.reset = True
        finally:
            if link.end_pump():
                with self._guard:
                    self._links.discard(link)

    def _carry(self, link: _Link, way: Direction) -> None:
        source, target = link.client, link.server
        if way is Direction.DOWN:
            source, target = target, source
        known, passed = self._fault, 0
        for chunk in _read_chunks(link, source):
            fault = self._fault
            if fault is not known:
                known, passed = fault, 0
            if self._should_swallow(link, fault):
                continue
            if not chunk:
                target.shutdown(socket.SHUT_WR)
                return
            if fault.kind is FaultMode.DELAY and fault.direction is way:
                time.sleep(fault.seconds)
            room = fault.after_bytes - passed
            if fault.direction is way and len(chunk) > room and self._take_strike(fault):
                self._send(link, target, chunk[:room], way)
                self._strike(link, fault.kind, source, target)
                return
            self._send(link, target, chunk, way)
            passed += len(chunk)

    def _should_swallow(self, link: _Link, fault: Fault) -> bool:
        if fault.kind is not FaultMode.SWALLOW:
            return link.lost_bytes
        if not link.lost_bytes:
            with self._guard:
                link.lost_bytes = True
                self.struck_count += 1
        return True

    def _take_strike(self, fault: Fault) -> bool:
        """Whether this one strikes now; each of its times is used once."""
        if fault.kind not in _STRIKING:
            return False
        with self._guard:
            if fault.strikes_left <= 0:
                return False
            fault.strikes_left -= 1
            self.struck_count += 1
            return True

    @staticmethod
    def _strike(link: _Link, kind: FaultMode, source: socket.socket, target: socket.socket) -> None:
        if kind is FaultMode.HALF_CLOSE:
            target.shutdown(socket.SHUT_WR)
            source.shutdown(socket.SHUT_RD)
            return
        if kind is FaultMode.CUT:
            for end in (source, target):
                end.shutdown(socket.SHUT_WR)
        link.reset = kind is FaultMode.RESET
        link.ending = True

    def _send(self, link: _Link, target: socket.socket, chunk: bytes, way: Direction) -> None:
        """Send all of it, however slowly the other side reads."""
        rest = memoryview(chunk)
        while rest and not link.ending:
            try:
                rest = rest[target.send(rest) :]
            except TimeoutError:
                continue
        self.bytes_passed[way] += len(chunk) - len(rest)


def _read_chunks(link: _Link, source: socket.socket) -> Iterator[bytes]:
    """What comes from one side, and at last nothing."""
    while not link.ending:
        try:
            chunk = source.recv(_CHUNK)
        except TimeoutError:
            continue
        yield chunk
        if not chunk:
            return


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    listener.settimeout(_POLL)
    return listener
