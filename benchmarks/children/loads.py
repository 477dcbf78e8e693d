"""First loads of some connections, one after another, as the command `sync` does them."""

from datetime import UTC, datetime

from benchmarks.meter import Meter, arguments, tell
from models.run import RunState
from worker.core.settings import load_settings
from worker.sync.plan import Order
from worker.sync.run import run_to_end
from worker.wiring import close_kit, open_kit


def main() -> None:
    """The figures, and how many loads succeeded."""
    connections = arguments()["connections"]
    kit = open_kit(load_settings())
    order = Order(datetime.now(UTC), manual=True)
    with Meter() as meter:
        reports = [run_to_end(kit, number, order) for number in connections]
    close_kit(kit)
    succeeded = sum(one.state is RunState.SUCCEEDED for one in reports)
    tell({**meter.figures, "succeeded": succeeded})


if __name__ == "__main__":
    main()
