"""The queues, and what travels on each."""

from typing import Final

from models.run import RunTrigger

MAINTENANCE: Final = "maintenance"
"""Ticks, discovery and housekeeping; served apart, so that they never wait behind slices."""

BACKFILL: Final = RunTrigger.BACKFILL.value
"""Slices of first loads; served apart, so that they never hold every process."""

PROMPT_QUEUES: Final[tuple[str, ...]] = (RunTrigger.MANUAL.value, RunTrigger.SCHEDULED.value)
"""Slices that are to begin within seconds: asked for by a person, due by the clock."""

SLICE_QUEUES: Final[tuple[str, ...]] = (*PROMPT_QUEUES, BACKFILL)
"""All slices."""

ALL_QUEUES: Final[tuple[str, ...]] = (*SLICE_QUEUES, MAINTENANCE)

WORKER_QUEUES: Final[dict[str, str]] = {
    "worker": ",".join(PROMPT_QUEUES),
    "backfill": BACKFILL,
    "maintenance": MAINTENANCE,
}
"""The workers by name, each with the queues that it consumes."""
