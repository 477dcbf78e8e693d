"""A server on a real socket that answers without ever coming to an end."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PACE = 0.05
"""Seconds between two pieces of an answer: far below any limit of a single read."""

Say = Callable[[bytes], None]


@dataclass
class Hostile:
    """Accepts every connection and does to it what ``manner`` names."""

    manner: str
    listener: socket.socket
    stop: threading.Event = field(default_factory=threading.Event)
    accepted: int = 0
    open: set[socket.socket] = field(default_factory=set)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self) -> None:
        while not self.stop.is_set():
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            self.open.add(peer)
            threading.Thread(target=self._torment, args=(peer,), daemon=True).start()

    def _torment(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError):
            MANNERS[self.manner](self, peer)
        self.open.discard(peer)
        peer.close()

    def pour(self, peer: socket.socket, first: bytes, piece: bytes) -> None:
        """Take the request, send ``first``, and then ``piece`` again and again."""
        peer.recv(65_536)
        peer.sendall(first)
        while not self.stop.wait(PACE):
            peer.sendall(piece)

    def hold(self, peer: socket.socket) -> None:
        """Keep the connection, and neither read nor write."""
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.stop.wait()


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
MANNERS: dict[str, Callable[[Hostile, socket.socket], None]] = {
    "silence": Hostile.hold,
    "a status line that trickles": lambda it, peer: it.pour(peer, b"HTTP/1.1 200 O", b"K"),
    "headers without end": lambda it, peer: it.pour(peer, _HEAD, b"X-More: a\r\n"),
    "a header that trickles": lambda it, peer: it.pour(peer, _HEAD + b"X-Long: ", b"a"),
    "100 without end": lambda it, peer: it.pour(peer, b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103 without end": lambda it, peer: it.pour(
        peer, b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    ),
    "a body that trickles": lambda it, peer: it.pour(
        peer, _HEAD + b"Content-Length: 1000000\r\n\r\n", b" "
    ),
    "chunks without end": lambda it, peer: it.pour(
        peer, _HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"
    ),
    "a chunk extension without end": lambda it, peer: it.pour(
        peer, _HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;a=", b"b"
    ),
    "trailers without end": lambda it, peer: it.pour(
        peer, _HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n0\r\n", b"X-T: a\r\n"
    ),
}
ANSWERED = frozenset(
    {
        "a body that trickles",
        "chunks without end",
        "a chunk extension without end",
        "trailers without end",
    }
)
"""Manners that tell a status, which is all that a webhook needs."""


@contextmanager
def hostile(manner: str) -> Iterator[Hostile]:
    """A hostile server at work."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        made = Hostile(manner, listener)
        thread = threading.Thread(target=made.serve, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.stop.set()
            for peer in list(made.open):
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@contextmanager
def unreachable() -> Iterator[int]:
    """A port that takes no further connection: its queue is full, so the handshake never ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = int(listener.getsockname()[1])
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        try:
            yield port
        finally:
            for one in waiting:
                one.close()
