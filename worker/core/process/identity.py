"""Identities of processes across machines, and checks whether a process is dead.

Host name and pid do not identify a process: containers may share a host name, each counts its pids
from 1, and pids are reused. So an identity also holds the boot of its machine, its pid namespace
and its start time. Only a process of the same boot and pid namespace can look another one up.
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
    """Identifies a process across machines. As text: ``host:pid:start_time:namespace``."""

    host: str
    """For people only: machines or containers may share a host name."""
    pid: int
    start_time: str
    """When it started, in its system's unit; ``-`` if unknown."""
    namespace: str
    """A digest of the machine's boot id and the pid namespace; ``-`` if unknown."""

    def __str__(self) -> str:
        return f"{self.host}:{self.id_without_host}"

    @property
    def id_without_host(self) -> str:
        """The identity without the host name."""
        return f"{self.pid}:{self.start_time}:{self.namespace}"


def parse_identity(written: str) -> ProcessIdentity | None:
    """Parse an identity; None for anything else, such as ``host:pid`` of old releases."""
    parts = written.rsplit(":", 3)
    if len(parts) != 4 or not (parts[1].isascii() and parts[1].isdigit()):
        return None
    host, pid, started, place = parts
    return ProcessIdentity(host, int(pid), started, place)


def shorten_identity(written: str) -> str:
    """Return ``host:pid``, for people who look at one machine."""
    found = parse_identity(written)
    return written if found is None else f"{found.host}:{found.pid}"


class ProcessTable:
    """Looks up the processes of this process's own pid namespace."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self.namespace = _compute_namespace(proc)
        self._is_own_namespace = _read_stat_fields(proc / "self" / "stat")[:1] == [str(os.getpid())]
        """Whether /proc shows our pid namespace, and not an outer one."""

    def identify(self, pid: int) -> ProcessIdentity:
        return ProcessIdentity(
            socket.gethostname(), pid, self._read_start_time(pid) or _UNKNOWN, self.namespace
        )

    def is_dead(self, other: ProcessIdentity) -> bool:
        """Whether a process has certainly ended. False if this process cannot know."""
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
        """Return the start in clock ticks since boot. It differs when a pid is reused."""
        if platform.system() == "Darwin":
            return _run_command("ps", "-o", "lstart=", "-p", str(pid)).replace(":", ".") or None
        fields = _read_stat_fields(self._proc / str(pid) / "stat") if self._is_own_namespace else []
        return fields[21] if len(fields) > 21 else None


_tables: dict[int, ProcessTable] = {}


def get_process_table() -> ProcessTable:
    """Return this process's table. A forked child may be in another namespace."""
    pid = os.getpid()
    if pid not in _tables:
        _tables.clear()
        _tables[pid] = ProcessTable()
    return _tables[pid]


def identify_this_process() -> ProcessIdentity:
    return get_process_table().identify(os.getpid())


def _compute_namespace(proc: Path) -> str:
    """Return a digest that is equal for processes that can look each other up."""
    if platform.system() == "Darwin":  # macOS has no namespaces
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
    """Return the fields of ``/proc/PID/stat``; a program's name may hold spaces and brackets."""
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
    """Return the output of a system program; empty if it is missing or fails."""
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
