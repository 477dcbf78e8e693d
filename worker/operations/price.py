"""What a bulk action would cost: connections, calls to Nango, minutes of its budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from worker.core.time_text import render_count
from worker.store.state.runs import estimate_calls


@dataclass(frozen=True)
class Price:
    """An estimate, from what earlier runs of the same connections cost."""

    connections: int
    calls: int
    unknown: int
    """Connections without a finished run; each counts as the average of the others."""
    calls_per_minute: int | None
    """Nango's budget, if it is known."""

    @property
    def minutes(self) -> float | None:
        """How long the calls take at Nango's budget, if nothing else uses it."""
        return None if self.calls_per_minute is None else self.calls / self.calls_per_minute

    def describe_gaps(self) -> str | None:
        """Return what the estimate lacks, in a sentence; None if it lacks nothing."""
        gaps = []
        if self.calls_per_minute is None:
            gaps.append(
                "the minutes cannot be estimated, as Nango has not said how many calls a minute "
                "it allows; the next calls of any sync tell"
            )
        if self.unknown:
            gaps.append(
                f"{render_count(self.unknown, 'connection')} had no finished run; each counts as "
                "the average of the others"
            )
        return "; ".join(gaps) or None

    def describe(self) -> str:
        """Return it in words."""
        calls = f"about {render_count(self.calls, 'call')} to Nango"
        if self.minutes is not None:
            calls += f", {max(1, round(self.minutes)):,} min at {self.calls_per_minute:,} a minute"
        if self.unknown:
            calls += f" ({self.unknown:,} were never synced, and are estimated)"
        return calls


def price(
    db: sa.Connection, ids: Sequence[int], *, full: bool, calls_per_minute: int | None
) -> Price:
    """Return what a resync of connections would cost.

    A full one costs as much as the largest stored run of each connection, which is its first load
    or a full walk; another one as much as its last run.
    """
    known = estimate_calls(db, ids, full=full)
    return estimate_price(known, len(ids), calls_per_minute=calls_per_minute)


def estimate_price(
    known: Mapping[int, int], connections: int, *, calls_per_minute: int | None
) -> Price:
    """Return the price of so many connections; ``known`` has the calls of some of them. Pure."""
    unknown = connections - len(known)
    average = sum(known.values()) / len(known) if known else 1.0
    calls = round(sum(known.values()) + unknown * average)
    return Price(connections, calls, unknown, calls_per_minute)
