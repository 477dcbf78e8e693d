"""A server that speaks Postgres's protocol and refuses connections, in any language."""

import socketserver
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_SSL_REQUEST = 80877103
_GSS_REQUEST = 80877104


def build_refusal(state: str, said: str, severity: str = "FATAL", encoding: str = "utf-8") -> bytes:
    """An ErrorResponse as Postgres sends it while a client connects."""
    fields: Mapping[str, str] = {
        "S": severity,
        "V": "FATAL",
        "C": state,
        "M": said,
        "F": "auth.c",
        "L": "329",
        "R": "auth_failed",
    }
    body = b"".join(f"{kind}{text}\0".encode(encoding) for kind, text in fields.items()) + b"\0"
    return b"E" + struct.pack("!i", len(body) + 4) + body


PASSWORD_REQUEST = b"R" + struct.pack("!ii", 8, 3)
"""AuthenticationCleartextPassword."""


@contextmanager
def run_refusing_postgres(*answers: bytes) -> Iterator[int]:
    """A port at which each client is sent these, one for each message of its own, and cut off."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            for answer in answers:
                if not self._message():
                    return
                self.request.sendall(answer)

        def _message(self) -> bytes:
            """The client's next message; requests for encryption are declined."""
            got: bytes = self.request.recv(65536)
            while len(got) == 8 and struct.unpack("!ii", got)[1] in (_SSL_REQUEST, _GSS_REQUEST):
                self.request.sendall(b"N")
                got = self.request.recv(65536)
            return got

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
