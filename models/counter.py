"""Table of cumulative counters, from which the counters of the metrics are read."""

from enum import StrEnum

from sqlalchemy import BigInteger, Column, Double, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY

from models.base import SYNC, metadata


class CounterName(StrEnum):
    """The names of the counters; ``labels`` of each in parentheses."""

    NANGO_CALLS = "nango_calls"
    """Requests sent to Nango (lane)."""
    CALL_WAIT_SECONDS = "call_wait_seconds"
    """Seconds that requests waited in their process before they were sent (reason)."""
    THROTTLED_RESPONSES = "throttled_responses"
    """Answers with status 429 (origin)."""
    ROWS = "rows"
    """Changed rows, each with its event (resource, change)."""
    RUNS = "runs"
    """Runs that ended (state, trigger)."""
    RUN_SECONDS = "run_seconds"
    """Runs by duration, not cumulative (trigger, upper bound)."""
    RUN_SECONDS_SUM = "run_seconds_sum"
    """Their total duration (trigger)."""
    LEASE_LOSSES = "lease_losses"
    """Slices that ended because another process had taken their lease."""
    FENCED_WRITES = "fenced_writes"
    """Write transactions refused because another process had taken the lease."""


class CallLane(StrEnum):
    """Who requests are sent for."""

    MANUAL = "manual"
    SCHEDULED = "scheduled"
    BACKFILL = "backfill"
    OWN = "nango"
    """To Nango's own API, for no connection: lists of connections, health checks."""


class WaitReason(StrEnum):
    BUDGET = "budget"
    """Nango's budget of calls, or its own 429."""
    GRAPH = "graph"
    """Graph asked to slow down."""
    RETRY = "retry"
    """A fault, before the request was sent again."""


class ThrottleOrigin(StrEnum):
    NANGO = "nango"
    GRAPH = "graph"


RUN_SECONDS_BOUNDS = (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 43200)
"""Upper bounds of the histogram of runs, in seconds; a changed bound begins a new series."""


counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True, comment="name of the metric, without its prefix"),
    Column(
        "labels",
        ARRAY(Text),
        primary_key=True,
        comment="values of its labels, in the order in which the metric declares them",
    ),
    Column(
        "slot",
        BigInteger,
        primary_key=True,
        comment="one of a few rows of a series, so that processes seldom wait for each other",
    ),
    Column("value", Double, nullable=False, server_default=text("0"), comment="only ever grows"),
    schema=SYNC,
    comment="Cumulative counters of the service; a series is the sum of its slots",
)
