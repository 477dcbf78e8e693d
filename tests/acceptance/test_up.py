"""What `make run` calls: everything comes up, shows itself, and goes down again."""

import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.soak.processes import is_alive, list_children
from tests.support.fork_server import run_command
from tests.support.service import wait_until

CLI = [sys.executable, "-m", "worker.ops.cli"]


class Up:
    """A run in a folder, which may have data of an earlier run, and a second terminal beside it."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.folder, self.output = folder, folder.with_suffix(".out")
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
        self._environment = {**kept, "TENANT_MIRROR_HOME": str(folder), **more}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*CLI, "up"], env=self._environment, stdout=output, stderr=subprocess.STDOUT
            )

    def says(self, words: str) -> bool:
        text = self.output.read_text()
        if words not in text and self.process.poll() is not None:
            pytest.fail(f"it has ended, and said: {text}")
        return words in text

    def ask(self, *arguments: str) -> str:
        """What a command answers to whoever sources the file that the run names."""
        environment = {**self._environment, **self.sourced()}
        done = run_command(arguments, environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sourced(self) -> dict[str, str]:
        """What the file adds to a shell."""
        lines = (self.folder / "env").read_text().splitlines()
        found = dict(shlex.split(line)[1].split("=", 1) for line in lines)
        return {name: os.path.expandvars(value) for name, value in found.items()}

    def connections(self) -> dict[str, dict[str, Any]]:
        """What `status` tells of each customer."""
        rows = json.loads(self.ask("status", "--json"))["connections"]
        return {row["display_name"]: row for row in rows}

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(120) == 0

    def waiting(self) -> dict[str, int]:
        return {
            row["name"]: row["waiting"] for row in json.loads(self.ask("sinks", "list", "--json"))
        }


@pytest.fixture
def up(home: Path) -> Iterator[Up]:
    made = Up(home / f"up-{secrets.token_hex(4)}")
    yield made
    if made.process.poll() is None:
        made.process.send_signal(signal.SIGINT)
        made.process.wait(120)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_new_user_sees_customers_mirrored_and_events_arrive(up: Up) -> None:
    wait_until(lambda: up.says("following changes"), 150, what="the first loads")
    assert up.says("change events go to the Redis stream tenant-mirror:events")
    assert up.says("events tail --follow")
    wait_until(lambda: up.waiting() == {"stream": 0}, 60, what="the delivery of all events")
    assert "Contoso" in up.ask("events", "tail", "--last", "50")
    children = list_children(up.process.pid)
    assert len(children) >= 7, "two servers, customers, beat, two workers, a relay"
    up.end()
    assert up.says("stopped; the data is kept for the next start")
    wait_until(lambda: not any(map(is_alive, children)), what="the end of every process")


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_second_start_goes_on_and_shows_each_trouble(up: Up) -> None:
    """In a shell that has read the file of the first start, as people have it open."""
    wait_until(lambda: up.says("following changes"), 150, what="the first loads")
    up.ask("sandbox", "mutate", "40")
    up.end()
    again = Up(up.folder, **up.sourced())
    try:
        wait_until(lambda: again.says("following changes"), 150, what="the second start")
        assert again.says("and are ignored")
        assert again.says("three simulated customers are up")
        ended = [row["last_outcome"]["state"] for row in again.connections().values()]
        assert ended == ["succeeded"] * 3
        assert all(not row["attention"] for row in again.connections().values())
        show_each_trouble(again)
    finally:
        again.end()


def show_each_trouble(up: Up) -> None:
    up.ask("sandbox", "delete", "Fabrikam", "60%")
    up.ask("sandbox", "revoke", "Tailspin")
    up.ask("sandbox", "refuse", "Contoso", "sites")
    for line in (
        "WARNING held_deletions: Fabrikam (2) users",
        "ERROR token_refused: Tailspin (3) is broken",
        "WARNING permission_missing: Contoso (1) sites",
    ):
        wait_until(lambda line=line: up.says(line), 120, what=line)  # type: ignore[misc]
    assert up.connections()["Fabrikam"]["last_outcome"]["state"] == "held"
    assert up.connections()["Tailspin"]["status"] == "broken"
    up.ask("approve", "2", "--yes")
    up.ask("sandbox", "consent", "Tailspin")
    up.ask("sandbox", "grant", "Contoso", "sites")
    for number in ("1", "3"):
        up.ask("resync", number)
    for line in (
        "OVER held_deletions: Fabrikam (2), users",
        "OVER token_refused: Tailspin (3)",
        "OVER permission_missing: Contoso (1), sites",
    ):
        wait_until(lambda line=line: up.says(line), 120, what=line)  # type: ignore[misc]
