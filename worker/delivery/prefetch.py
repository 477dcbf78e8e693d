"""Read ahead in a daemon thread, which never delays the end of the process."""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_Work = Callable[[], None]


class Executor(Protocol):
    """Runs functions in parallel, as ``concurrent.futures`` executors do."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Run ``fn`` and return the future of its result."""


def prefetch(executor: Executor, items: Iterator[T]) -> Generator[T, None, None]:
    """Yield the items, producing each while the caller handles the one before."""
    coming = executor.submit(next, items, None)
    try:
        while (item := coming.result()) is not None:
            coming = executor.submit(next, items, None)
            yield item
    finally:
        wait((coming,))


class DaemonThread:
    """One thread that runs submitted functions in order, started by the first.

    The interpreter waits at its end for threads of ``ThreadPoolExecutor``, even for one that waits
    for an unresponsive Postgres.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread: Thread | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            try:
                result = fn(*args)
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                future.set_exception(error)
            else:
                future.set_result(result)

        if self._thread is None:
            self._thread = Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._queue.put(work)
        return future

    def close(self) -> None:
        """Finish the submitted functions and end the thread."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
