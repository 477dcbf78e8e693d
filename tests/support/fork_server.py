"""Starts programs of the service by forking a process that has imported their modules.

A program is a process of its own: it has its own session, environment, log and exit code, and runs
the same main function as its command. Only the second or more of imports is not spent each time.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, Final

from worker.core.process import shutdown
from worker.ops import cli

ROOT: Final = Path(__file__).parents[2]
COMMAND: Final = [sys.executable, "-c", "from worker.ops.cli import main; main()"]
"""Our command line, without its arguments."""
CELERY: Final = [sys.executable, "-m", "celery"]

_PRELOADED: Final = (
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.app.routes",
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.backends.base",
    "celery.bin.beat",
    "celery.bin.celery",
    "celery.bin.worker",
    "celery.concurrency.prefork",
    "celery.events",
    "celery.fixups.django",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.consumer.delayed_delivery",
    "celery.worker.strategy",
    "kombu.transport.redis",
    "structlog.stdlib",
    "worker.core.process.disk",
    "worker.core.process.stdio",
    "worker.delivery.relay",
    "worker.delivery.store.lag",
    "worker.delivery.store.rewind",
    "worker.erasure.erase",
    "worker.ops.cli",
    "worker.store.mirror.purge",
    "worker.store.service.maintenance",
    "worker.store.service.tick",
    "worker.sync.connections.discover",
    "worker.sync.run",
    "worker.tasks.base",
    "worker.tasks.broker_transport",
    "worker.tasks.celery_environment",
    "worker.tasks.worker_reporter",
    "worker.wiring",
)
"""All but ``worker.app``: what it reads of the environment is the program's own."""

Program = Callable[[], None]


class ForkedProcess:
    """A program that was started; as ``subprocess.Popen`` as far as tests need it."""

    def __init__(self, nursery: "ForkServer", pid: int) -> None:
        self._nursery = nursery
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.send(poll=self.pid)["code"]
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises TimeoutExpired."""
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class ForkServer:
    """The process that starts programs, as the tests see it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, cwd=ROOT, pass_fds=[theirs.fileno()], start_new_session=True
            )
        self._stream = ours.makefile("rw", encoding="utf-8")
        self._lock = Lock()

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        output: Path,
        *,
        errors: Path | None = None,
        stdin: str = os.devnull,
    ) -> ForkedProcess:
        """Start a program that appends to ``output``; its errors, too, unless they have a file."""
        asked = {
            "arguments": list(arguments),
            "environment": dict(environment),
            "files": [stdin, str(output), str(errors or output)],
        }
        return ForkedProcess(self, self.send(start=asked)["pid"])

    def send(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            self._stream.write(json.dumps(request) + "\n")
            self._stream.flush()
            answer: dict[str, Any] = json.loads(self._stream.readline())
        return answer


@cache
def get_fork_server() -> ForkServer:
    """The one of this test process; it ends with it."""
    return ForkServer()


def run_command(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdin: str = os.devnull,
    seconds: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run our command line in a process of its own, with this environment and no more of it.

    ``stdin`` is a path; that of a terminal makes the command ask. Raises TimeoutExpired.
    """
    command = [*COMMAND, *arguments]
    if not can_fork(command, environment):
        with Path(stdin).open() as source:
            return subprocess.run(
                command,
                env=environment,
                stdin=source,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
    with TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        program = get_fork_server().start(command, environment, output, errors=errors, stdin=stdin)
        try:
            code = program.wait(seconds)
        except subprocess.TimeoutExpired:
            program.send_signal(signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(command, code, output.read_text(), errors.read_text())


def can_fork(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a command is one of Celery's or ours and needs no interpreter of its own."""
    ours = list(command[:3]) in (CELERY, COMMAND)
    return ours and not any(name.startswith(("LD_", "PYTHON")) for name in environment)


# ---- in the process that starts them


def _serve(connection: socket.socket) -> Program | None:
    """Serve until the tests are gone. In a child, the program that it is to run."""
    for name in (*_PRELOADED, *_list_commands()):
        importlib.import_module(name)
    # A collection in a child would copy every page that it shares with this process.
    gc.collect()
    gc.freeze()
    codes: dict[int, int] = {}
    received = b""
    while True:
        _reap(codes)
        if not select.select([connection], [], [], 0.05)[0]:
            continue
        chunk = connection.recv(1 << 16)
        if not chunk:
            return None
        received += chunk
        while b"\n" in received:
            line, received = received.split(b"\n", 1)
            request = json.loads(line)
            if "start" in request:
                pid = _fork()
                if pid == 0:
                    connection.close()
                    return _become_program(**request["start"])
                codes.pop(pid, None)  # of a program that had the same number before
                answer: dict[str, Any] = {"pid": pid}
            else:
                _reap(codes)
                answer = {"code": codes.get(request["poll"])}
            connection.sendall(json.dumps(answer).encode() + b"\n")


def _list_commands() -> list[str]:
    """The modules of our commands, which a command imports when it is called."""
    found = pkgutil.iter_modules(cli.__path__, f"{cli.__name__}.")
    return [module.name for module in found if not module.name.endswith("__main__")]


def _fork() -> int:
    """The child's pid, once it has a session of its own: it may be killed as a group then."""
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(ready)
        os.close(done)
        return 0
    os.close(done)
    os.read(ready, 1)
    os.close(ready)
    return pid


def _reap(codes: dict[int, int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            codes[found[0]] = os.waitstatus_to_exitcode(found[1])


def _become_program(arguments: list[str], environment: dict[str, str], files: list[str]) -> Program:
    """What a command runs, in a process that looks as if the command had started it."""
    appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for target, file in enumerate(files):
        source = os.open(file, appending if target else os.O_RDONLY | os.O_NOCTTY, 0o644)
        os.dup2(source, target)
    os.closerange(3, 1024)
    importlib.reload(shutdown)  # the word to stop is shared with everything that was forked since
    os.environ.clear()
    os.environ.update(environment)
    signal.set_wakeup_fd(-1)
    sys.argv = arguments[2:]
    if arguments[1] == "-m":
        from celery.__main__ import main  # noqa: PLC0415 - it looks at its arguments
    else:
        from worker.ops.cli import main  # noqa: PLC0415
    return main


if __name__ == "__main__":
    program = _serve(socket.socket(fileno=int(sys.argv[1])))
    if program is not None:
        program()
