"""Which process this is, and whether another one is certainly dead.

Host name and pid do not tell two processes apart: containers may share a host name, each of them
counts its pids from 1, and a pid is given again once its process has ended. So a process is named
by the boot of its machine and its pid namespace, too, and by the moment at which it started. Only
a process of the same boot and the same pid namespace can look another one up.
"""

import hashlib
import os
import platform
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_UNKNOWN: Final = "-"
_DEAD_STATES: Final = ("Z", "X", "x")


@dataclass(frozen=True)
class ProcessIdentity:
    """One process among those of all machines. As text: ``host:pid:started:place``."""

    host: str
    """For people only: two machines or containers may have the same one."""
    pid: int
    start_time: str
    """When it started, as its system counts; ``-`` where that is not known."""
    namespace: str
    """A digest of the machine's boot and the pid namespace; ``-`` where they are not known."""

    def __str__(self) -> str:
        return f"{self.host}:{self.id_without_host}"

    @property
    def id_without_host(self) -> str:
        """All but the host's name."""
        return f"{self.pid}:{self.start_time}:{self.namespace}"


def parse_identity(written: str) -> ProcessIdentity | None:
    """An identity from its text; None for anything else, such as ``host:pid`` of old releases."""
    parts = written.rsplit(":", 3)
    if len(parts) != 4 or not (parts[1].isascii() and parts[1].isdigit()):
        return None
    host, pid, started, place = parts
    return ProcessIdentity(host, int(pid), started, place)


def shorten_identity(written: str) -> str:
    """``host:pid``, for people who look at one machine."""
    found = parse_identity(written)
    return written if found is None else f"{found.host}:{found.pid}"


class ProcessTable:
    """The processes that this process can look up: those of its own pid namespace."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self.namespace = _compute_namespace(proc)
        self._is_own_namespace = _read_stat_fields(proc / "self" / "stat")[:1] == [str(os.getpid())]
        """Whether /proc has our pids, and not those of an outer namespace."""

    def identify(self, pid: int) -> ProcessIdentity:
        return ProcessIdentity(
            socket.gethostname(), pid, self._read_start_time(pid) or _UNKNOWN, self.namespace
        )

    def is_dead(self, other: ProcessIdentity) -> bool:
        """Whether a process has certainly ended. False where this process cannot know."""
        if _UNKNOWN in (self.namespace, other.namespace) or other.namespace != self.namespace:
            return False
        if not _is_pid_alive(other.pid) or self._read_state(other.pid) in _DEAD_STATES:
            return True
        started = self._read_start_time(other.pid)
        return _UNKNOWN != other.start_time != started and started is not None

    def _read_state(self, pid: int) -> str | None:
        fields = _read_stat_fields(self._proc / str(pid) / "stat") if self._is_own_namespace else []
        return fields[2] if len(fields) > 2 else None

    def _read_start_time(self, pid: int) -> str | None:
        """In clock ticks since the machine started. A pid that is given again has another one."""
        if platform.system() == "Darwin":
            return _run_command("ps", "-o", "lstart=", "-p", str(pid)).replace(":", ".") or None
        fields = _read_stat_fields(self._proc / str(pid) / "stat") if self._is_own_namespace else []
        return fields[21] if len(fields) > 21 else None


_tables: dict[int, ProcessTable] = {}


def get_process_table() -> ProcessTable:
    """The table as this process sees it. A forked child may be in another namespace."""
    pid = os.getpid()
    if pid not in _tables:
        _tables.clear()
        _tables[pid] = ProcessTable()
    return _tables[pid]


def identify_this_process() -> ProcessIdentity:
    return get_process_table().identify(os.getpid())


def _compute_namespace(proc: Path) -> str:
    """What processes have in common that can look each other up."""
    if platform.system() == "Darwin":  # it has no namespaces
        boot, namespace = _run_command("sysctl", "-n", "kern.bootsessionuuid"), "none"
    else:
        boot = _read_text(proc / "sys" / "kernel" / "random" / "boot_id")
        namespace = _read_link(proc / "self" / "ns" / "pid")
    if not boot or not namespace:
        return _UNKNOWN
    return hashlib.blake2b(f"{boot} {namespace}".encode(), digest_size=8).hexdigest()


def _is_pid_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _read_stat_fields(stat: Path) -> list[str]:
    """The fields of ``/proc/PID/stat``; a program's name may have spaces and brackets in it."""
    before, _, after = _read_text(stat).rpartition(")")
    return [before.partition(" ")[0], before.partition("(")[2], *after.split()] if after else []


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _read_link(file: Path) -> str:
    try:
        return str(file.readlink())
    except OSError:
        return ""


def _run_command(*command: str) -> str:
    """What a program of the system prints; nothing where it is not there or fails."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
