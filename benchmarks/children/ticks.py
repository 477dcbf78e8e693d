"""Runs the tick several times, like the maintenance worker, with a real broker."""

import time

from benchmarks.meter import Meter, read_arguments, write_figures
from worker.app import app
from worker.tasks.base import discard_runtime, get_runtime
from worker.tasks.schedule import tick


def main() -> None:
    asked = read_arguments()
    app.finalize()
    get_runtime()
    seconds = []
    with Meter() as meter:
        for _ in range(asked["ticks"]):
            start = time.perf_counter()
            tick()
            seconds.append(time.perf_counter() - start)
    discard_runtime()
    write_figures({**meter.figures, "ticks": seconds})


if __name__ == "__main__":
    main()
