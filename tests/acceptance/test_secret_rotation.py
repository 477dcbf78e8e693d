"""Secrets are replaced under running processes as docs/how-to/rotate-secrets.md says."""

import json
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.test_web_command import environment, serving
from tests.support.databases import DatabaseFactory
from tests.support.fork_server import run_command
from tests.support.serving import Serving

ROUTE = "/api/operations"
"""It reads the database at each request."""
TOKEN = "a-token-of-the-first-hour-0123456789"

Login = tuple[str, Callable[[str], str]]


class Client:
    """Sends one request after the other, by the server and the token that it is given."""

    def __init__(self, server: Serving, token: str) -> None:
        self.server = server
        self.token = token
        self.statuses: list[int] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        while not self._is_over.is_set():
            self.statuses.append(self.server.get(ROUTE, self.token)[0])

    def wait_for(self, number: int) -> None:
        """Wait until it has sent so many more requests."""
        wanted = len(self.statuses) + number
        until = time.monotonic() + 30
        while len(self.statuses) < wanted:
            assert time.monotonic() < until, "the client is stuck"
            time.sleep(0.01)

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(30)


@contextmanager
def asking(server: Serving, token: str) -> Iterator[Client]:
    client = Client(server, token)
    try:
        client.wait_for(5)
        yield client
    finally:
        client.stop()


@pytest.fixture
def login(cluster: DatabaseFactory, database_url: str) -> Iterator[Login]:
    """A role with the rights of the service, and the URL with a password of it."""
    role = f"service_{uuid.uuid4().hex[:8]}"
    cluster.create_role(role, "old")
    with psycopg.connect(database_url) as db:
        (owner,) = db.execute("select current_user").fetchone() or ("",)
    cluster.grant_membership(str(owner), role)
    scheme, _, rest = database_url.partition("://")
    place = rest.rpartition("@")[2]
    yield role, lambda password: f"{scheme}://{role}:{password}@{place}"
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(f"drop role {role}".encode())


def test_the_password_of_the_database_is_replaced_without_a_lost_request(
    database_url: str,
    login: Login,
    tmp_path: Path,
) -> None:
    role, build_url = login
    more = {"TENANT_MIRROR_WEB_TOKEN": TOKEN}
    with serving(tmp_path / "old", build_url("old"), **more) as old, asking(old, TOKEN) as client:
        with psycopg.connect(database_url, autocommit=True) as db:
            db.execute(f"alter role {role} password 'new'".encode())
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(build_url("old"))
        client.wait_for(10)
        with serving(tmp_path / "new", build_url("new"), **more) as new:
            client.server = new
            client.wait_for(5)
            old.process.send_signal(signal.SIGTERM)
            assert old.process.wait(20) == 0
            client.wait_for(5)
            client.stop()
    assert set(client.statuses) == {200}


def test_a_token_of_the_api_is_replaced_without_a_lost_request(
    database_url: str, tmp_path: Path
) -> None:
    def run(*words: str) -> str:
        done = run_command(["tokens", *words, "--json"], environment(database_url))
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = json.loads(run("create", "portal", "--scope", "read"))["token"]
    with serving(tmp_path / "log", database_url) as server, asking(server, first) as client:
        second = json.loads(run("create", "portal-2", "--scope", "read"))["token"]
        until = time.monotonic() + 5
        while server.get(ROUTE, second)[0] != 200:
            assert time.monotonic() < until, "it is in force within five seconds"
            time.sleep(0.5)  # who sends many wrong tokens is refused with 429
        client.token = second
        client.wait_for(5)
        run("revoke", "portal")
        until = time.monotonic() + 5
        while server.get(ROUTE, first)[0] == 200:
            assert time.monotonic() < until, "it ends within five seconds"
        client.wait_for(5)
        client.stop()
    assert set(client.statuses) == {200}
