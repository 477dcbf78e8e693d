"""What an operation waits for, and when it moves, in one sentence. Pure."""

from collections.abc import Mapping
from typing import Final

from models.operation import OperationState, TargetState
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
    done = f"{operation.targets - counts[TargetState.QUEUED]:,} of "
    done += f"{render_count(operation.targets, 'connection')} done"
    if operation.finished_at is not None:
        if operation.state is OperationState.CANCELLED:
            return f"{operation.error} at {render_moment(operation.finished_at, service.now)}"
        failed = counts[TargetState.FAILED]
        ending = f", {failed:,} of them failed" if failed else ""
        return f"finished at {render_moment(operation.finished_at, service.now)}: {done}{ending}"
    return f"{_describe_state(operation, done)}; {describe_wait(operation.state, service)}"


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
