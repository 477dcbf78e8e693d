"""What the API answers about actions: operations, prices and held deletions."""

from datetime import datetime
from typing import Any

import msgspec

from models.audit import Via
from models.operation import Action, OperationState, TargetState


class OperationAnswer(msgspec.Struct, frozen=True):
    """An action that was asked for. The workers carry it out."""

    id: int
    action: Action
    state: OperationState
    parameters: dict[str, Any]
    actor: str
    via: Via
    request_id: str | None
    targets: int
    """Connections that it is applied to."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None


class TargetAnswer(msgspec.Struct, frozen=True):
    """A connection of an operation, and what became of it."""

    connection_id: int
    state: TargetState
    detail: str | None
    result: dict[str, Any] | None
    finished_at: datetime | None


class OperationDetailsAnswer(msgspec.Struct, frozen=True):
    """An operation with its connections, by id."""

    operation: OperationAnswer
    counts: dict[TargetState, int]
    connections: list[TargetAnswer]
    next: int | None
    """Pass it as ``after``; null on the last page."""


class PriceAnswer(msgspec.Struct, frozen=True):
    """What a bulk action would do; repeat ``connections`` as ``expected_count``."""

    connections: int
    calls: int
    """Calls to Nango, about."""
    minutes: float | None
    """What they take at Nango's budget, if nothing else uses it; null if it is not known."""


class HeldSetAnswer(msgspec.Struct, frozen=True):
    """Held deletions of one resource; repeat count and digest to approve them."""

    resource: str
    count: int
    digest: str
    since: datetime | None


class HeldObjectAnswer(msgspec.Struct, frozen=True):
    """A held deletion."""

    key: str
    name: str | None
    reason: str
    noted_at: datetime


class HeldAnswer(msgspec.Struct, frozen=True):
    """Deletions that wait for an operator, and those of one resource in full."""

    resources: list[HeldSetAnswer]
    objects: list[HeldObjectAnswer]
    next: str | None
    """Pass it as ``after``; null on the last page."""
