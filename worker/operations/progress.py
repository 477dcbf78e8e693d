"""What an operation waits for, and when it moves, in one sentence. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from models.operation import Action, OperationState, TargetState
from models.run import RunTrigger
from worker.conditions.facts import ServiceFacts
from worker.core.time_text import render_age, render_count, render_moment
from worker.store.state.operations import Operation

QUEUE: Final = RunTrigger.MANUAL.value
"""Of the workers that serve what a person asked for."""


def describe_progress(
    operation: Operation, counts: Mapping[TargetState, int], service: ServiceFacts
) -> str:
    """Return how far an operation is; one that is not finished says what it waits for."""
    is_requested = operation.action is Action.RESYNC and counts[TargetState.DONE]
    if is_requested and operation.finished_at is not None:
        return _describe_requested(operation.finished_at, counts, service)
    done = f"{operation.targets - counts[TargetState.QUEUED]:,} of "
    done += f"{render_count(operation.targets, 'connection')} done"
    if operation.finished_at is not None:
        if operation.state is OperationState.CANCELLED:
            return f"{operation.error} at {render_moment(operation.finished_at, service.now)}"
        failed = counts[TargetState.FAILED]
        ending = f", {failed:,} of them failed" if failed else ""
        return f"finished at {render_moment(operation.finished_at, service.now)}: {done}{ending}"
    return f"{_describe_state(operation, done)}; {describe_wait(operation.state, service)}"


def _describe_requested(
    at: datetime, counts: Mapping[TargetState, int], service: ServiceFacts
) -> str:
    """Return that a resync is recorded, which is before anything is read."""
    requested, failed = counts[TargetState.DONE], counts[TargetState.FAILED]
    ending = f"; it failed for {failed:,}" if failed else ""
    return (
        f"requested at {render_moment(at, service.now)} for "
        f"{render_count(requested, 'connection')}{ending}; the next run of each tells "
        "the rest"
    )


def _describe_state(operation: Operation, done: str) -> str:
    return "queued" if operation.state is OperationState.QUEUED else f"running, {done}"


def describe_wait(state: OperationState, service: ServiceFacts) -> str:
    """Return what an unfinished operation waits for."""
    if QUEUE in service.unserved_queues:
        return f"it waits until a worker serves the queue '{QUEUE}', which none does now"
    if state is OperationState.RUNNING:
        return "a worker carries it out; if that ends early, another one goes on"
    if not service.is_dispatcher_alive:
        age = service.tick_age
        last = f"sent its last tick {render_age(age)} ago" if age is not None else "never ran"
        return f"it waits for the dispatcher, which {last}"
    return f"the next tick, within {service.tick_seconds:g} s, sends it to a worker"
