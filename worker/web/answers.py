"""What the API answers with: one struct for each body."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from models.connection import ConnectionStatus
from models.run import RunState
from worker.conditions.activity import Activity
from worker.conditions.condition import Code, Severity

Moment = Annotated[datetime, Meta(tz=True)]
"""A time with its offset from UTC."""


class Word(StrEnum):
    """A status in one word."""

    ALIVE = "alive"
    READY = "ready"
    UNREADY = "unready"
    WELL = "well"
    UNWELL = "unwell"


class LiveAnswer(msgspec.Struct, frozen=True):
    """This process answers requests."""

    status: Annotated[Word, Meta(description="always `alive`")]


class SchemaDetails(msgspec.Struct, frozen=True):
    """What this release needs of the database, and what was found."""

    found_schema: Annotated[
        str | None, Meta(description="revision that the database has; null if it has none")
    ]
    needed_schema: Annotated[str, Meta(description="revision that this release needs")]


class ReadyAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether this process can serve: it reaches the database, at the schema that it needs."""

    status: Annotated[Word, Meta(description="`ready` or `unready`")]
    details: Annotated[
        SchemaDetails | None, Meta(description="only with a token of the scope `read`")
    ] = None


class ConditionAnswer(msgspec.Struct, frozen=True):
    """One thing that is wrong or worth knowing."""

    code: Annotated[Code, Meta(description="what is wrong")]
    severity: Annotated[Severity, Meta(description="how urgent it is")]
    subject: Annotated[
        str, Meta(description="what it is about: a customer's name, a sink, a part of the service")
    ]
    sentence: Annotated[str, Meta(description="the facts, to follow the subject")]
    remedy: Annotated[str, Meta(description="what to do next, with the command")]
    anchor: Annotated[
        str, Meta(description="section of the documentation with causes and remedies")
    ]
    since: Annotated[Moment | None, Meta(description="when it began; null if that is not known")]
    connection_id: Annotated[
        int | None,
        Meta(description="connection that it is about; null for a condition of the service"),
    ]
    resource: Annotated[
        str | None, Meta(description="resource that it is about; null if it is none or several")
    ]
    affected: Annotated[
        int, Meta(description="of a condition of the service: connections that wait because of it")
    ]
    customer_text: Annotated[
        str | None,
        Meta(
            description="text to send to the customer, where only the customer can act; in its "
            "link, YOUR-CLIENT-ID stands for the integration's client id unless "
            "TENANT_MIRROR_CLIENT_IDS is set"
        ),
    ]


class HealthAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the service works as a whole."""

    status: Annotated[Word, Meta(description="`well` or `unwell`; unwell if one part is")]
    parts: Annotated[
        dict[str, Word], Meta(description="`well` or `unwell` for each part of the service")
    ]
    conditions: Annotated[
        list[ConditionAnswer] | None,
        Meta(description="conditions of the service; only with a token of the scope `read`"),
    ] = None


class BudgetAnswer(msgspec.Struct, frozen=True):
    """What is left of this minute's calls to Nango."""

    limit: Annotated[
        int | None, Meta(description="calls a minute that Nango allows; null if it has not said so")
    ]
    left: Annotated[int | None, Meta(description="calls left in this minute; null if not known")]
    resets_in_seconds: Annotated[
        float | None,
        Meta(description="seconds until the next minute of the budget; null if not known"),
    ]
    paused_for_seconds: Annotated[
        float, Meta(description="seconds for which Nango asked to send nothing; 0 if it did not")
    ]


class WorkerAnswer(msgspec.Struct, frozen=True):
    """A worker as it last reported."""

    name: Annotated[str, Meta(description="host and process")]
    queues: Annotated[list[str], Meta(description="queues that it serves")]
    seen_seconds_ago: Annotated[float, Meta(description="seconds since its last report")]
    is_alive: Annotated[bool, Meta(description="whether that report is recent enough")]


class FleetAnswer(msgspec.Struct, frozen=True):
    """The service, and how many connections are in which state."""

    as_of: Annotated[Moment, Meta(description="when this look was taken")]
    connections: Annotated[int, Meta(description="number of all connections, retired ones too")]
    attention: Annotated[
        int, Meta(description="connections that need attention for a reason of their own")
    ]
    statuses: Annotated[
        dict[ConnectionStatus, int], Meta(description="number of connections by status")
    ]
    conditions: Annotated[
        list[ConditionAnswer], Meta(description="conditions of the service, the most severe first")
    ]
    affected: Annotated[
        dict[Code, int],
        Meta(
            description="connections that wait, by the condition of the service that holds them up"
        ),
    ]
    budget: Annotated[
        BudgetAnswer | None, Meta(description="Nango's budget of calls; null if it is not known")
    ]
    workers: Annotated[list[WorkerAnswer], Meta(description="worker processes that reported")]


class FreshnessAnswer(msgspec.Struct, frozen=True):
    """How old one resource is."""

    resource: Annotated[str, Meta(description="name of the resource")]
    fresh_at: Annotated[
        Moment | None,
        Meta(description="when its last complete read began; null if it was never loaded"),
    ]
    interval_seconds: Annotated[
        float | None, Meta(description="how often it is read; null if it has no schedule")
    ]
    is_late: Annotated[bool, Meta(description="whether it is older than its schedule allows")]
    is_licensed: Annotated[
        bool,
        Meta(
            description="whether the tenant has the licence for it, as far as is known; without it,"
            " it is not read and never late"
        ),
    ]
    is_on: Annotated[
        bool,
        Meta(
            description="whether the settings let it be read; one that is off has no rows and is "
            "never late"
        ),
    ]


class OutcomeAnswer(msgspec.Struct, frozen=True):
    """How the last run that ended went; what happens now is the activity."""

    run_id: Annotated[int, Meta(description="number of the run")]
    state: Annotated[RunState, Meta(description="how it ended")]
    started_at: Annotated[Moment | None, Meta(description="when it began")]
    finished_at: Annotated[Moment | None, Meta(description="when it ended")]
    error: Annotated[
        str | None, Meta(description="why it failed, in plain words; null if it did not")
    ]


class PauseAnswer(msgspec.Struct, frozen=True):
    """A pause by an operator."""

    since: Annotated[Moment, Meta(description="when it was paused")]
    by: Annotated[str | None, Meta(description="who paused it")]
    reason: Annotated[str | None, Meta(description="why")]
    until: Annotated[
        Moment | None, Meta(description="when it ends by itself; null: by a resume only")
    ]


class ConnectionAnswer(msgspec.Struct, frozen=True):
    """A customer's connection."""

    id: Annotated[int, Meta(description="number of the connection in every route")]
    name: Annotated[str | None, Meta(description="its organization; null until the first call")]
    integration: Annotated[str, Meta(description="integration in Nango")]
    nango_id: Annotated[str, Meta(description="connection id in Nango")]
    tenant_id: Annotated[
        str | None, Meta(description="tenant in Microsoft Entra; null until it is known")
    ]
    status: Annotated[ConnectionStatus, Meta(description="whether it is synced")]
    status_reason: Annotated[
        str | None, Meta(description="why it has this status; null for an active one")
    ]
    created_at: Annotated[Moment, Meta(description="when it was first seen in Nango")]
    severity: Annotated[
        Severity | None, Meta(description="the highest of its conditions; null if it has none")
    ]
    needs_attention: Annotated[
        bool, Meta(description="whether one of its own conditions is above `info`")
    ]
    conditions: Annotated[
        list[ConditionAnswer], Meta(description="its own conditions, the most severe first")
    ]
    cause: Annotated[
        Code | None,
        Meta(description="condition of the service that holds it up; it is not one of its own"),
    ]
    activity: Annotated[
        Activity, Meta(description="what it does or waits for now, and when it moves next")
    ]
    outcome: Annotated[
        OutcomeAnswer | None,
        Meta(description="how its last run that ended went; null before the first"),
    ]
    pause: Annotated[
        PauseAnswer | None, Meta(description="its pause by an operator; null if it has none")
    ]
    age_seconds: Annotated[
        float | None, Meta(description="age of its oldest resource; null if one was never loaded")
    ]
    freshness: Annotated[list[FreshnessAnswer], Meta(description="how old each resource is")]
    open_operations: Annotated[
        list[int] | None,
        Meta(description="operations that still have to act on it; null in lists"),
    ]
    due_at: Annotated[
        Moment | None, Meta(description="when it is due next; null if it has no due time")
    ]
    events: Annotated[int, Meta(description="number of its newest change event")]


class ConnectionListAnswer(msgspec.Struct, frozen=True):
    """A page of connections, and counts of all that match."""

    as_of: Annotated[Moment, Meta(description="when this look at the fleet was taken")]
    connections: Annotated[list[ConnectionAnswer], Meta(description="rows of this page")]
    total: Annotated[int, Meta(description="all that match, on every page")]
    attention: Annotated[int, Meta(description="those of all that match that need attention")]
    statuses: Annotated[
        dict[ConnectionStatus, int], Meta(description="number of all that match, by status")
    ]
    conditions: Annotated[
        dict[Code, int], Meta(description="number of all that match, by condition")
    ]
    next: Annotated[str | None, Meta(description="pass it as `after`; null on the last page")]
