"""What the API answers about runs, changes and the audit: one struct for each body."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from models.audit import AuditOutcome, Via
from models.run import RunState, RunTrigger
from worker.web.answers import Moment


class RunAnswer(msgspec.Struct, frozen=True):
    """One attempt to sync a connection."""

    id: Annotated[int, Meta(description="number of the run")]
    connection_id: Annotated[int, Meta(description="connection that it synced")]
    trigger: Annotated[RunTrigger, Meta(description="why it started")]
    state: Annotated[RunState, Meta(description="how it goes or ended")]
    started_at: Annotated[Moment, Meta(description="when it began")]
    finished_at: Annotated[Moment | None, Meta(description="when it ended; null while it runs")]
    slices: Annotated[int, Meta(description="pieces that workers did it in")]
    calls: Annotated[int, Meta(description="calls to Nango")]
    pages: Annotated[int, Meta(description="pages of Graph that were read")]
    objects: Annotated[int, Meta(description="objects that were read")]
    created: Annotated[int, Meta(description="rows that are new")]
    updated: Annotated[int, Meta(description="rows that changed")]
    deleted: Annotated[int, Meta(description="rows that were deleted")]
    restored: Annotated[int, Meta(description="deleted rows that came back")]
    rejected: Annotated[int, Meta(description="objects that could not be stored")]
    error: Annotated[
        str | None, Meta(description="why it failed, in plain words; null if it did not")
    ]
    resources: Annotated[dict[str, Any] | None, Meta(description="what became of each resource")]


class RunListAnswer(msgspec.Struct, frozen=True):
    """Runs of a connection, newest first."""

    runs: Annotated[list[RunAnswer], Meta(description="rows of this page, newest first")]
    next: Annotated[int | None, Meta(description="pass it as `after`; null on the last page")]


class ChangeCountAnswer(msgspec.Struct, frozen=True):
    """How often a resource changed in one way."""

    resource: Annotated[str, Meta(description="what changed")]
    change: Annotated[str, Meta(description="in which way")]
    number: Annotated[int, Meta(description="how often")]


class ChangeAnswer(msgspec.Struct, frozen=True):
    """A change of an object, without its values; the event has those."""

    seq: Annotated[int, Meta(description="number of the event within its connection")]
    occurred_at: Annotated[Moment, Meta(description="when the change was stored")]
    event_id: Annotated[str, Meta(description="id of the event, as sinks get it")]
    resource: Annotated[str, Meta(description="what changed")]
    object_id: Annotated[str, Meta(description="id of the object in Graph")]
    object: Annotated[
        str, Meta(description="what people call it, where that is known; else its id")
    ]
    change: Annotated[str, Meta(description="in which way it changed")]
    changed: Annotated[
        list[str] | None,
        Meta(description="names of the changed columns; null where that does not apply"),
    ]
    initial: Annotated[bool, Meta(description="whether it belongs to a first load")]


class ChangeListAnswer(msgspec.Struct, frozen=True):
    """Changes of a connection, newest first, and counts of all in that time."""

    since: Annotated[Moment, Meta(description="beginning of the time that is listed")]
    until: Annotated[Moment | None, Meta(description="end of that time; null: now")]
    counts: Annotated[
        list[ChangeCountAnswer], Meta(description="numbers of all changes in that time")
    ]
    changes: Annotated[list[ChangeAnswer], Meta(description="rows of this page, newest first")]
    next: Annotated[int | None, Meta(description="pass it as `after`; null on the last page")]


class AuditEntryAnswer(msgspec.Struct, frozen=True):
    """Who did what."""

    id: Annotated[int, Meta(description="number of the entry")]
    occurred_at: Annotated[Moment, Meta(description="when it was written")]
    actor: Annotated[str, Meta(description="who did it: name of a token or a user")]
    via: Annotated[Via, Meta(description="how it came")]
    action: Annotated[str, Meta(description="what was asked for")]
    connection_id: Annotated[
        int | None, Meta(description="connection that it is about; null if it is none or several")
    ]
    subject: Annotated[str | None, Meta(description="what else it is about")]
    parameters: Annotated[dict[str, Any], Meta(description="what the action was asked with")]
    outcome: Annotated[AuditOutcome, Meta(description="what became of it")]
    detail: Annotated[str | None, Meta(description="what was done, or why not, in plain words")]
    operation_id: Annotated[
        int | None, Meta(description="operation that it belongs to; null if it is none")
    ]
    request_id: Annotated[
        str | None,
        Meta(description="`X-Request-Id` of the request; null if it did not come by HTTP"),
    ]


class AuditAnswer(msgspec.Struct, frozen=True):
    """Entries of the audit, newest first."""

    entries: Annotated[list[AuditEntryAnswer], Meta(description="rows of this page, newest first")]
    next: Annotated[int | None, Meta(description="pass it as `after`; null on the last page")]
