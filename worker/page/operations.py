"""The pages of operations: what was asked for, and how far each is."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from models.operation import Action, OperationState, TargetState
from worker.operations.cancel import cancel_operation
from worker.operations.progress import describe_progress
from worker.page.next_move import find_held_outcome
from worker.page.page import PageQuery, Redirect, View, Visit
from worker.store.state.metrics import set_statement_timeout
from worker.store.state.operations import (
    Operation,
    Target,
    count_targets,
    get_operation,
    list_operations,
    list_targets,
)

ROWS = 50


class OperationListQuery(PageQuery, frozen=True, kw_only=True):
    """Which operations, newest first."""

    state: Annotated[tuple[OperationState, ...], Meta(max_length=6)] = ()
    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


class TargetListQuery(PageQuery, frozen=True, kw_only=True):
    """Which connections of an operation, by id."""

    state: Annotated[tuple[TargetState, ...], Meta(max_length=1)] = ()
    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


def show_operations(visit: Visit) -> View:
    query: OperationListQuery = visit.query
    found = visit.context.reads.get(
        ("operations", query.state, query.after), lambda: _read_list(visit)
    )
    values = {
        "query": query,
        "rows": found[:ROWS],
        "states": list(OperationState),
        "next_key": found[ROWS - 1].id if len(found) > ROWS else None,
    }
    return View("operations.html", "Operations", values)


def _read_list(visit: Visit) -> list[Operation]:
    query: OperationListQuery = visit.query
    with visit.context.database.open_transaction() as db:
        set_statement_timeout(db)
        return list_operations(db, before=query.after or None, limit=ROWS + 1, states=query.state)


def show_operation(visit: Visit) -> View:
    """Show an operation with its connections. Raises NotFound."""
    query: TargetListQuery = visit.query
    number = visit.ids["operation_id"]
    operation, counts, found = visit.context.reads.get(
        ("operation", number, query.state, query.after), lambda: _read_one(visit, number)
    )
    fleet = visit.load_fleet()
    known = {one.connection_id: fleet.by_id.get(one.connection_id) for one in found[:ROWS]}
    is_resync = operation.action is Action.RESYNC
    values = {
        "query": query,
        "operation": operation,
        "sentence": describe_progress(operation, counts, fleet.service),
        "counts": {state.value: number for state, number in counts.items()},
        "done": operation.targets - counts[TargetState.QUEUED],
        "can_cancel": operation.state is OperationState.QUEUED,
        "rows": found[:ROWS],
        "names": {str(k): one.facts.title for k, one in known.items() if one is not None},
        "is_resync": is_resync,
        "outcomes": {
            str(one.connection_id): find_held_outcome(known[one.connection_id], one.finished_at)
            for one in found[:ROWS]
            if is_resync and one.state is TargetState.DONE
        },
        "next_key": found[ROWS - 1].connection_id if len(found) > ROWS else None,
    }
    return View("operation.html", f"Operation {operation.id}", values)


def _read_one(
    visit: Visit, number: int
) -> tuple[Operation, Mapping[TargetState, int], list[Target]]:
    query: TargetListQuery = visit.query
    state = query.state[0] if query.state else None
    with visit.context.database.open_transaction() as db:
        set_statement_timeout(db)
        operation = get_operation(db, number)
        targets = list_targets(db, number, after=query.after, limit=ROWS + 1, state=state)
        return operation, count_targets(db, number), targets


def cancel_waiting(visit: Visit) -> Redirect:
    """Cancel an operation that no process has begun. Raises NotFound, StateConflict."""
    operation = cancel_operation(visit.context.database, visit.actor, visit.ids["operation_id"])
    visit.context.forget()
    return Redirect(f"/operations/{operation.id}")
