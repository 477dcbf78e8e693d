"""Handlers of actions, which submit operations, and of what became of them."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from models.audit import Via
from models.connection import ConnectionStatus
from models.operation import Action, TargetState
from models.resources import RESOURCES
from worker.operations.cancel import cancel_operation
from worker.operations.outcome import find_outcome
from worker.operations.price import price
from worker.operations.progress import describe_progress
from worker.operations.request import OperationRequest, parse_parameters
from worker.operations.selection import TargetSelection, select_targets
from worker.operations.submit import submit_or_record
from worker.overview.fleet import Fleet
from worker.overview.resync_outcome import find_resync_outcome
from worker.store.service.audit import Actor
from worker.store.state.connections import get_connection
from worker.store.state.metrics import set_statement_timeout
from worker.store.state.operations import (
    IdempotencyKey,
    Operation,
    Target,
    count_targets,
    get_operation,
    list_operations,
    list_targets,
)
from worker.store.sweep.held import list_held_objects, summarize_held
from worker.web.bodies import BulkPauseBody, BulkResumeBody, BulkResyncBody, FilterBody
from worker.web.call import Call
from worker.web.endpoint import Reply
from worker.web.fleet_routes import build_filter
from worker.web.operation_answers import (
    HeldAnswer,
    HeldObjectAnswer,
    HeldSetAnswer,
    OperationAnswer,
    OperationDetailsAnswer,
    OperationListAnswer,
    PriceAnswer,
    ResyncAnswer,
    TargetAnswer,
)
from worker.web.problem import FieldProblem, name_mistakes, refuse_values
from worker.web.queries import HeldQuery, OperationQuery, OperationsQuery, get_given

KEY_HEADER: Final = "idempotency-key"
_KEY: Final = re.compile(r"[!-~]{1,100}", re.ASCII)
_SELECTION: Final = ("filter", "dry_run", "expected_count")
"""Fields of a bulk body that are no parameters of the action."""

BulkBody = BulkResyncBody | BulkPauseBody | BulkResumeBody


def resync_connection(call: Call) -> Reply:
    return _act(call, Action.RESYNC)


def pause_connection(call: Call) -> Reply:
    return _act(call, Action.PAUSE)


def resume_connection(call: Call) -> Reply:
    return _act(call, Action.RESUME)


def approve_held_deletions(call: Call) -> Reply:
    return _act(call, Action.APPROVE)


def reject_held_deletions(call: Call) -> Reply:
    return _act(call, Action.REJECT)


def resync_many(call: Call) -> Reply:
    return _act_on_many(call, Action.RESYNC)


def pause_many(call: Call) -> Reply:
    return _act_on_many(call, Action.PAUSE)


def resume_many(call: Call) -> Reply:
    return _act_on_many(call, Action.RESUME)


def _act(call: Call, action: Action) -> Reply:
    parameters = parse_parameters(action, msgspec.to_builtins(call.body))
    request = OperationRequest(action, [call.ids["connection_id"]], parameters)
    return _submit(call, request, _parse_key(call))


def _act_on_many(call: Call, action: Action) -> Reply:
    """Submit an action on all that match, or say what it would cost. Raises RequestRefused."""
    body: BulkBody = call.body
    key = _parse_key(call)
    given = msgspec.to_builtins(body)
    parameters = parse_parameters(
        action, {name: value for name, value in given.items() if name not in _SELECTION}
    )
    ids, left_out = _select(call, action, body.filter)
    if body.dry_run:
        is_full = given.get("full", False)
        return Reply(_estimate(call, action, ids, left_out, is_full=is_full), status=200)
    if body.expected_count is None:
        raise refuse_values(
            FieldProblem("expected_count", "must be given; dry_run says which number that is")
        )
    request = OperationRequest(
        action, ids, parameters, expected_count=body.expected_count, chosen_by=given["filter"]
    )
    return _submit(call, request, key)


def _select(call: Call, action: Action, wanted: FilterBody) -> TargetSelection:
    """Return the connections that match now and that the action can concern, and the others."""
    call.context.fleet.invalidate()
    chosen = build_filter(
        wanted.conditions,
        wanted.statuses,
        wanted.text,
        is_attention=wanted.attention,
        ids=wanted.ids,
    )
    return select_targets(call.context.fleet.get_readable(), action, chosen)


def _estimate(
    call: Call,
    action: Action,
    ids: list[int],
    left_out: Mapping[ConnectionStatus, int],
    *,
    is_full: bool,
) -> PriceAnswer:
    if action is not Action.RESYNC or not ids:
        return PriceAnswer(len(ids), dict(left_out), 0, 0.0, None)
    budget = call.context.fleet.get_readable().service.shared.budget
    with call.context.database.open_transaction() as db:
        set_statement_timeout(db)
        found = price(db, ids, full=is_full, calls_per_minute=budget.limit if budget else None)
    return PriceAnswer(
        found.connections, dict(left_out), found.calls, found.minutes, found.describe_gaps()
    )


def _submit(call: Call, request: OperationRequest, key: IdempotencyKey | None) -> Reply:
    actor = _identify(call)
    # No message is sent from here: the next tick finds it, within two seconds.
    field = "until" if request.action is Action.PAUSE else "filter"
    with name_mistakes(field if request.connection_ids else "filter"):
        submitted = submit_or_record(
            call.context.database, actor, request, key=key, hold_seconds=0.0
        )
    call.context.forget()
    operation = submitted.operation
    return Reply(
        _build_operation(operation), headers={"Location": f"/api/operations/{operation.id}"}
    )


def _identify(call: Call) -> Actor:
    assert call.principal is not None, "the table gives no exemption to an action"
    return Actor(call.principal.name, Via.API, call.request_id)


def _parse_key(call: Call) -> IdempotencyKey | None:
    """Return the client's key, with a digest of the request. Raises RequestRefused."""
    key = call.headers.get(KEY_HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        form = "1 to 100 visible ASCII characters"
        raise refuse_values(FieldProblem("Idempotency-Key", f"must have {form}", form))
    request = (call.route, dict(call.ids), msgspec.to_builtins(call.body))
    digest = hashlib.sha256(msgspec.json.encode(request, order="sorted")).hexdigest()
    return IdempotencyKey(key, digest)


def get_one_operation(call: Call) -> Reply:
    """Return an operation with a page of its connections. Raises NotFound."""
    query: OperationQuery = call.query
    number = call.ids["operation_id"]
    with call.context.database.open_transaction() as db:
        set_statement_timeout(db)
        operation = get_operation(db, number)
        counts = count_targets(db, number)
        found = list_targets(
            db,
            number,
            after=get_given(query.after) or 0,
            limit=query.limit + 1,
            state=get_given(query.state),
        )
    fleet = call.context.fleet.get_readable()
    if operation.finished_at is not None and operation.finished_at > fleet.now:
        call.context.fleet.invalidate()  # who waited for it sees what it did
        fleet = call.context.fleet.get_readable()
    shown = [_build_target(operation, one, fleet) for one in found[: query.limit]]
    last = shown[-1].connection_id if len(found) > query.limit else None
    sentence = describe_progress(operation, counts, fleet.service)
    return Reply(OperationDetailsAnswer(_build_operation(operation), sentence, counts, shown, last))


def get_operations(call: Call) -> Reply:
    query: OperationsQuery = call.query
    with call.context.database.open_transaction() as db:
        set_statement_timeout(db)
        found = list_operations(
            db,
            before=get_given(query.after),
            limit=query.limit + 1,
            states=query.state,
            connection_id=get_given(query.connection),
        )
    shown = list(map(_build_operation, found[: query.limit]))
    return Reply(OperationListAnswer(shown, shown[-1].id if len(found) > query.limit else None))


def cancel_waiting_operation(call: Call) -> Reply:
    """Cancel an operation. Raises NotFound, StateConflict."""
    actor = _identify(call)
    operation = cancel_operation(call.context.database, actor, call.ids["operation_id"])
    call.context.forget()
    return Reply(_build_operation(operation))


def get_held(call: Call) -> Reply:
    """Return what is held of a connection, and the objects of one resource. Raises NotFound."""
    query: HeldQuery = call.query
    number = call.ids["connection_id"]
    resource = get_given(query.resource)
    objects: list[Any] = []
    with call.context.database.open_transaction() as db:
        set_statement_timeout(db)
        get_connection(db, number)
        held = summarize_held(db, number)
        if resource is not None:
            objects = list(
                list_held_objects(
                    db, number, RESOURCES[resource], after=query.after, limit=query.limit + 1
                )
            )
    shown = [HeldObjectAnswer(it.key, it.name, it.reason, it.noted_at) for it in objects]
    sets = [HeldSetAnswer(it.resource, it.count, it.digest, it.since) for it in held]
    is_last = len(shown) <= query.limit
    shown = shown[: query.limit]
    return Reply(HeldAnswer(sets, shown, None if is_last else shown[-1].key))


def _build_operation(operation: Operation) -> OperationAnswer:
    outcome = find_outcome(operation.action, operation.state)
    return msgspec.convert({**vars(operation), "outcome": outcome}, OperationAnswer)


def _build_target(operation: Operation, target: Target, fleet: Fleet) -> TargetAnswer:
    answer = msgspec.convert(target, TargetAnswer, from_attributes=True)
    if operation.action is not Action.RESYNC or target.state is not TargetState.DONE:
        return answer
    found = find_resync_outcome(fleet.by_id.get(target.connection_id), target.finished_at)
    if found is None:
        return answer
    return msgspec.structs.replace(answer, sync=ResyncAnswer(**found.to_json()))
