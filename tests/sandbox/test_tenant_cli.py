"""The command line, the control API behind it, and changes on a timer."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest
from click.testing import CliRunner

from sandbox.tenant import KEY, Nango, Server, Tenant, serve
from sandbox.tenant.cli.commands import sandbox
from sandbox.tenant.demo import build_demo_nango
from sandbox.tenant.ticker import Ticker


@pytest.fixture
def server() -> Iterator[Server]:
    nango = Nango()
    nango.add_connection("c1", Tenant(seed=1))
    nango.add_connection("c2", Tenant(seed=2))
    with serve(nango) as server:
        yield server


class CommandResult(NamedTuple):
    code: int
    text: str


def run_command(server: Server, *words: str, key: str = KEY) -> CommandResult:
    result = CliRunner().invoke(sandbox, [*words, "--url", server.url, "--key", key])
    return CommandResult(result.exit_code, result.output)


def test_truth_shows_every_resource(server: Server) -> None:
    code, text = run_command(server, "truth")
    assert code == 0
    truth = server.nango.connections[0].tenant.truth()["users"]
    assert f"users{truth.count:>21}  {truth.checksum:016x}" in text
    assert text.count("  role_assignments ") == 2
    assert run_command(server, "truth", "--connection", "c2").text.count("  role_assignments ") == 1


def test_what_is_printed_can_be_had_as_json(server: Server) -> None:
    users = server.nango.connections[1].tenant.truth()["users"]
    told = json.loads(run_command(server, "truth", "--connection", "c2", "--json").text)
    assert told["c2"]["resources"]["users"]["count"] == users.count
    assert "total" in json.loads(run_command(server, "calls", "--json").text)
    customers = json.loads(run_command(server, "customers", "--json").text)
    assert [one["connection_id"] for one in customers] == ["c1", "c2"]


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["mutate", "3"], "mutated"),
        (["expire"], "expired"),
        (["faults", "0.5"], "rate"),
        (["delete", "c1", "2"], "deleted"),
        (["restore", "c1"], "restored"),
        (["revoke", "c1"], "name"),
        (["consent", "c1"], "name"),
        (["refuse", "c1", "sites"], "name"),
        (["grant", "c1", "sites"], "name"),
        (["unlicense", "c1"], "licensed"),
        (["license", "c1"], "licensed"),
        (["disconnect", "c1"], "name"),
        (["connect", "c1"], "name"),
    ],
    ids=lambda it: it[0] if isinstance(it, list) else it,
)
def test_what_was_changed_can_be_had_as_json(server: Server, words: list[str], key: str) -> None:
    if words[0] == "connect":
        run_command(server, "disconnect", "c1")
    code, text = run_command(server, *words, "--json")
    assert code == 0, text
    assert key in json.loads(text)


def test_mutate_changes_one_tenant_or_all(server: Server) -> None:
    one, two = (c.tenant.truth() for c in server.nango.connections)
    assert run_command(server, "mutate", "20", "--connection", "c2") == (0, "c2  20 changes\n")
    after = [c.tenant.truth() for c in server.nango.connections]
    assert after[0] == one
    assert after[1] != two
    assert run_command(server, "mutate", "5").text == "c1  5 changes\nc2  5 changes\n"


def test_expire_and_calls_talk_to_the_server(server: Server) -> None:
    epoch = server.nango.connections[0].tenant.delta_epoch
    assert run_command(server, "expire").code == 0
    assert server.nango.connections[0].tenant.delta_epoch == epoch + 1
    assert run_command(server, "calls").text == "total  0\n"


def test_mistakes_are_told_plainly(server: Server) -> None:
    assert "401" in run_command(server, "truth", key="00000000-0000-4000-8000-000000000000").text
    assert (
        "There is no connection c9" in run_command(server, "mutate", "1", "--connection", "c9").text
    )
    lost = CliRunner().invoke(sandbox, ["truth", "--url", "http://127.0.0.1:9"])
    assert lost.exit_code == 1
    assert "No sandbox answers" in lost.output
    taken = CliRunner().invoke(sandbox, ["serve", "--port", str(server.port), "--users", "1"])
    assert "Cannot listen" in taken.output


def test_the_control_api_is_behind_the_key(server: Server) -> None:
    assert httpx.get(f"{server.url}/sandbox/truth", trust_env=False).status_code == 401
    with httpx.Client(headers={"authorization": f"Bearer {KEY}"}, trust_env=False) as http:
        assert http.get(f"{server.url}/sandbox/nothing").status_code == 404
        assert http.post(f"{server.url}/sandbox/mutate", content=b"[1").status_code == 400
        assert http.post(f"{server.url}/sandbox/mutate", json={"n": "x"}).status_code == 400


def test_the_demo_is_the_same_after_a_restart() -> None:
    first, second = build_demo_nango(epoch=1), build_demo_nango(epoch=2)
    names = [(c.connection_id, c.tenant.tenant_id, c.created) for c in first.connections]
    assert names == [(c.connection_id, c.tenant.tenant_id, c.created) for c in second.connections]
    assert [c.tenant.truth()["users"].count for c in first.connections] == [20_000, 300, 60]


def test_the_demo_holds_no_customer_by_itself() -> None:
    """A hidden group that loses its last member waits for approval, and changes come by chance."""
    seen = [
        group["visibility"]
        for c in build_demo_nango().connections
        for group in c.tenant.iterate_live("groups")
    ]
    assert {"Public", "Private"} <= set(seen)
    assert "HiddenMembership" not in seen


def test_a_ticker_changes_tenants_until_it_is_closed() -> None:
    tenant = Tenant()
    nango = Nango()
    nango.add_connection("c1", tenant)
    with Ticker(nango, 0.002, n=5):
        deadline = time.monotonic() + 10
        while not tenant.change_log["users"] and time.monotonic() < deadline:
            time.sleep(0.002)
    told = len(tenant.change_log["users"])
    assert told
    time.sleep(0.02)
    assert len(tenant.change_log["users"]) == told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_module_serves_and_stops_cleanly(number: signal.Signals) -> None:
    words = ["--port", "0", "--users", "30", "--users", "5", "--mutate-every", "0.01"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox.tenant", *words], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        ready = re.fullmatch(r"sandbox ready url=(\S+) key=(\S+)\n", process.stdout.readline())
        assert ready
        headers = {"authorization": f"Bearer {ready[2]}"}
        found = httpx.get(f"{ready[1]}/connections", headers=headers, trust_env=False).json()
        assert len(found["connections"]) == 2
        process.send_signal(number)
        assert process.wait(timeout=10) == 0
