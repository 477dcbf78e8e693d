"""The queues, and what travels on each."""

from typing import Final

from models.run import RunTrigger

MAINTENANCE: Final = "maintenance"
"""Ticks, discovery and housekeeping; served apart, so that they never wait behind slices."""

BACKFILL: Final = RunTrigger.BACKFILL.value
"""Slices of first loads; served apart, so that they never hold every process."""

PROMPT: Final[tuple[str, ...]] = (RunTrigger.MANUAL.value, RunTrigger.SCHEDULED.value)
"""Slices that are to begin within seconds: asked for by a person, due by the clock."""

SYNCS: Final[tuple[str, ...]] = (*PROMPT, BACKFILL)
"""All slices."""

QUEUES: Final[tuple[str, ...]] = (*SYNCS, MAINTENANCE)

WORKERS: Final[dict[str, str]] = {
    "worker": ",".join(PROMPT),
    "backfill": BACKFILL,
    "maintenance": MAINTENANCE,
}
"""The workers by name, each with the queues that it consumes."""
