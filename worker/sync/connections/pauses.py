"""End the open runs of connections that an operator has paused.

A running slice ends at the page in hand (``sync/preemption.py``) and leaves its run open, as a
slice does whose time is up; so does a worker that was killed. No slice follows during a pause.
"""

from worker.store.engine import Database
from worker.store.lease import interrupt_writer_in
from worker.store.state.connections import get_connection
from worker.store.state.pauses import (
    describe_pause,
    list_paused_with_open_runs,
    lock_if_paused_and_unheld,
)
from worker.sync.run_end import end_open_run


def end_paused_runs(database: Database) -> int:
    """End the open runs of paused connections that no slice holds; return how many."""
    with database.open_transaction() as db:
        ids = list_paused_with_open_runs(db)
    ended = 0
    for connection_id in ids:
        with database.open_transaction() as db:
            if not lock_if_paused_and_unheld(db, connection_id):
                continue
            with interrupt_writer_in(db, connection_id) as tx:
                end_open_run(tx, describe_pause(get_connection(db, connection_id)))
            ended += 1
    return ended
