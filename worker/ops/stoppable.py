"""Work that ends within a time once it is told to stop, wherever it waits at that moment."""

from collections.abc import Callable
from threading import Event, Thread

from worker.core.log import get_logger

POLL_SECONDS = 0.5


def run_until_stopped(stop: Event, work: Callable[[], None], seconds: float) -> None:
    """Do the work in a thread; return when it is done, at the latest ``seconds`` after ``stop``.

    Work that is not done by then waits for something that cannot be interrupted, such as a server
    that takes a question and never answers. It is left behind as if the process had been killed,
    and ends with the process. Raises what the work raises.
    """
    faults: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as fault:  # noqa: BLE001 - raised again by who waits
            faults.append(fault)

    thread = Thread(target=run, name="work", daemon=True)
    thread.start()
    while thread.is_alive() and not stop.is_set():
        # A signal is handled between two waits at the latest.
        thread.join(POLL_SECONDS)
    thread.join(seconds)
    if faults:
        raise faults[0]
    if thread.is_alive():
        get_logger().warning("ended in the middle of the work", seconds=seconds)
