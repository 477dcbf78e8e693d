"""Every metric: its name, kind, text and labels.

Labels have few values: the operator's names of sinks, and our own words. No connection, tenant or
person is named, except in what is exported for each connection, if that was asked for.
"""

from typing import Final

from models.change_event import ChangeKind
from models.counter import CallLane, CounterName, ThrottleOrigin, WaitReason
from models.resources import RESOURCES
from models.run import RunState, RunTrigger

METRIC_PREFIX: Final = "tenant_mirror"
_ENDED_STATES: Final = tuple(one for one in RunState if one is not RunState.RUNNING)
OVERDUE_SECONDS: Final = 300
RECENT_SECONDS: Final = 3600

AGE_BOUNDS: Final = (60, 300, 900, 3600, 21600, 86400)
"""Upper bounds in seconds of the ages by which connections are counted."""

GAUGES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "up": ("1 if the database could be read; if 0, no other metric is exported", ()),
    "dispatcher_tick_age_seconds": ("since the dispatcher last looked at what is due", ()),
    "halted": ("1 while nothing is sent: wrong configuration, or Nango does not work", ()),
    "nango_outage_seconds": ("since Nango stopped working for everybody, 0 while it works", ()),
    "connections": ("connections, by status", ("status",)),
    "connections_missing": ("missing from Nango's list, and held instead of retired", ()),
    "connections_overdue": (f"due for over {OVERDUE_SECONDS} s without a finished slice", ()),
    "connections_failing": ("connections in use whose last ended run failed", ()),
    "streams": (
        "streams of connections that are not retired; not_licensed: the tenant lacks the licence",
        ("resource", "phase"),
    ),
    "oldest_freshness_seconds": ("age of the oldest rows of any connection in use", ("resource",)),
    "streams_late": (
        "connections in use whose rows are older than allowed; none without a licence for it",
        ("resource",),
    ),
    "streams_never_fresh": (
        "connections in use that never read it as a whole; none without a licence for it",
        ("resource",),
    ),
    "workers": ("workers that consume the queue now", ("queue",)),
    "recent_runs": ("runs that began in the last hour, by state", ("state",)),
    "connections_by_age": (
        "connections in use whose rows were read within so many seconds; +Inf: all",
        ("resource", "within"),
    ),
    "connections_late": ("connections in use with any resource older than allowed", ()),
    "quarantined_objects": ("malformed objects that are kept apart", ("resource",)),
    "unresolved_parts": ("parts that Graph does not answer for, kept as stored", ("resource",)),
    "inexact_objects": ("objects with values that cannot be stored as sent", ("resource",)),
    "held_deletions": ("deletions that wait for an operator", ("resource",)),
    "nango_budget_calls": ("calls that Nango grants in this minute, where known", ()),
    "nango_budget_calls_left": ("how many of them are left", ()),
    "event_partitions_overdue": ("months of events past their days that are still there", ()),
    "events_outside_partitions": ("1 if events lie in the default partition", ()),
    "sink_status": ("1 for the status that a sink has", ("sink", "status")),
    "sink_served": ("1 if a relay serves the sink", ("sink",)),
    "sink_waiting_events": ("events that the sink has not had", ("sink",)),
    "sink_lag_seconds": ("age of the oldest of them, 0 if there is none", ("sink",)),
    "sink_failures": ("deliveries that failed in a row", ("sink",)),
    "sink_refused_connections": ("connections whose next event is refused", ("sink",)),
    "sink_kept_events": ("events past their days that are kept for the sink", ("sink",)),
    "sink_lost_events": ("events that were dropped before the sink had them", ("sink",)),
}
CONNECTION_GAUGES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "connection_info": ("1 for each connection in use", ("connection", "organization", "status")),
    "connection_age_seconds": ("age of the rows of the connection", ("connection", "resource")),
    "connection_condition": (
        "1 for each condition of the connection",
        ("connection", "code", "severity"),
    ),
}
"""Exported on request only: their series grow with the number of connections."""
COUNTERS: Final[dict[CounterName, tuple[str, tuple[tuple[str, tuple[str, ...]], ...]]]] = {
    CounterName.NANGO_CALLS: ("calls sent to Nango, by lane", (("lane", tuple(CallLane)),)),
    CounterName.CALL_WAIT_SECONDS: (
        "seconds that calls waited before they were sent",
        (("reason", tuple(WaitReason)),),
    ),
    CounterName.THROTTLED_RESPONSES: (
        "answers with status 429, by who gave them",
        (("origin", tuple(ThrottleOrigin)),),
    ),
    CounterName.ROWS: (
        "changed rows, each with its event",
        (("resource", tuple(RESOURCES)), ("change", tuple(ChangeKind))),
    ),
    CounterName.RUNS: (
        "runs that ended",
        (("state", _ENDED_STATES), ("trigger", tuple(RunTrigger))),
    ),
    CounterName.LEASE_LOSSES: ("slices that ended as another process had their lease", ()),
    CounterName.FENCED_WRITES: ("writes refused as another process had the lease", ()),
}
"""Counters that the database keeps, and the values of their labels."""

HISTOGRAMS: Final = {"run_seconds": ("duration of runs that ended", ("trigger",))}

METRICS: Final = {
    f"{METRIC_PREFIX}_{name}": labels
    for name, labels in (
        *((name, labels) for name, (_, labels) in GAUGES.items()),
        *((f"{name}_total", tuple(key for key, _ in of)) for name, (_, of) in COUNTERS.items()),
        *((name, labels) for name, (_, labels) in HISTOGRAMS.items()),
    )
}
"""Every metric, and its labels."""
