"""Faults that are switched on and off while the sandbox serves: over HTTP and from a shell."""

import re
import subprocess
import sys

import httpx
import pytest
from click.testing import CliRunner

from sandbox.tenant import BROKEN, EXPIRIES, TRANSIENT, Client, Nango, Server, Tenant
from sandbox.tenant.cli import sandbox


@pytest.fixture
def nango() -> Nango:
    nango = Nango()
    nango.add_connection("c1", Tenant(users=5, groups=2))
    return nango


def test_faults_are_switched_on_and_off_over_http(client: Client, nango: Nango) -> None:
    on = client.http.post("/sandbox/faults", json={"rate": 1, "seed": 3, "kinds": ["504"]})
    assert (on.json()["seed"], on.json()["kinds"]) == (3, ["504"])
    assert client.get("users").status_code == 504
    assert client.http.get("/sandbox/faults").json()["hits"] == {"504": 1}
    off = client.http.post("/sandbox/faults", json={"rate": 0})
    assert off.json() == {"rate": 0.0, "hits": {}}
    assert client.get("users").status_code == 200
    assert nango.faults is None


def test_kinds_are_named_one_by_one_or_in_sets(client: Client, nango: Nango) -> None:
    client.http.post("/sandbox/faults", json={"rate": 0.5})
    assert nango.faults
    assert set(nango.faults.kinds) == TRANSIENT | EXPIRIES
    client.http.post("/sandbox/faults", json={"rate": 0.5, "kinds": ["broken", "cut"]})
    assert set(nango.faults.kinds) == BROKEN | {"cut"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"rate": 2}, "'rate' has to be a number from 0 to 1."),
        ({"rate": True}, "'rate' has to be a number from 0 to 1."),
        ({"kinds": "cut"}, "'kinds' has to be a list of names."),
        ({"kinds": ["599"]}, "No such faults: 599."),
        ({"colour": 1}, "'colour' is not known."),
        ({"stall": 9999}, "'stall' has to be a number of seconds up to 600."),
    ],
)
def test_what_makes_no_sense_is_refused(
    client: Client, asked: dict[str, object], message: str
) -> None:
    refused = client.http.post("/sandbox/faults", json=asked)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith(message)


def test_faults_are_switched_from_a_shell(server: Server, nango: Nango) -> None:
    command = ["faults", "0.25", "--seed", "9", "--kind", "cut", "--url", server.url]
    done = CliRunner().invoke(sandbox, command)
    assert (done.exit_code, done.output) == (0, "rate  0.25\nkind  cut\n")
    assert nango.faults
    assert nango.faults.seed == 9
    off = CliRunner().invoke(sandbox, ["faults", "0", "--url", server.url])
    assert (off.exit_code, off.output) == (0, "rate  0.0\n")
    assert nango.faults is None


def test_a_sandbox_is_started_with_faults_and_a_limit() -> None:
    words = ["--port", "0", "--users", "5", "--faults", "1", "--rate-limit", "2", "--enforce"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox.tenant", *words], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        ready = re.fullmatch(r"sandbox ready url=(\S+) key=(\S+)\n", process.stdout.readline())
        assert ready
        key = {"authorization": f"Bearer {ready[2]}"}
        with httpx.Client(base_url=ready[1], headers=key, trust_env=False) as http:
            assert [http.get("/connections").status_code for _ in range(3)] == [200, 200, 429]
            assert http.get("/sandbox/faults").json()["rate"] == 1
        process.terminate()
        assert process.wait(timeout=10) == 0
