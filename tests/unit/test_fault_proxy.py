"""The fault proxy itself, with plain sockets: a test of survival is worth what its faults are."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.fault_proxy import Direction, FaultProxy
from tests.support.service import wait_until


class Echo:
    """Sends back what comes; notes how each connection ended for it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.endings: list[str] = []
        self.ended = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                session, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(session,), daemon=True).start()

    def _serve(self, session: socket.socket) -> None:
        with session:
            try:
                while chunk := session.recv(4096):
                    session.sendall(chunk)
                self.endings.append("end")
                session.sendall(b"goodbye")
            except OSError as error:
                self.endings.append(type(error).__name__)
        self.ended.set()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.listener.shutdown(socket.SHUT_RDWR)
    server.listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", echo.port) as running:
        yield running


@contextmanager
def client(proxy: FaultProxy, timeout: float = 5) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout) as session:
        yield session


def read(session: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count and (chunk := session.recv(count - len(got))):
        got += chunk
    return got


def test_bytes_pass_both_ways_and_are_counted(proxy: FaultProxy) -> None:
    with client(proxy) as session:
        session.sendall(b"x" * 300_000)
        assert read(session, 300_000) == b"x" * 300_000
        # A byte is counted once it was sent, and by then the other end may have it already.
        wait_until(
            lambda: (
                proxy.bytes_passed[Direction.UP] == proxy.bytes_passed[Direction.DOWN] == 300_000
            )
        )
    assert proxy.accepted_count == 1
    assert proxy.struck_count == 0


def test_the_end_of_one_direction_is_passed_on(proxy: FaultProxy, echo: Echo) -> None:
    with client(proxy) as session:
        session.shutdown(socket.SHUT_WR)
        assert read(session, 100) == b"goodbye"
    assert echo.endings == ["end"]


@pytest.mark.parametrize("way", list(Direction))
def test_a_cut_comes_after_as_many_bytes_as_were_asked_for(
    proxy: FaultProxy, echo: Echo, way: Direction
) -> None:
    proxy.cut(after=1000, way=way)
    with client(proxy) as session:
        session.sendall(b"x" * 1500)
        assert len(read(session, 1500)) <= 1000
        assert session.recv(1) == b""
    assert echo.ended.wait(5)
    assert proxy.bytes_passed[way] == 1000
    assert proxy.struck_count == 1


def test_a_cut_strikes_as_often_as_was_asked_for(proxy: FaultProxy) -> None:
    proxy.cut(way=Direction.UP, times=2)
    answers = []
    for _ in range(3):
        with client(proxy) as session:
            session.sendall(b"hello")
            answers.append(read(session, 5))
    assert answers == [b"", b"", b"hello"]
    assert proxy.struck_count == 2


def test_bytes_are_counted_from_when_the_fault_was_set(proxy: FaultProxy) -> None:
    with client(proxy) as session:
        session.sendall(b"x" * 5000)
        assert len(read(session, 5000)) == 5000
        proxy.cut(after=10, way=Direction.DOWN)
        session.sendall(b"y" * 100)
        assert read(session, 100) == b"y" * 10


def test_a_reset_reaches_both_sides(proxy: FaultProxy, echo: Echo) -> None:
    proxy.reset(way=Direction.UP)
    with client(proxy) as session:
        session.sendall(b"hello")
        with pytest.raises(ConnectionResetError):
            session.recv(1)
    assert echo.ended.wait(5)
    assert echo.endings == ["ConnectionResetError"]


def test_a_half_close_ends_one_direction_and_leaves_the_other(
    proxy: FaultProxy, echo: Echo
) -> None:
    proxy.half_close(after=3, way=Direction.UP)
    with client(proxy) as session:
        session.sendall(b"hello")
        assert read(session, 100) == b"helgoodbye"
    assert echo.endings == ["end"]


def test_a_half_close_of_answers_lets_requests_through(proxy: FaultProxy) -> None:
    proxy.half_close(after=0, way=Direction.DOWN)
    with client(proxy) as session:
        session.sendall(b"hello")
        assert session.recv(1) == b""
        session.sendall(b"again")
        _until(lambda: proxy.bytes_passed[Direction.UP] == 10)


def test_a_delay_holds_every_request_back(proxy: FaultProxy) -> None:
    proxy.delay(0.2)
    with client(proxy) as session:
        for _ in range(2):
            began = time.monotonic()
            session.sendall(b"hello")
            assert read(session, 5) == b"hello"
            assert time.monotonic() - began >= 0.2


def test_a_black_hole_accepts_and_never_answers_until_it_is_healed(proxy: FaultProxy) -> None:
    with client(proxy, timeout=0.3) as standing:
        standing.sendall(b"hello")
        assert read(standing, 5) == b"hello"
        proxy.black_hole()
        standing.sendall(b"lost")
        with client(proxy, timeout=0.3) as new:
            new.sendall(b"lost as well")
            for session in (standing, new):
                with pytest.raises(TimeoutError):
                    session.recv(1)
            proxy.heal()
            for session in (standing, new):
                session.settimeout(5)
                with pytest.raises(ConnectionResetError):
                    session.recv(1)
    assert proxy.struck_count == 2
    with client(proxy) as session:
        session.sendall(b"hello")
        assert read(session, 5) == b"hello"


def test_refusing_keeps_what_stands_and_ends_with_healing(proxy: FaultProxy) -> None:
    with client(proxy) as standing:
        standing.sendall(b"hello")
        assert read(standing, 5) == b"hello"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
        standing.sendall(b"again")
        assert read(standing, 5) == b"again"
    proxy.heal()
    with client(proxy) as session:
        session.sendall(b"hello")
        assert read(session, 5) == b"hello"


def test_dropping_resets_what_stands_and_nothing_that_comes(proxy: FaultProxy) -> None:
    with client(proxy) as session:
        session.sendall(b"hello")
        assert read(session, 5) == b"hello"
        proxy.drop()
        with pytest.raises(ConnectionResetError):
            session.recv(1)
    with client(proxy) as session:
        session.sendall(b"hello")
        assert read(session, 5) == b"hello"


def test_a_server_that_is_not_there_looks_like_a_reset() -> None:
    unused = socket.create_server(("127.0.0.1", 0))
    port = unused.getsockname()[1]
    unused.close()
    with FaultProxy("127.0.0.1", port) as proxy:
        with pytest.raises(ConnectionResetError), client(proxy) as session:
            session.recv(1)
        assert proxy.accepted_count == 0


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
