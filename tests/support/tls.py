"""Generates certificates for tests, and serves TLS in front of a plain server.

authority = Authority(folder)
with TlsProxy(authority.certificate("localhost"), port) as proxy:
    connect_to(proxy.port)
"""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as files."""

    path: Path
    key: Path

    def build_context(self) -> ssl.SSLContext:
        """What a server is served with."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.path, self.key)
        return made


@dataclass
class Authority:
    """Signs certificates with openssl; nobody trusts it unless its own one is named."""

    folder: Path
    name: str = "Contoso Internal CA"
    issued_count: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        subject = ["-subj", f"/CN={self.name}", "-days", "2"]
        usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        _run_openssl(
            "req", "-x509", *_KEY, *subject, *usage, "-keyout", self._key, "-out", self.path
        )

    @property
    def path(self) -> Path:
        """The authority's own certificate, for those who trust it."""
        return self.folder / "authority.pem"

    @property
    def _key(self) -> Path:
        return self.folder / "authority.key"

    def issue(self, host: str) -> Certificate:
        """A certificate for one DNS name."""
        self.issued_count += 1
        made = Certificate(
            self.folder / f"{self.issued_count}.pem", self.folder / f"{self.issued_count}.key"
        )
        _run_openssl(
            *("req", "-x509", *_KEY, "-subj", f"/CN={host}", "-days", "2"),
            *("-addext", f"subjectAltName=DNS:{host}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-CA", self.path, "-CAkey", self._key),
            *("-keyout", made.key, "-out", made.path),
        )
        return made


def _run_openssl(*arguments: str | Path) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl to make certificates with")
    subprocess.run([program, *map(str, arguments)], check=True, capture_output=True)


@dataclass
class TlsProxy:
    """Ends TLS and passes the rest on to a port of this host; what came in is kept."""

    certificate: Certificate
    upstream: int
    client_authority: Authority | None = None
    """Where set, clients must show a certificate of this authority."""
    received: bytearray = field(default_factory=bytearray)
    """What clients sent after the handshake, from all connections."""

    def __enter__(self) -> Self:
        self._context = self.certificate.build_context()
        if self.client_authority is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(self.client_authority.path)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self._closing = threading.Event()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._accepting.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        plain.settimeout(10)
        try:
            client = self._context.wrap_socket(plain, server_side=True)
        except OSError:
            plain.close()
            return
        with client, socket.create_connection(("127.0.0.1", self.upstream)) as server:
            client.settimeout(0.05)
            server.settimeout(10)
            down = threading.Thread(target=self._answer, args=(server, client), daemon=True)
            down.start()
            for chunk in self._chunks(client):
                self.received += chunk
                server.sendall(chunk)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            down.join()

    def _answer(self, server: socket.socket, client: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError):
            for chunk in self._chunks(server):
                client.sendall(chunk)

    def _chunks(self, source: socket.socket) -> Iterator[bytes]:
        while not self._closing.is_set():
            try:
                chunk = source.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError:
                return
            if not chunk:
                return
            yield chunk
