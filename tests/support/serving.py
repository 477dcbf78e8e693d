"""The process that serves the page and the API, with its log."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.fork_server import COMMAND, get_fork_server


class Serving:
    """A process that serves, its log, and where."""

    def __init__(self, log: Path, arguments: Sequence[str], variables: dict[str, str]) -> None:
        self.log = log
        self.process = get_fork_server().start([*COMMAND, *arguments], variables, log)
        self.url = ""
        until = time.monotonic() + 30
        while not self.url and time.monotonic() < until:
            found = [line for line in self.lines() if line["event"] == "serving"]
            self.url = found[0]["url"] if found else ""
            time.sleep(0.02)
        assert self.url, log.read_text()

    def lines(self) -> list[dict[str, Any]]:
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def get(
        self, path: str, token: str | None = None, context: Any = None, seconds: float = 10
    ) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(self.url + path, headers=headers)  # noqa: S310 - ours
        try:
            with urllib.request.urlopen(request, timeout=seconds, context=context) as reply:  # noqa: S310
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
