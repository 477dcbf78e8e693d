"""What the API answers about actions: operations, prices and held deletions."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from models.audit import Via
from models.connection import ConnectionStatus
from models.operation import Action, OperationState, TargetState
from models.run import RunState
from worker.operations.outcome import OperationOutcome
from worker.web.answers import Moment


class OperationAnswer(msgspec.Struct, frozen=True):
    """An action that was asked for. The workers carry it out."""

    id: Annotated[int, Meta(description="number of the operation")]
    action: Annotated[Action, Meta(description="what was asked for")]
    state: Annotated[
        OperationState,
        Meta(description="how far it is; a resync has `succeeded` once it is recorded"),
    ]
    outcome: Annotated[
        OperationOutcome | None,
        Meta(description="what it came to; `requested` for a resync; null before its end"),
    ]
    parameters: Annotated[
        dict[str, Any], Meta(description="what it was asked with, and the filter of a bulk action")
    ]
    actor: Annotated[str, Meta(description="who asked for it: name of a token or a user")]
    via: Annotated[Via, Meta(description="how it came")]
    request_id: Annotated[
        str | None,
        Meta(description="`X-Request-Id` of the request; null if it did not come by HTTP"),
    ]
    targets: Annotated[int, Meta(description="connections that it is applied to")]
    created_at: Annotated[Moment, Meta(description="when it was asked for")]
    started_at: Annotated[Moment | None, Meta(description="when a worker began; null before that")]
    finished_at: Annotated[
        Moment | None, Meta(description="when the last connection was done; null before that")
    ]
    error: Annotated[
        str | None, Meta(description="why it failed, in plain words; null if it did not")
    ]


class ResyncAnswer(msgspec.Struct, frozen=True):
    """The sync that a resync led to, as far as it has come."""

    is_over: Annotated[bool, Meta(description="whether a run has served the request")]
    run_id: Annotated[
        int | None, Meta(description="the latest run since then; null if none has run since")
    ]
    run_state: Annotated[RunState | None, Meta(description="how that run ended, or that it runs")]
    at: Annotated[
        Moment | None, Meta(description="when that run ended, or began if it is under way")
    ]
    waits: Annotated[
        str | None, Meta(description="what the connection waits for; null if it is over or runs")
    ]
    next_at: Annotated[
        Moment | None, Meta(description="when the connection moves next; null if not known")
    ]


class TargetAnswer(msgspec.Struct, frozen=True):
    """A connection of an operation, and what became of it."""

    connection_id: Annotated[int, Meta(description="number of the connection")]
    state: Annotated[TargetState, Meta(description="whether it is done")]
    detail: Annotated[
        str | None,
        Meta(description="what was done, or why it failed, in plain words; null before that"),
    ]
    result: Annotated[
        dict[str, Any] | None, Meta(description="counts, for programs; null if there are none")
    ]
    finished_at: Annotated[Moment | None, Meta(description="when it was done; null before that")]
    sync: Annotated[
        ResyncAnswer | None,
        Meta(description="what a resync that is done led to; null for other actions"),
    ] = None


class OperationListAnswer(msgspec.Struct, frozen=True):
    """Operations, newest first."""

    operations: Annotated[
        list[OperationAnswer], Meta(description="rows of this page, newest first")
    ]
    next: Annotated[int | None, Meta(description="pass it as `after`; null on the last page")]


class OperationDetailsAnswer(msgspec.Struct, frozen=True):
    """An operation with its connections, by id."""

    operation: Annotated[OperationAnswer, Meta(description="the operation")]
    sentence: Annotated[
        str, Meta(description="how far it is, what it waits for, and when it moves next")
    ]
    counts: Annotated[
        dict[TargetState, int], Meta(description="number of its connections by state")
    ]
    connections: Annotated[list[TargetAnswer], Meta(description="rows of this page, by id")]
    next: Annotated[int | None, Meta(description="pass it as `after`; null on the last page")]


class PriceAnswer(msgspec.Struct, frozen=True):
    """What a bulk action would do; repeat ``connections`` as ``expected_count``."""

    connections: Annotated[
        int, Meta(description="how many it would act on; repeat it as `expected_count`")
    ]
    left_out: Annotated[
        dict[ConnectionStatus, int],
        Meta(description="those that match, but that the action cannot concern, by their status"),
    ]
    calls: Annotated[int, Meta(description="calls to Nango, about")]
    minutes: Annotated[
        float | None,
        Meta(
            description="what they take at Nango's budget, used for nothing else; null if not known"
        ),
    ]
    note: Annotated[
        str | None,
        Meta(description="what the estimate lacks, in a sentence; null if it lacks nothing"),
    ]


class HeldSetAnswer(msgspec.Struct, frozen=True):
    """Held deletions of one resource; repeat count and digest to approve them."""

    resource: Annotated[str, Meta(description="name of the resource")]
    count: Annotated[int, Meta(description="held deletions; repeat it to decide")]
    digest: Annotated[str, Meta(description="digest of their keys; repeat it to decide")]
    since: Annotated[Moment | None, Meta(description="when the oldest was noted")]


class HeldObjectAnswer(msgspec.Struct, frozen=True):
    """A held deletion."""

    key: Annotated[str, Meta(description="key of the object")]
    name: Annotated[str | None, Meta(description="what people call it; null if it is not known")]
    reason: Annotated[str, Meta(description="why it looked deleted")]
    noted_at: Annotated[Moment, Meta(description="when that was noted")]


class HeldAnswer(msgspec.Struct, frozen=True):
    """Deletions that wait for an operator, and those of one resource in full."""

    resources: Annotated[list[HeldSetAnswer], Meta(description="numbers and digests by resource")]
    objects: Annotated[
        list[HeldObjectAnswer],
        Meta(description="rows of this page, by key; empty without `resource`"),
    ]
    next: Annotated[str | None, Meta(description="pass it as `after`; null on the last page")]
