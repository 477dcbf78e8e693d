"""Slices of one connection as a worker's process takes them: Celery and the task are loaded."""

from sqlalchemy import text

from benchmarks.meter import Figures, Meter, arguments, peak_megabytes, tell
from worker.app import app
from worker.store.connections import request_resync
from worker.tasks.base import drop_kit, kit
from worker.tasks.sync import sync_slice

_RUN = text("select state, calls from sync.runs where connection_id = :id order by id desc limit 1")


def _to_the_end(connection_id: int, trigger: str) -> Figures:
    """Slices until the run has ended."""
    with Meter() as meter:
        state, calls, slices = "running", 0, 0
        while state == "running":
            sync_slice(connection_id, trigger)
            slices += 1
            with kit().database.begin() as connection:
                found = connection.execute(_RUN, {"id": connection_id}).first()
            state, calls = (found.state, found.calls) if found else ("never begun", 0)
    return {**meter.figures, "state": state, "calls": calls, "slices": slices}


def main() -> None:
    """The run's figures; memory is that of the whole process, a full walk included if asked for."""
    asked = arguments()
    connection_id = asked["connection_id"]
    app.finalize()
    kit()
    figures = _to_the_end(connection_id, asked["trigger"])
    if asked.get("walk_again"):
        with kit().database.begin() as connection:
            request_resync(connection, connection_id, ["users"], full=True)
        again = _to_the_end(connection_id, "manual")
        figures |= {"state": again["state"], "walk_seconds": again["seconds"]}
    drop_kit()
    tell({**figures, "peak_mb": peak_megabytes()})


if __name__ == "__main__":
    main()
