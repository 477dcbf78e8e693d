"""Start child processes in order, restart those that die, and stop them in reverse order."""

import atexit
import logging
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from sandbox.servers.child import (
    Child,
    describe_exit,
    get_log_size,
    kill_group,
    read_last_lines,
    spawn,
    stop_process,
)
from sandbox.servers.errors import ServerError, StartupFailed

_log = logging.getLogger(__name__)
_TICK = 0.1
_EAGER_TICK = 0.02

OnEvent = Callable[[str], None]


@dataclass(frozen=True)
class Backoff:
    """The pause before a dead child is restarted: it doubles, within bounds.

    It is reset after `reset_after` seconds of uptime.
    """

    initial: float = 1
    maximum: float = 30
    reset_after: float = 60

    def compute_delay(self, deaths: int) -> float:
        return min(self.maximum, self.initial * 2.0 ** min(deaths - 1, 30))


@dataclass(eq=False)
class _ChildState:
    """A child and its state."""

    child: Child
    first_start: Future[None] | None
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    since: float = 0.0  # when it was spawned, then when it became ready; monotonic
    log_size: int = 0  # before it was spawned
    deaths: int = 0
    restart_at: float = 0.0


class Supervisor:
    """Starts children in order, restarts those that die, stops them in the reverse order.

    One thread does all of it, from the first start to the end of `stop`: the signal for the
    parent's death is tied to the thread that started the child. `on_event` is called in that
    thread with plain lines.
    """

    def __init__(self, on_event: OnEvent | None = None, *, backoff: Backoff | None = None) -> None:
        self._on_event = on_event
        self._backoff = backoff or Backoff()
        self._children: list[_ChildState] = []
        self._requests: queue.SimpleQueue[_ChildState | None] = queue.SimpleQueue()
        self._stopping = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._owner_pid = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, *children: Child) -> None:
        """Start each child once the one before it is ready; return when all are.

        Raises StartupFailed for a child that ends or does not answer before it was ready for the
        first time; it is stopped, those before it keep running. Raises ServerError after `stop`.
        """
        for child in children:
            started: Future[None] = Future()
            with self._lock:
                if self._stopping:
                    raise ServerError(f"{child.name} was not started: the supervisor has stopped.")
                self._requests.put(_ChildState(child, started))
                self._start_thread()
            started.result()

    def stop(self) -> None:
        """Stop all children in reverse order. May be called twice, and from any thread."""
        if os.getpid() != self._owner_pid:  # a forked copy has no children
            return
        with self._lock:
            if not self._stopping:
                self._stopping = True
                self._requests.put(None)
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        atexit.unregister(self.stop)

    def get_pid(self, name: str) -> int | None:
        """Return the process id of a running child, or None."""
        processes = [slot.process for slot in list(self._children) if slot.child.name == name]
        running = [process for process in processes if process and process.returncode is None]
        return running[0].pid if running else None

    def is_ready(self, name: str) -> bool:
        return any(slot.ready for slot in list(self._children) if slot.child.name == name)

    def _start_thread(self) -> None:
        if self._thread is None:
            # A daemon, so that a program without `stop` can end; atexit stops the children.
            self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
            self._thread.start()
            atexit.register(self.stop)

    def _run(self) -> None:
        while True:
            waiting = any(slot.process and not slot.ready for slot in self._children)
            try:
                asked = self._requests.get(timeout=_EAGER_TICK if waiting else _TICK)
            except queue.Empty:
                pass
            else:
                if asked is None:
                    break
                self._children.append(asked)
            for slot in list(self._children):
                self._check_child(slot)
        for slot in reversed(self._children):
            self._stop_child(slot)

    def _check_child(self, slot: _ChildState) -> None:
        now = time.monotonic()
        if slot.process is None:
            if now >= slot.restart_at:
                self._spawn(slot, now)
        elif (code := slot.process.poll()) is not None:
            self._record_death(slot, now, describe_exit(code))
        elif not slot.ready:
            self._check_ready(slot, now)

    def _spawn(self, slot: _ChildState, now: float) -> None:
        slot.log_size, slot.since = get_log_size(slot.child.log), now
        try:
            slot.process = spawn(slot.child)
        except (OSError, ValueError) as error:
            self._record_death(slot, now, f"could not be started ({error})")
            return
        if slot.child.is_ready is None:
            self._mark_ready(slot, now)

    def _check_ready(self, slot: _ChildState, now: float) -> None:
        assert slot.child.is_ready is not None
        assert slot.process is not None
        try:
            ready = slot.child.is_ready()
        except ServerError as error:  # waiting longer would not help
            stop_process(slot.process, slot.child.stop_signals)
            self._record_death(slot, now, "cannot become ready", error)
            return
        except Exception:  # noqa: BLE001 (the check is the caller's; to us it just says no)
            _log.debug("%s: the readiness check failed", slot.child.name, exc_info=True)
            ready = False
        # If ours has died meanwhile, another program may have answered on the same port.
        if ready and slot.process.poll() is None:
            self._mark_ready(slot, time.monotonic())
        elif now - slot.since > slot.child.ready_timeout:
            stop_process(slot.process, slot.child.stop_signals)
            self._record_death(slot, now, f"was not ready within {slot.child.ready_timeout:g} s")

    def _mark_ready(self, slot: _ChildState, now: float) -> None:
        slot.ready, slot.since = True, now
        self._emit(f"{slot.child.name} {'restarted' if slot.first_start is None else 'started'}")
        if slot.first_start is not None:
            slot.first_start.set_result(None)
            slot.first_start = None

    def _record_death(
        self, slot: _ChildState, now: float, what: str, why: ServerError | None = None
    ) -> None:
        """Record a death and the next restart; a failed first start is not retried."""
        if slot.process is not None:
            kill_group(slot.process)  # processes that it left behind would block the next one
        if slot.ready and now - slot.since > self._backoff.reset_after:
            slot.deaths = 0
        slot.process, slot.ready = None, False
        if slot.first_start is not None:
            self._children.remove(slot)
            slot.first_start.set_exception(why or StartupFailed(_describe_failed_start(slot, what)))
            return
        slot.deaths += 1
        pause = self._backoff.compute_delay(slot.deaths)
        slot.restart_at = now + pause
        self._emit(f"{slot.child.name} {what}, restarting in {pause:g} s")

    def _stop_child(self, slot: _ChildState) -> None:
        if slot.process is not None:
            stop_process(slot.process, slot.child.stop_signals)
            self._emit(f"{slot.child.name} stopped")
        slot.process, slot.ready = None, False
        if slot.first_start is not None:
            slot.first_start.set_exception(ServerError(f"{slot.child.name} was stopped."))
            slot.first_start = None

    def _emit(self, line: str) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(line)
        except Exception:  # noqa: BLE001 (a listener's fault must not end the watch)
            _log.exception("on_event failed")


def _describe_failed_start(slot: _ChildState, what: str) -> str:
    log = slot.child.log
    where = f" Its log is {log}." if log is not None else ""
    return f"{slot.child.name} {what}.{where}{read_last_lines(log, slot.log_size)}"
