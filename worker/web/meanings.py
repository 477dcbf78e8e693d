"""What each value of an enumeration in the document means."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from models.audit import AuditOutcome, Via
from models.connection import ConnectionStatus
from models.operation import Action, OperationState, TargetState
from models.run import RunState, RunTrigger
from worker.conditions.activity import ActivityState
from worker.conditions.condition import Code, Severity
from worker.operations.outcome import OperationOutcome
from worker.overview.listing import Sort
from worker.web.answers import Word

MEANINGS: Final[Mapping[type[StrEnum], tuple[str, Mapping[str, str]]]] = {
    Word: (
        "A status in one word",
        {
            "alive": "this process answers",
            "ready": "it can serve",
            "unready": "it cannot reach its database, or that has another schema",
            "well": "it works",
            "unwell": "it does not work",
        },
    ),
    Severity: (
        "How urgent a condition is, from the least to the most severe",
        {
            "info": "worth knowing; nothing has to be done",
            "warning": "a person should look at it",
            "error": "data is not synced or delivered until a person acts",
            "critical": "the whole service is affected",
        },
    ),
    Code: (
        "What can be wrong; each has a section in docs/operations.md",
        {
            "token_refused": "Microsoft refuses the customer's token",
            "other_tenant": "it was authorized to another tenant than before",
            "refused_by_nango": "Nango lacks the connection or its integration",
            "duplicate": "another connection mirrors the same tenant",
            "paused_by_operator": "an operator paused it",
            "paused_in_nango": "its metadata in Nango disables it",
            "settings_wrong": "its settings in Nango cannot be used",
            "permission_missing": "a permission, or as information a licence, is missing for a "
            "resource",
            "held_deletions": "deletions wait for an operator",
            "never_loaded": "a resource was never loaded",
            "late": "a resource is older than its schedule allows",
            "throttled_by_graph": "Graph asked to send nothing for a while",
            "sync_failing": "a run failed, or a resource waits after an error",
            "quarantine": "objects are malformed, or Graph does not answer for them",
            "drift_high": "a full walk found many changes that the deltas had missed",
            "halted": "all calls to Nango are stopped",
            "nango_silent": "Nango does not answer",
            "waiting_for_budget": "Nango's budget of calls is used up",
            "dispatcher_silent": "no tick sends work, or not all that is due",
            "workers_silent": "no worker reports",
            "server_unusable": "Postgres or Redis is away, or has no room",
            "clock_off": "the clock of a host is wrong",
            "relay_missing": "no process delivers events",
            "sink_failing": "a sink does not accept events",
            "events_lost": "events were dropped, or soon are, before a sink received them",
        },
    ),
    ActivityState: (
        "What a connection does at present; its last outcome is another matter",
        {
            "running": "a process syncs it",
            "scheduled": "nothing is due yet",
            "due": "one of the next ticks sends it",
            "waiting_for_worker": "its message is sent, and no process has begun",
            "waiting_for_slot": "its first load waits until another one ends",
            "waiting_for_budget": "it waits for Nango's budget of calls",
            "throttled": "Graph asked to send nothing",
            "retrying": "it waits after a failure",
            "suspended": "something that concerns all connections holds it up",
            "paused": "an operator or its metadata paused it",
            "stopped": "it is not synced: retired, or a duplicate",
        },
    ),
    ConnectionStatus: (
        "Whether a connection is synced",
        {
            "active": "it is",
            "paused": "its settings in Nango disable it",
            "broken": "it needs an operator: revoked, or authorized to another tenant",
            "duplicate": "another live connection mirrors this tenant",
            "retired": "no longer in Nango; its rows are kept until an operator forgets it",
        },
    ),
    RunState: (
        "How a run goes or ended",
        {
            "running": "it has not ended",
            "succeeded": "everything was read",
            "partial": "something is missing: a refused resource, an object, or a waiting stream",
            "held": "a deletion waits for an operator",
            "failed": "it ended with an error",
        },
    ),
    RunTrigger: (
        "Why a run started; also the queue of its slices",
        {
            "manual": "a person asked for it",
            "scheduled": "it was due",
            "backfill": "it is a first load",
        },
    ),
    Action: (
        "What an operator can ask for",
        {
            "resync": "sync it now",
            "pause": "do not sync it until a resume or a time",
            "resume": "end a pause of an operator",
            "approve": "apply held deletions",
            "reject": "discard held deletions, and read everything again",
        },
    ),
    OperationState: (
        "How far an operation is",
        {
            "queued": "no worker has begun",
            "running": "a worker carries it out",
            "succeeded": "it is done for all its connections; a resync is recorded, and its runs "
            "tell the rest",
            "partial": "it failed for some of its connections",
            "failed": "it failed for all of them",
            "cancelled": "an operator cancelled it before a process began",
        },
    ),
    OperationOutcome: (
        "What an operation that has ended came to",
        {
            "requested": "a resync is recorded; `sync` of each connection tells what follows",
            "done": "it is done for all its connections",
            "partial": "it failed for some of its connections",
            "failed": "it failed for all of them",
            "cancelled": "an operator cancelled it before a process began",
        },
    ),
    TargetState: (
        "How far an operation is with one connection",
        {
            "queued": "not done yet",
            "done": "done",
            "failed": "it failed; `detail` says why",
            "cancelled": "an operator cancelled the operation before it was done",
        },
    ),
    Via: (
        "How an action came",
        {
            "cli": "by the command line",
            "api": "by this API",
            "page": "by the operators' page",
            "service": "from the service itself, as the end of a pause",
        },
    ),
    AuditOutcome: (
        "What became of an action",
        {
            "accepted": "it was queued or has begun; its outcome has an entry of its own",
            "done": "it was done; a resync was requested",
            "refused": "it was not allowed",
            "failed": "it ended with an error",
        },
    ),
    Sort: (
        "The order of a list; the id decides between equal ones",
        {
            "id": "rising",
            "name": "from A to Z",
            "age": "what was never loaded, then the oldest data first",
            "severity": "the most severe first",
            "run": "the last run that ended first",
            "rows": "the most rows in the last run first",
            "next": "due soonest first",
        },
    ),
}


def describe_values() -> dict[str, str]:
    """Return the description of each enumeration, with what its values mean."""
    return {
        kind.__name__: f"{about}. "
        + "; ".join(f"`{member.value}`: {meanings[member.value]}" for member in kind)
        + "."
        for kind, (about, meanings) in MEANINGS.items()
    }
