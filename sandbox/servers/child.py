"""A supervised child process: how it starts, becomes ready and stops."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from sandbox.servers.server_user import ServerUser

_LAUNCHER = Path(__file__).with_name("launch.py")
_LOG_LIMIT = 20 * 1024 * 1024

StopSignals = Sequence[tuple[signal.Signals, float]]


@dataclass(frozen=True, kw_only=True)
class Child:
    """One program that a supervisor keeps running.

    `env` is the whole environment; None passes ours on. `is_ready` is polled until it returns True,
    and should return within a second or two; None means ready at the start.
    `log` receives stdout and stderr; None shares ours. `stop_signals` are sent to the program
    itself, not to its group, each followed by its seconds of grace; then the group is killed. The
    child also gets the first one if the supervisor's process dies. `keep_fds` stay open.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    user: ServerUser | None = None
    is_ready: Callable[[], bool] | None = None
    ready_timeout: float = 60
    log: Path | None = None
    stop_signals: StopSignals = ((signal.SIGTERM, 10),)
    keep_fds: Sequence[int] = ()


def spawn(child: Child) -> subprocess.Popen[bytes]:
    """Start the program in its own session. The calling thread must outlive it.

    Linux ties the signal on the parent's death to the thread that started the child.
    Raises OSError.
    """
    identity = child.user
    owner = f"{identity.uid}:{identity.gid}" if identity and identity.is_other_user else "-"
    first = int(child.stop_signals[0][0]) if child.stop_signals else int(signal.SIGTERM)
    launcher = [
        sys.executable,
        "-I",
        "-S",
        "-B",
        str(_LAUNCHER),
        str(os.getpid()),
        str(first),
        owner,
    ]
    with ExitStack() as stack:
        output = None
        if child.log is not None:
            _rotate(child.log)
            output = stack.enter_context(child.log.open("ab"))
        return subprocess.Popen(
            [*launcher, *child.argv],
            env=None if child.env is None else dict(child.env),
            cwd=child.cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
            start_new_session=True,
            pass_fds=tuple(child.keep_fds),
        )


def stop_process(process: subprocess.Popen[bytes], signals: StopSignals) -> None:
    """Send the stop signals in turn, then kill the rest of the group. Returns when it is gone."""
    for number, grace in signals:
        if process.poll() is not None:
            break
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    kill_group(process)
    process.wait()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the child's process group, the child included."""
    # PermissionError: macOS raises it for a group of zombies.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def describe_exit(code: int) -> str:
    if code >= 0:
        return f"exited with {code}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


def get_log_size(log: Path | None) -> int:
    return log.stat().st_size if log is not None and log.exists() else 0


def read_last_lines(log: Path | None, start: int, count: int = 5) -> str:
    """Return the last lines written to a log after the size `start`, for an error message."""
    size = get_log_size(log)
    if log is None or size == 0:
        return ""
    with log.open("rb") as file:
        file.seek(max(start if start <= size else 0, size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
    return "".join(f"\n  {line}" for line in lines[-count:])


def _rotate(log: Path) -> None:
    """Keep one old log only, so that repeated restarts cannot fill the disk."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_LIMIT:
            log.replace(log.with_suffix(log.suffix + ".1"))
