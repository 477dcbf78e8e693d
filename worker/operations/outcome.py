"""What an operation has come to, in a word. Pure.

A resync has succeeded once it is recorded, which reads nothing yet: to people and in ``outcome`` it
is called requested, in every face.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from models.audit import AuditAction, AuditOutcome
from models.operation import Action, OperationState, TargetState


class OperationOutcome(StrEnum):
    """What an operation that has ended came to."""

    REQUESTED = "requested"
    """A resync is recorded; the runs that follow tell the rest."""
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


_OUTCOMES: Final[Mapping[OperationState, OperationOutcome]] = {
    OperationState.SUCCEEDED: OperationOutcome.DONE,
    OperationState.PARTIAL: OperationOutcome.PARTIAL,
    OperationState.FAILED: OperationOutcome.FAILED,
    OperationState.CANCELLED: OperationOutcome.CANCELLED,
}


def find_outcome(action: Action, state: OperationState) -> OperationOutcome | None:
    """Return what an operation came to; None before its end."""
    if action is Action.RESYNC and state is OperationState.SUCCEEDED:
        return OperationOutcome.REQUESTED
    return _OUTCOMES.get(state)


def name_state(action: str, state: str) -> str:
    """Return the word for the state of an operation, a connection of it, or an audit entry."""
    is_done = state in (OperationState.SUCCEEDED, TargetState.DONE, AuditOutcome.DONE)
    is_resync = action in (Action.RESYNC, AuditAction.RESYNC)
    return OperationOutcome.REQUESTED.value if is_resync and is_done else str(state)
