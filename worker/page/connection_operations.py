"""The actions of operators that the page of a connection shows on top. Pure."""

from datetime import datetime

import msgspec

from models.operation import Action, OperationState, TargetState
from worker.conditions.facts import ServiceFacts
from worker.operations.outcome import OperationOutcome
from worker.operations.progress import describe_wait
from worker.overview.fleet import FleetConnection
from worker.overview.resync_outcome import ResyncOutcome
from worker.page.next_move import find_held_outcome
from worker.page.runs import mark_run
from worker.store.state.connection_operations import ConnectionOperation


class OperationRow(msgspec.Struct, frozen=True):
    """An action of an operator on this connection."""

    id: int
    action: Action
    actor: str
    created_at: datetime
    is_open: bool
    mark: str
    text: str
    sync: ResyncOutcome | None
    """What a resync led to, once it is recorded."""


def build_operation(
    operation: ConnectionOperation, one: FleetConnection, service: ServiceFacts
) -> OperationRow:
    state = operation.target_state
    sync = None
    if operation.action is Action.RESYNC and state is TargetState.DONE:
        sync = find_held_outcome(one, operation.finished_at)
    return OperationRow(
        id=operation.id,
        action=operation.action,
        actor=operation.actor,
        created_at=operation.created_at,
        is_open=state is TargetState.QUEUED,
        mark=_choose_mark(state, sync),
        text=_describe(operation, service, sync),
        sync=sync,
    )


def _choose_mark(state: TargetState, sync: ResyncOutcome | None) -> str:
    if sync is not None:
        return mark_run(sync.state)
    if state is TargetState.FAILED:
        return "error"
    return "well" if state is TargetState.DONE else "info"


def _describe(
    operation: ConnectionOperation, service: ServiceFacts, sync: ResyncOutcome | None
) -> str:
    """Return what became of it; a resync that is recorded tells it by its run."""
    if operation.target_state is TargetState.QUEUED:
        state = "running" if operation.state is OperationState.RUNNING else "queued"
        return f"{state}; {describe_wait(operation.state, service)}"
    if sync is not None:
        return OperationOutcome.REQUESTED.value
    return operation.detail or operation.target_state.value
