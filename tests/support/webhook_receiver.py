"""A webhook receiver that verifies every signature with the official package."""

import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from worker.delivery.senders.signature import generate_secret


@dataclass
class ReceivedRequest:
    """A request as the receiver saw it."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        document = json.loads(self.body)
        return document if isinstance(document, list) else [document]


ChooseAnswer = Callable[[ReceivedRequest], tuple[int, dict[str, str]]]


@dataclass
class WebhookReceiver:
    """Takes what is signed with ``secret``; ``answer`` may say something else."""

    secret: str = field(default_factory=generate_secret)
    answer: ChooseAnswer = lambda _: (204, {})
    requests: list[ReceivedRequest] = field(default_factory=list)
    port: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/in"

    @property
    def sequences(self) -> list[int]:
        """The events that came, by their sequence."""
        return [event["n"] for one in self.requests for event in one.events]

    def is_signed(self, got: ReceivedRequest) -> bool:
        return is_verified(self.secret, got)


def is_verified(secret: str, got: ReceivedRequest) -> bool:
    """Whether a receiver with that secret takes the request for genuine."""
    try:
        Webhook(secret).verify(got.body, got.headers, json_parse=False)
    except WebhookVerificationError:
        return False
    return True


def build_handler(receiver: WebhookReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            got = ReceivedRequest(self.path, headers, body)
            receiver.requests.append(got)
            status, more = receiver.answer(got) if receiver.is_signed(got) else (401, {})
            self.send_response(status)
            for name, value in {"Content-Length": "0", **more}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler


class ReceiverServer(ThreadingHTTPServer):
    """Serves a receiver; a sender that was killed within a request is no fault of it."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def run_receiver(tls: ssl.SSLContext | None = None) -> Iterator[WebhookReceiver]:
    """A receiver at work."""
    receiver = WebhookReceiver()
    server = ReceiverServer(("127.0.0.1", 0), build_handler(receiver))
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


def answer_always(status: int, **headers: str) -> ChooseAnswer:
    """The same answer to everybody."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: (status, named)
