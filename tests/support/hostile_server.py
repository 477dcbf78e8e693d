"""A server on a real socket whose responses never end."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PIECE_DELAY = 0.05
"""Seconds between two pieces of an answer: far below any limit of a single read."""

SendBytes = Callable[[bytes], None]


@dataclass
class HostileServer:
    """Accepts every connection and does to it what ``manner`` names."""

    behaviour: str
    listener: socket.socket
    stop: threading.Event = field(default_factory=threading.Event)
    accepted_count: int = 0
    open_sockets: set[socket.socket] = field(default_factory=set)

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
            self.accepted_count += 1
            self.open_sockets.add(peer)
            threading.Thread(target=self._handle, args=(peer,), daemon=True).start()

    def _handle(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError):
            BEHAVIOURS[self.behaviour](self, peer)
        self.open_sockets.discard(peer)
        peer.close()

    def send_forever(self, peer: socket.socket, first: bytes, piece: bytes) -> None:
        """Take the request, send ``first``, and then ``piece`` again and again."""
        peer.recv(65_536)
        peer.sendall(first)
        while not self.stop.wait(PIECE_DELAY):
            peer.sendall(piece)

    def stay_silent(self, peer: socket.socket) -> None:
        """Keep the connection, and neither read nor write."""
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.stop.wait()


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BEHAVIOURS: dict[str, Callable[[HostileServer, socket.socket], None]] = {
    "silence": HostileServer.stay_silent,
    "a status line that trickles": lambda it, peer: it.send_forever(peer, b"HTTP/1.1 200 O", b"K"),
    "headers without end": lambda it, peer: it.send_forever(peer, _HEAD, b"X-More: a\r\n"),
    "a header that trickles": lambda it, peer: it.send_forever(peer, _HEAD + b"X-Long: ", b"a"),
    "100 without end": lambda it, peer: it.send_forever(
        peer, b"", b"HTTP/1.1 100 Continue\r\n\r\n"
    ),
    "103 without end": lambda it, peer: it.send_forever(
        peer, b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    ),
    "a body that trickles": lambda it, peer: it.send_forever(
        peer, _HEAD + b"Content-Length: 1000000\r\n\r\n", b" "
    ),
    "chunks without end": lambda it, peer: it.send_forever(
        peer, _HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"
    ),
    "a chunk extension without end": lambda it, peer: it.send_forever(
        peer, _HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;a=", b"b"
    ),
    "trailers without end": lambda it, peer: it.send_forever(
        peer, _HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n0\r\n", b"X-T: a\r\n"
    ),
}
WITH_STATUS = frozenset(
    {
        "a body that trickles",
        "chunks without end",
        "a chunk extension without end",
        "trailers without end",
    }
)
"""Manners that tell a status, which is all that a webhook needs."""


@contextmanager
def run_hostile_server(manner: str) -> Iterator[HostileServer]:
    """A hostile server at work."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        made = HostileServer(manner, listener)
        thread = threading.Thread(target=made.serve, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.stop.set()
            for peer in list(made.open_sockets):
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@contextmanager
def hold_full_port() -> Iterator[int]:
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
