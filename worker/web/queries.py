"""What the lists of the API can be asked for: one struct for each query."""

from datetime import datetime
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from models.audit import AuditAction
from models.change_event import ChangeKind, ConnectionChange
from models.connection import ConnectionStatus
from models.event_type import CONNECTION_RESOURCE
from models.operation import OperationState, TargetState
from models.resources import RESOURCES
from models.run import RunState
from worker.conditions.condition import Code
from worker.overview.listing import Sort

MAX_ROWS: Final = 200
_Given = TypeVar("_Given")
_MAX_ID: Final = 2**63 - 1

_SORTS: Final = (
    "`id`: rising; `name`: from A to Z; `age`: what was never loaded, then the oldest data first; "
    "`severity`: the most severe first; `run`: the last run that ended first; `rows`: the most "
    "rows in the last run first; `next`: due soonest first; the id decides between equal ones"
)

Limit = Annotated[int, Meta(ge=1, le=MAX_ROWS, description="rows on one page")]
AfterId = Annotated[int, Meta(ge=1, le=_MAX_ID, description="`next` of the page before")]
ConnectionId = Annotated[int, Meta(ge=1, le=_MAX_ID)]
Moment = Annotated[datetime, Meta(tz=True)]
SearchText = Annotated[str, Meta(max_length=100)]
KnownResource = Annotated[str, Meta(max_length=60, extra_json_schema={"enum": [*RESOURCES]})]
ResourceName = Annotated[
    str, Meta(max_length=60, extra_json_schema={"enum": [*RESOURCES, CONNECTION_RESOURCE]})
]
ChangeName = Annotated[
    str, Meta(max_length=60, extra_json_schema={"enum": [*ChangeKind, *ConnectionChange]})
]


def get_given(value: _Given | UnsetType) -> _Given | None:
    """Return the value of a parameter; None if it was left out."""
    return None if isinstance(value, UnsetType) else value


class ConnectionsQuery(msgspec.Struct, frozen=True):
    """Which connections, in which order."""

    condition: Annotated[
        list[Code], Meta(max_length=25, description="only with one of these conditions")
    ] = []
    status: Annotated[
        list[ConnectionStatus], Meta(max_length=5, description="only with one of these statuses")
    ] = []
    text: Annotated[
        SearchText,
        Meta(description="only with this in the name, Nango's id, tenant id or a domain, or as id"),
    ] = ""
    attention: Annotated[bool, Meta(description="only what needs attention")] = False
    sort: Annotated[
        Sort,
        Meta(description=_SORTS),
    ] = Sort.ID
    after: Annotated[str, Meta(max_length=3000, description="`next` of the page before")] = ""
    limit: Limit = 50


class RunsQuery(msgspec.Struct, frozen=True):
    """Which runs of a connection, newest first."""

    state: Annotated[RunState | UnsetType, Meta(description="only in this state")] = UNSET
    after: AfterId | UnsetType = UNSET
    limit: Limit = 50


class ChangesQuery(msgspec.Struct, frozen=True):
    """Which changes of a connection, newest first."""

    since: Annotated[
        Moment | UnsetType,
        Meta(description="not before this time; without it, a day ago"),
    ] = UNSET
    until: Annotated[Moment | UnsetType, Meta(description="before this time")] = UNSET
    resource: Annotated[list[ResourceName], Meta(max_length=20, description="only of these")] = []
    change: Annotated[list[ChangeName], Meta(max_length=20, description="only of these kinds")] = []
    initial: Annotated[bool, Meta(description="with the events of first loads")] = False
    after: AfterId | UnsetType = UNSET
    limit: Limit = 50


class HeldQuery(msgspec.Struct, frozen=True):
    """Of which resource the held deletions are listed, by key."""

    resource: Annotated[
        KnownResource | UnsetType, Meta(description="list those of this resource")
    ] = UNSET
    after: Annotated[
        str, Meta(max_length=300, pattern="^[!-~]*$", description="`next` of the page before")
    ] = ""
    limit: Limit = 50


class OperationsQuery(msgspec.Struct, frozen=True):
    """Which operations, newest first."""

    state: Annotated[
        list[OperationState], Meta(max_length=6, description="only in one of these states")
    ] = []
    connection: Annotated[
        ConnectionId | UnsetType, Meta(description="only those that this connection is part of")
    ] = UNSET
    after: AfterId | UnsetType = UNSET
    limit: Limit = 50


class OperationQuery(msgspec.Struct, frozen=True):
    """Which connections of an operation, by id."""

    state: Annotated[TargetState | UnsetType, Meta(description="only in this state")] = UNSET
    after: AfterId | UnsetType = UNSET
    limit: Limit = 50


class AuditQuery(msgspec.Struct, frozen=True):
    """Which entries of the audit, newest first."""

    connection: Annotated[
        ConnectionId | UnsetType, Meta(description="only about this connection")
    ] = UNSET
    actor: Annotated[SearchText | UnsetType, Meta(description="only by this name")] = UNSET
    action: Annotated[
        list[AuditAction], Meta(max_length=30, description="only of these actions")
    ] = []
    after: AfterId | UnsetType = UNSET
    limit: Limit = 50
