"""Reading ahead, in a thread that never keeps the process from ending."""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_Work = Callable[[], None]


class Executor(Protocol):
    """What runs functions beside the caller, as executors do."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Run it; what comes of it is in the future."""


def prefetch(executor: Executor, items: Iterator[T]) -> Generator[T, None, None]:
    """The items, each being made while the one before is worked on."""
    coming = executor.submit(next, items, None)
    try:
        while (item := coming.result()) is not None:
            coming = executor.submit(next, items, None)
            yield item
    finally:
        wait((coming,))


class DaemonThread:
    """One thread that does what it is given, in order, begun with the first.

    Those of ``ThreadPoolExecutor`` are waited for when the interpreter ends, also one that waits
    for a Postgres that does not answer.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread: Thread | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        found: Future[Any] = Future()

        def work() -> None:
            try:
                result = fn(*args)
            except BaseException as fault:  # noqa: BLE001 - raised again where it is waited for
                found.set_exception(fault)
            else:
                found.set_result(result)

        if self._thread is None:
            self._thread = Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._queue.put(work)
        return found

    def close(self) -> None:
        """Wait for what it was given, and end it."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
