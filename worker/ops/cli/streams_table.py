"""The table of a connection's streams."""

from collections.abc import Mapping, Sequence
from typing import Any

from worker.core.time_text import render_age
from worker.ops.cli.output import print_line, print_table, render_drift, render_time


def print_streams(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the streams of a connection, or that there are none."""
    if not rows:
        print_line("no stream yet: the first run makes one for each resource")
        return
    print_table(
        "streams",
        [
            "resource",
            "phase",
            "mode",
            "fresh",
            "held",
            "quarantined",
            "last full walk (UTC)",
            "deltas had missed",
            "why",
        ],
        [
            [
                row["resource"],
                row["phase"],
                row["mode"],
                render_age(row["age_seconds"]),
                row["held"],
                row["quarantined"],
                render_time(row["full_walk_at"]),
                render_drift(row["drift"]) if row["drift"] is not None else None,
                "; ".join(filter(None, [row["reason"], row["unresolved"]])),
            ]
            for row in rows
        ],
        prose=("deltas had missed", "why"),
    )
