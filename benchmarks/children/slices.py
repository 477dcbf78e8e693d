"""Runs slices of one connection like a worker's process, with Celery and the task loaded."""

from sqlalchemy import text

from benchmarks.meter import Figures, Meter, read_arguments, read_peak_memory, write_figures
from worker.app import app
from worker.store.state.connections import request_resync
from worker.tasks.base import discard_runtime, get_runtime
from worker.tasks.sync import sync_slice

_RUN = text("select state, calls from sync.runs where connection_id = :id order by id desc limit 1")


def _run_to_end(connection_id: int, trigger: str) -> Figures:
    """Run slices until the run has ended; return the figures."""
    with Meter() as meter:
        state, calls, slices = "running", 0, 0
        while state == "running":
            sync_slice(connection_id, trigger)
            slices += 1
            with get_runtime().database.open_transaction() as db:
                found = db.execute(_RUN, {"id": connection_id}).first()
            state, calls = (found.state, found.calls) if found else ("never begun", 0)
    return {**meter.figures, "state": state, "calls": calls, "slices": slices}


def main() -> None:
    """Write the run's figures; memory is the whole process's, with a full walk if requested."""
    asked = read_arguments()
    connection_id = asked["connection_id"]
    app.finalize()
    get_runtime()
    figures = _run_to_end(connection_id, asked["trigger"])
    if asked.get("walk_again"):
        with get_runtime().database.open_transaction() as db:
            request_resync(db, connection_id, ["users"], full=True)
        again = _run_to_end(connection_id, "manual")
        figures |= {"state": again["state"], "walk_seconds": again["seconds"]}
    discard_runtime()
    write_figures({**figures, "peak_mb": read_peak_memory()})


if __name__ == "__main__":
    main()
