"""Runs first loads of some connections, one after another, like the command `sync`."""

from datetime import UTC, datetime

from benchmarks.meter import Meter, read_arguments, write_figures
from models.run import RunState
from worker.core.settings import load_settings
from worker.sync.plan import SyncRequest
from worker.sync.run import run_to_end
from worker.wiring import close_runtime, open_runtime


def main() -> None:
    """Write the figures, and how many loads succeeded."""
    connections = read_arguments()["connections"]
    runtime = open_runtime(load_settings())
    request = SyncRequest(datetime.now(UTC), manual=True)
    with Meter() as meter:
        reports = [run_to_end(runtime, number, request) for number in connections]
    close_runtime(runtime)
    succeeded = sum(one.state is RunState.SUCCEEDED for one in reports)
    write_figures({**meter.figures, "succeeded": succeeded})


if __name__ == "__main__":
    main()
