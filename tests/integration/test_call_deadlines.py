"""Whatever a server does on the wire, a call to it ends at its deadline."""

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpcore
import pytest

from tests.support.hostile_server import BEHAVIOURS, WITH_STATUS, hold_full_port, run_hostile_server
from worker.core.errors import RetryLater
from worker.core.net.bounded import BoundedBackend
from worker.core.net.resolver import Resolver
from worker.delivery.senders.sender import Envelope
from worker.delivery.senders.signature import generate_secret
from worker.delivery.senders.webhook import WebhookSender
from worker.delivery.settings import parse_webhook_settings
from worker.graph.throttle import GraphThrottle
from worker.nango.client import ConnectionRef, NangoClient, RetryPolicy

SLACK = 3.0
"""Seconds that a busy machine may add."""


def post(url: str, *, body: bytes = b"{}", latest: float = math.inf) -> None:
    """Deliver one event with a timeout of a second."""
    given = {"url": url, "allow_http": True, "allow_private": True, "timeout": 1}
    target = WebhookSender("crm", parse_webhook_settings(given), [generate_secret()])
    target.set_deadline(latest)
    try:
        target.send([Envelope(body, "event-1", 1, 1)])
    finally:
        target.close()


def ask(host: str) -> None:
    """One call to Graph with a deadline of a second, tries and pauses together."""
    client = NangoClient(
        host, "key", throttle=GraphThrottle(), retry_policy=RetryPolicy(deadline=1.0, max_pause=0.5)
    )
    try:
        client.proxy(ConnectionRef("contoso", "microsoft"), "/v1.0/users")
    finally:
        client.close()


@pytest.mark.parametrize("manner", BEHAVIOURS)
def test_a_call_to_nango_ends_at_its_deadline(manner: str) -> None:
    began = time.monotonic()
    with run_hostile_server(manner) as server, pytest.raises(RetryLater):
        ask(server.url)
    assert time.monotonic() - began < 1 + SLACK


@pytest.mark.parametrize("manner", BEHAVIOURS)
def test_a_call_to_a_webhook_ends_at_its_deadline(manner: str) -> None:
    began = time.monotonic()
    with run_hostile_server(manner) as server:
        if manner in WITH_STATUS:
            post(server.url)
        else:
            with pytest.raises(RetryLater, match="did not answer within 1 s"):
                post(server.url)
    assert time.monotonic() - began < 1 + SLACK


def test_a_receiver_that_reads_nothing_holds_no_writer() -> None:
    began = time.monotonic()
    with (
        run_hostile_server("silence") as server,
        pytest.raises(RetryLater, match="did not answer within 1 s"),
    ):
        post(server.url, body=b"x" * 30_000_000)
    assert time.monotonic() - began < 1 + SLACK


def test_a_handshake_that_never_ends_counts_as_well() -> None:
    began = time.monotonic()
    for scheme in ("http", "https"):
        with hold_full_port() as port, pytest.raises(RetryLater, match="did not answer within 1 s"):
            post(f"{scheme}://127.0.0.1:{port}/in")
    with run_hostile_server("a status line that trickles") as server, pytest.raises(RetryLater):
        post(server.url.replace("http:", "https:"))
    with hold_full_port() as port, pytest.raises(RetryLater):
        ask(f"http://127.0.0.1:{port}")
    assert time.monotonic() - began < 4 * (1 + SLACK)


def test_a_tls_record_that_trickles_counts_as_well() -> None:
    """The server begins a record of the handshake and never ends it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def trickle() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65_536)
                peer.sendall(b"\x16\x03\x03\x40\x00")
                while not ended.wait(0.05):
                    peer.sendall(b"\x02")

        thread = threading.Thread(target=lambda: _quietly(trickle), daemon=True)
        thread.start()
        began = time.monotonic()
        with pytest.raises(RetryLater, match="did not answer within 1 s"):
            post(f"https://127.0.0.1:{listener.getsockname()[1]}/in")
        assert time.monotonic() - began < 1 + SLACK
        ended.set()
        thread.join(5)


def _quietly(work: Callable[[], None]) -> None:
    try:
        work()
    except OSError:
        return


@pytest.mark.parametrize("manner", ["silence", "a status line that trickles", "100 without end"])
def test_what_is_under_way_ends_when_it_is_cut_off(manner: str) -> None:
    given = {"allow_http": True, "allow_private": True, "timeout": 60}
    with run_hostile_server(manner) as server:
        settings = parse_webhook_settings({**given, "url": server.url})
        target = WebhookSender("crm", settings, [generate_secret()])
        timer = threading.Timer(0.5, lambda: target.set_deadline(time.monotonic()))
        timer.start()
        began = time.monotonic()
        with pytest.raises(RetryLater):
            target.send([Envelope(b"{}", "event-1", 1, 1)])
        assert time.monotonic() - began < 0.5 + SLACK
        timer.join()
        target.close()


@pytest.fixture
def hanging() -> Iterator[tuple[Resolver, list[str]]]:
    """A resolver that never answers for names in ``.slow``, and what it was asked for."""
    released, asked = threading.Event(), list[str]()

    def lookup(host: str, port: int) -> Sequence[Any]:
        asked.append(host)
        if host.endswith(".slow"):
            released.wait(60)
        return socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)

    yield Resolver(lookup), asked
    released.set()


def test_a_lookup_that_hangs_ends_at_the_deadline_and_holds_one_thread(
    hanging: tuple[Resolver, list[str]],
) -> None:
    resolver, asked = hanging
    backend = BoundedBackend(resolver=resolver)
    before = set(threading.enumerate())
    for _ in range(5):
        began = time.monotonic()
        with pytest.raises(httpcore.ConnectTimeout):
            backend.connect_tcp("nango.slow", 443, timeout=time.monotonic() + 0.3)
        assert time.monotonic() - began < 0.3 + SLACK
    assert asked == ["nango.slow"]
    begun = [one.name for one in set(threading.enumerate()) - before]
    assert begun == ["resolver"]


def test_a_name_that_hangs_keeps_no_other_name_waiting(
    hanging: tuple[Resolver, list[str]],
) -> None:
    resolver, _ = hanging
    backend = BoundedBackend(resolver=resolver)
    with pytest.raises(httpcore.ConnectTimeout):
        backend.connect_tcp("nango.slow", 443, timeout=time.monotonic() + 0.3)
    with run_hostile_server("silence") as server:
        stream = backend.connect_tcp("nango.quick", server.port, timeout=time.monotonic() + 5)
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", server.port)
        stream.close()


def test_a_first_address_that_hangs_leaves_time_for_the_next() -> None:
    with hold_full_port() as port, socket.create_server(("127.0.0.2", port)) as alive:

        def lookup(_: str, port: int) -> Sequence[Any]:
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, ("127.0.0.1", port)), (*kind, ("127.0.0.2", port))]

        backend = BoundedBackend(resolver=Resolver(lookup))
        stream = backend.connect_tcp("host", port, timeout=time.monotonic() + 2)
        assert stream.get_extra_info("server_addr") == alive.getsockname()
        stream.close()
