"""Finds unexpected lines in the logs of processes: errors, tracebacks, malformed lines."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

EXPECTED: Final = (
    "WorkerLostError",
    "exited with 'signal 9 (SIGKILL)'",
    "Connection to broker lost",
    "Cannot connect to redis://",
    "Timed out waiting for UP message",
    "Error sending message",
    "beat: Connection error",
    "beat pidbox connection error",
    "is loading the dataset in memory",
    "Couldn't ack",
    "suspended by a configuration error",
    "Nango unavailable: calls are suspended",
)
"""Said at ERROR or above of killed processes, brokers that are lost or start, a refused key, and
faults of Nango."""

HARMLESS: Final = {
    "UNABLE TO RESTORE": (
        "a worker stopped while Redis was away and could not put back the messages that it had; "
        "the database sends them again"
    ),
    "EMERGENCY DUMP STATE TO FILE": "those messages were written to a file, which nobody needs",
}
"""What sounds like a loss and is none: counted apart, by what it means."""

_CRASHES: Final = ("Traceback", "Error", "Exception", "Fatal", "Segmentation", "MemoryError")
_POOL_DEATH = re.compile(r"Process '[^']*' pid:(\d+) exited with '([^']*)'")

_PARTS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}"), "<id>"),
    (re.compile(r"0x[0-9a-f]+"), "<address>"),
    (re.compile(r"redis://\S+"), "redis://<broker>"),
    (re.compile(r"\d+(\.\d+)?"), "#"),
)


@dataclass(frozen=True)
class LogLine:
    """One line of a log, as far as it matters here."""

    level: str
    message: str
    traceback: str = ""

    @property
    def harmless_reason(self) -> str | None:
        """Why a line that sounds like a loss is none."""
        return next((why for sign, why in HARMLESS.items() if sign in self.message), None)

    @property
    def is_surprise(self) -> bool:
        """An error or a traceback that no blow of ours explains."""
        if self.harmless_reason:
            return False
        whole = f"{self.message}\n{self.traceback}"
        crash = not self.level and any(sign in whole for sign in _CRASHES)
        loud = self.level in ("error", "critical") or self.traceback or crash
        return bool(loud) and not any(sign in whole for sign in EXPECTED)

    @property
    def dead_pool_process(self) -> tuple[int, str] | None:
        """The process of a pool whose end a worker tells, and how it ended."""
        found = _POOL_DEATH.search(self.message)
        return (int(found[1]), found[2]) if found else None

    @property
    def kind(self) -> str:
        """The message without its numbers and ids, for counting."""
        first = self.message.strip().partition("\n")[0][:160]
        last = self.traceback.rstrip('"\n ').rpartition("\n")[2][:160]
        text = f"{first} / {last}" if last else first
        for pattern, name in _PARTS:
            text = pattern.sub(name, text)
        return f"{self.level or 'plain text'}: {text}"

    @property
    def is_counted(self) -> bool:
        """Whether it is worth counting; what Celery prints at its start as root is not."""
        if not self.level:
            return self.is_surprise or self.dead_pool_process is not None
        return self.level not in ("debug", "info")


def parse_line(text: str) -> LogLine:
    """Ours are JSON objects; anything else is something that was printed."""
    try:
        record = json.loads(text)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        return LogLine("", text)
    message = " ".join(str(record[name]) for name in ("event", "reason") if record.get(name))
    return LogLine(str(record.get("level", "")), message, str(record.get("exception", "")))


@dataclass
class LogReader:
    """Reads what was added to some logs, however often they are moved away."""

    paths: dict[str, Path]
    messages: Counter[str] = field(default_factory=Counter)
    """What is worth counting, by process and kind."""
    surprises: Counter[str] = field(default_factory=Counter)
    harmless: Counter[str] = field(default_factory=Counter)
    """What is known not to matter, by process and meaning."""
    examples: dict[str, str] = field(default_factory=dict)
    dead_processes: dict[int, str] = field(default_factory=dict)
    """Processes of pools that ended, and what was said of it."""

    def __post_init__(self) -> None:
        self._offsets: dict[str, tuple[int, int]] = {}

    def read_new(self) -> None:
        for name, path in self.paths.items():
            for text in self._read_new_lines(name, path):
                self._count(name, text)

    def _count(self, name: str, text: str) -> None:
        line = parse_line(text)
        if line.harmless_reason:
            self.harmless[f"{name}: {line.harmless_reason}"] += 1
            return
        if not line.is_counted:
            return
        if line.dead_pool_process is not None:
            pid, how = line.dead_pool_process
            self.dead_processes[pid] = f"{name}: pool process {pid} exited with {how}"
        kind = f"{name}: {line.kind}"
        self.messages[kind] += 1
        if line.is_surprise:
            self.surprises[kind] += 1
            self.examples.setdefault(kind, text[:4000])

    def _read_new_lines(self, name: str, path: Path) -> list[str]:
        if not path.exists():
            return []
        inode, start = self._offsets.get(name, (0, 0))
        text = b""
        if inode and path.stat().st_ino != inode:
            old = path.with_suffix(path.suffix + ".1")
            if old.exists() and old.stat().st_ino == inode:
                text = old.read_bytes()[start:]
            start = 0
        with path.open("rb") as file:
            file.seek(start)
            fresh = file.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]  # a line that is being written comes next time
        self._offsets[name] = path.stat().st_ino, start + len(whole)
        lines = (text + whole).decode(errors="replace").splitlines()
        return [line for line in lines if line.strip()]


def read_tail(path: Path, words: tuple[str, ...], count: int = 15) -> list[str]:
    """The last lines that hold all of some words."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line[:600] for line in lines if all(word in line for word in words)][-count:]
