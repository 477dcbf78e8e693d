"""Exit codes of the commands."""

from models.run import RunState

EXIT_FAILED, EXIT_USAGE, EXIT_PARTIAL, EXIT_BUSY = 1, 2, 3, 75

EXIT_BY_RUN_STATE = {
    RunState.SUCCEEDED: 0,
    RunState.PARTIAL: EXIT_PARTIAL,
    RunState.HELD: EXIT_PARTIAL,
    RunState.FAILED: EXIT_FAILED,
    RunState.RUNNING: EXIT_PARTIAL,
}
