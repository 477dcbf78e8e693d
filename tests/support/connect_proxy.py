"""An HTTP proxy of a company's network, which tunnels connections with CONNECT."""

import base64
import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Carry bytes one way until either side is gone."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(65_536):
            target.sendall(chunk)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _relay_both_ways(one: socket.socket, other: socket.socket) -> None:
    with one, other:
        back = threading.Thread(target=_pump, args=(other, one), daemon=True)
        back.start()
        _pump(one, other)
        back.join()


@dataclass
class ConnectProxy:
    """Connects to hosts by CONNECT, as far as it knows and permits them."""

    listener: socket.socket
    hosts: Mapping[str, int] = field(default_factory=dict)
    """Which port of this machine a name stands for; numbers are what they are."""
    login: str | None = None
    status: int = 200
    """What it answers, if it is not 200."""
    raw_answer: bytes | None = None
    """The whole answer, if it is an odd one."""
    targets: list[str] = field(default_factory=list)
    """The hosts and ports that it was asked for."""
    logins: list[str | None] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    """The beginning of what came before the answer: what a proxy can read."""

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._handle_quietly, args=(peer,), daemon=True).start()

    def _handle_quietly(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            self._handle(peer)

    def _handle(self, peer: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = peer.recv(4096)
            if not chunk:
                return
            head += chunk
        self.received += head
        method, place, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        assert method == "CONNECT", method
        self.targets.append(place)
        login = _parse_login(head)
        self.logins.append(login)
        status = 407 if self.login is not None and login != self.login else self.status
        if self.raw_answer is not None or status != 200:
            answer = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
            peer.sendall(answer if self.raw_answer is None else self.raw_answer)
            return
        server = self._connect(place)
        if server is None:
            peer.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        peer.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n")
        _relay_both_ways(peer, server)

    def _connect(self, place: str) -> socket.socket | None:
        host, _, port = place.rpartition(":")
        known = self.hosts.get(host)
        try:
            if known is not None:
                return socket.create_connection(("127.0.0.1", known), timeout=5)
            return socket.create_connection((host.strip("[]"), int(port)), timeout=5)
        except OSError:
            return None


def _parse_login(head: bytes) -> str | None:
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "proxy-authorization":
            return base64.b64decode(value.strip().removeprefix("Basic ")).decode()
    return None


@contextmanager
def run_connect_proxy(places: Mapping[str, int] | None = None) -> Iterator[ConnectProxy]:
    """A proxy at work."""
    made = ConnectProxy(socket.create_server(("127.0.0.1", 0)), places or {})
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.listener.shutdown(socket.SHUT_RDWR)
        made.listener.close()
        thread.join(5)
