"""How the commands about sinks show how far one has come."""

from collections.abc import Mapping
from typing import Any

from worker.ops.cli.output import age


def line(row: Mapping[str, Any]) -> list[object]:
    """A sink among all of them."""
    return [
        row["name"],
        row["kind"],
        row["status"],
        row["waiting"],
        row["connections_behind"],
        age(row["age_seconds"]),
        "; ".join(note for note in (row["status_reason"], under_way(row)) if note),
    ]


def under_way(row: Mapping[str, Any]) -> str:
    """What is said of snapshots that a sink begins with; nothing once they are through."""
    if not row["snapshots"]:
        return ""
    rows, many = row["snapshot_rows"], row["snapshots"]
    of = "1 connection" if many == 1 else f"{many} connections"
    return f"a snapshot of {of} is under way, {rows:,} rows so far"


def place(position: Mapping[str, Any]) -> str:
    """How far a connection's snapshot has come."""
    snapshot = position["snapshot"]
    if snapshot is None:
        return ""
    if not snapshot:
        return "waits"
    return f"{snapshot['resource']}, {snapshot['rows']:,} rows"
