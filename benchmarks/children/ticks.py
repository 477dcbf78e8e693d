"""The tick as the maintenance worker runs it, several times over, with a real broker behind it."""

import time

from benchmarks.meter import Meter, arguments, tell
from worker.app import app
from worker.tasks.base import drop_kit, kit
from worker.tasks.schedule import tick


def main() -> None:
    asked = arguments()
    app.finalize()
    kit()
    seconds = []
    with Meter() as meter:
        for _ in range(asked["ticks"]):
            start = time.perf_counter()
            tick()
            seconds.append(time.perf_counter() - start)
    drop_kit()
    tell({**meter.figures, "ticks": seconds})


if __name__ == "__main__":
    main()
