"""Renders sinks and their progress for people."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from models.sink import SinkStatus
from worker.core.time_text import render_age
from worker.delivery.health import describe_refusals
from worker.delivery.settings import parse_redis_stream_settings


def build_sink_row(row: Mapping[str, Any]) -> list[object]:
    """Return a sink's row of the table."""
    return [
        row["name"],
        row["kind"],
        row["status"],
        row["waiting"],
        row["connections_behind"],
        render_age(row["age_seconds"]),
        "; ".join(
            note
            for note in (row["status_reason"], describe_refusals(row), describe_snapshots(row))
            if note
        ),
    ]


def describe_retry(row: Mapping[str, Any]) -> str:
    """Return what keeps a sink whose receiver works from delivering now; empty if nothing does."""
    resume = f"'tenant-mirror sinks resume {row['name']}' delivers at once"
    if row["status"] != SinkStatus.ACTIVE:
        return f"it is {row['status']}, so no events are delivered; {resume}"
    if row["retry_at"] is not None and row["failures"]:
        return f"it waits until {row['retry_at']:%H:%M:%S} UTC to try again; {resume}"
    if row["connections_refused"]:
        return (
            f"{row['connections_refused']:,} connections wait as their next event was refused; "
            f"{resume}"
        )
    return ""


def render_refused_events(positions: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield each connection's refused event with the next attempt, and the reason."""
    for one in positions:
        if one["failures"]:
            times = "once" if one["failures"] == 1 else f"{one['failures']} times"
            again = f"next try at {one['retry_at']:%F %H:%M:%S} UTC"
            event = (
                f"{one['label']}: the event after {one['seq']:,} is refused "
                f"({one['refused_id']}), {times}; {again}"
            )
            yield event, str(one["reason"])


def describe_snapshots(row: Mapping[str, Any]) -> str:
    """Return the progress of a sink's first snapshots; empty once they are complete."""
    if not row["snapshots"]:
        return ""
    rows, many = row["snapshot_rows"], row["snapshots"]
    of = "1 connection" if many == 1 else f"{many} connections"
    return f"a snapshot of {of} is under way, {rows:,} rows so far"


def describe_snapshot_progress(position: Mapping[str, Any]) -> str:
    """Return the progress of a connection's snapshot."""
    snapshot = position["snapshot"]
    if snapshot is None:
        return ""
    if not snapshot:
        return "waiting"
    return f"{snapshot['resource']}, {snapshot['rows']:,} rows"


def describe_stream_bounds(settings: Mapping[str, object], *, is_shared: bool) -> str:
    """Return what a new stream keeps, and where."""
    made = parse_redis_stream_settings(settings)
    kept = f"{made.maxbytes / 1024**2:,.0f} MiB or {made.maxlen:,} events"
    note = (
        "its events contain personal data and stay in Redis whether or not they are read, "
        f"up to {kept} per stream (--maxbytes, --maxlen)"
    )
    if is_shared:
        note += (
            ". This is the Redis of REDIS_URL, which carries the service's messages as well: "
            "give the stream its own Redis with --url"
        )
    return note
