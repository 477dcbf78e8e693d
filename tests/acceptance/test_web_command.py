"""The process that serves the API: where it may listen, how it stops, and its tokens."""

import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from models.audit import AuditAction
from tests.support.fault_proxy import FaultProxy
from tests.support.fork_server import run_command
from tests.support.serving import Serving
from tests.support.tls import Authority
from worker.store.engine import Database
from worker.store.service.audit import list_audit

TOKEN = "a-token-of-the-first-hour-0123456789"
Run = Callable[..., subprocess.CompletedProcess[str]]


def environment(url: str, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    return {**kept, "DATABASE_URL": url, "TENANT_MIRROR_ACTOR": "ann", **more}


@pytest.fixture
def run(database_url: str) -> Run:
    def call(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run_command(arguments, environment(database_url, **more))

    return call


@contextmanager
def serving(log: Path, url: str, *arguments: str, **more: str) -> Iterator[Serving]:
    made = Serving(log, ["web", "--port", "0", *arguments], environment(url, **more))
    try:
        yield made
    finally:
        made.process.send_signal(signal.SIGKILL)


def test_it_serves_until_it_is_stopped_and_logs_no_secrets(
    run: Run, database_url: str, tmp_path: Path
) -> None:
    token = run("tokens", "create", "portal").stdout.strip()
    with serving(tmp_path / "log", database_url) as web:
        assert web.url.startswith("http://127.0.0.1:")
        assert web.get("/health/live") == (200, b'{"status":"alive"}')
        assert web.get("/health/ready", token)[0] == 200
        assert web.get("/metrics", "tm_0123456789_" + "x" * 43)[0] == 401
        assert web.get("/nothing?name=Adele+Vance", token)[0] == 404
        host, port = web.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))):  # a silent client holds nothing up
            web.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert web.process.wait(20) == 0
            assert time.monotonic() - began < 8
    log = web.log.read_text()
    requests = [line for line in web.lines() if line["event"] == "request"]
    assert [(it["route"], it["status"]) for it in requests[-2:]] == [("/metrics", 401), (None, 404)]
    for secret in (token, token.rpartition("_")[2], "x" * 43, "Adele", "Traceback"):
        assert secret not in log


def test_another_address_needs_protection_and_a_token(run: Run, tmp_path: Path) -> None:
    beyond = ("web", "--port", "0", "--host", "0.0.0.0")  # noqa: S104 - that is what is refused
    plain = run(*beyond)
    assert plain.returncode == 2
    assert "tokens would be sent without encryption" in plain.stderr
    for protected in (
        {"TENANT_MIRROR_WEB_ALLOW_HTTP": "yes"},
        {"TENANT_MIRROR_WEB_PROXIES": "10.0.0.0/8"},
    ):
        closed = run(*beyond, **protected)
        assert closed.returncode == 2
        assert "there is no token that could be used" in closed.stderr
        assert "Traceback" not in closed.stderr


def test_another_address_is_served_once_there_is_a_token(
    run: Run, database_url: str, tmp_path: Path
) -> None:
    run("tokens", "create", "portal")
    more = {"TENANT_MIRROR_WEB_ALLOW_HTTP": "yes"}
    with serving(tmp_path / "log", database_url, "--host", "0.0.0.0", **more) as web:  # noqa: S104
        web.url = web.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        assert web.get("/health/live")[0] == 200


def test_https_is_served_with_a_certificate(database_url: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    issued = authority.issue("localhost")
    files = {
        "TENANT_MIRROR_WEB_CERTIFICATE": str(issued.path),
        "TENANT_MIRROR_WEB_CERTIFICATE_KEY": str(issued.key),
        "TENANT_MIRROR_WEB_TOKEN": TOKEN,
    }
    with serving(tmp_path / "log", database_url, **files) as web:
        assert web.url.startswith("https://")
        web.url = web.url.replace("127.0.0.1", "localhost")
        trusting = ssl.create_default_context(cafile=str(authority.path))
        assert web.get("/health/ready", TOKEN, trusting)[0] == 200
    done = run_command(
        ["web", "--port", "0"],
        environment(database_url, **files | {"TENANT_MIRROR_WEB_CERTIFICATE": str(issued.key)}),
    )
    assert done.returncode == 2
    assert "TENANT_MIRROR_WEB_CERTIFICATE_KEY cannot be used" in done.stderr


def test_an_address_that_cannot_be_used_is_named(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("web", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "cannot listen at 127.0.0.1:" in done.stderr
    unresolved = run("web", "--host", "nowhere.invalid")
    assert (unresolved.returncode, "Traceback" in unresolved.stderr) == (2, False)


def test_a_database_that_never_answers_holds_up_neither_requests_nor_the_end(
    database_url: str, tmp_path: Path
) -> None:
    place = urlsplit(database_url)
    assert place.hostname is not None
    assert place.port is not None
    with FaultProxy(place.hostname, place.port) as proxy:
        url = database_url.replace(f":{place.port}/", f":{proxy.port}/")
        with serving(tmp_path / "log", url, TENANT_MIRROR_WEB_TOKEN=TOKEN) as web:
            assert web.get("/health/ready")[0] == 200
            proxy.black_hole()
            began = time.monotonic()
            status, body = web.get("/api/fleet", TOKEN, seconds=20)
            assert (status, json.loads(body)["code"]) == (503, "unavailable")
            assert 5 < time.monotonic() - began < 15
            assert web.get("/health/live")[0] == 200
            web.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert web.process.wait(20) == 0
            assert time.monotonic() - began < 9


def test_tokens_are_created_shown_once_listed_and_revoked(run: Run, database: Database) -> None:
    made = run("tokens", "create", "portal", "--scope", "operate", "--expires", "90d", "--json")
    shown = json.loads(made.stdout)
    assert shown["token"].startswith(f"tm_{shown['id']}_")
    assert shown["scopes"] == ["operate"]
    (listed,) = json.loads(run("tokens", "list", "--json").stdout)
    assert (listed["name"], listed["state"], listed["created_by"]) == ("portal", "usable", "ann")
    assert "token" not in listed
    table = run("tokens", "list").stdout
    assert shown["token"] not in table
    assert "portal" in table
    again = run("tokens", "create", "portal")
    assert again.returncode == 1
    assert "there is a token named 'portal'" in again.stderr
    assert "stops working within five seconds" in run("tokens", "revoke", shown["id"]).stdout
    assert "was revoked already" in run("tokens", "revoke", "portal").stdout
    assert run("tokens", "revoke", "portal2").returncode == 2
    with database.open_transaction() as db:
        entries = list_audit(db)
    done = [(it.action, it.subject, it.outcome, it.actor) for it in reversed(entries)]
    assert done == [
        (AuditAction.TOKENS_CREATE, "portal", "done", "ann"),
        (AuditAction.TOKENS_CREATE, "portal", "refused", "ann"),
        (AuditAction.TOKENS_REVOKE, "portal", "done", "ann"),
        (AuditAction.TOKENS_REVOKE, "portal", "done", "ann"),
        (AuditAction.TOKENS_REVOKE, "portal2", "refused", "ann"),
    ]
    assert shown["token"].removeprefix(f"tm_{shown['id']}_") not in str(entries)


@pytest.mark.parametrize(
    "arguments",
    [["<script>"], ["a b"], [""], ["x" * 64], ["x", "--expires", "1y"], ["x", "--expires", "0d"]],
)
def test_a_token_with_an_odd_name_or_age_is_not_made(run: Run, arguments: list[str]) -> None:
    done = run("tokens", "create", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
