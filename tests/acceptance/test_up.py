"""What `make run` calls: everything comes up, shows itself, and goes down again."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.processes import children_of, is_alive
from tests.support.service import until

CLI = [sys.executable, "-m", "worker.ops.cli"]


class Up:
    """A run in a folder of its own, and a second terminal beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.output = folder, folder.with_suffix(".out")
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
        self._environment = {**kept, "TENANT_MIRROR_HOME": str(folder), "COLUMNS": "200"}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*CLI, "up"], env=self._environment, stdout=output, stderr=subprocess.STDOUT
            )

    def says(self, words: str) -> bool:
        return words in self.output.read_text()

    def ask(self, *arguments: str) -> str:
        """What a command answers to whoever sources the file that the run names."""
        lines = (self.folder / "env").read_text().splitlines()
        named = dict(shlex.split(line)[1].split("=", 1) for line in lines)
        environment = {**self._environment, **named}
        done = subprocess.run(
            [*CLI, *arguments], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    def waiting(self) -> dict[str, int]:
        return {
            row["name"]: row["waiting"] for row in json.loads(self.ask("sinks", "list", "--json"))
        }


@pytest.fixture
def up(home: Path) -> Iterator[Up]:
    made = Up(home / "up")
    yield made
    if made.process.poll() is None:
        made.process.send_signal(signal.SIGINT)
        made.process.wait(120)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_new_user_sees_customers_mirrored_and_events_arrive(up: Up) -> None:
    until(lambda: up.says("following the changes"), 150, what="the first loads")
    assert up.says("change events go to the Redis stream tenant-mirror:events")
    assert up.says("events tail --follow")
    until(lambda: up.waiting() == {"stream": 0}, 60, what="the delivery of all events")
    assert "Contoso" in up.ask("events", "tail", "--last", "50")
    children = children_of(up.process.pid)
    assert len(children) >= 7, "two servers, customers, beat, two workers, a relay"
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(120) == 0
    assert up.says("stopped; the data are kept for the next start")
    until(lambda: not any(map(is_alive, children)), what="the end of every process")
