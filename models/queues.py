"""The Celery queues, and the messages of each."""

from typing import Final

from models.run import RunTrigger

MAINTENANCE: Final = "maintenance"
"""Ticks, discovery and maintenance; served separately, so that they never wait behind slices."""

BACKFILL: Final = RunTrigger.BACKFILL.value
"""Slices of first loads; served separately, so that they never occupy every process."""

PROMPT_QUEUES: Final[tuple[str, ...]] = (RunTrigger.MANUAL.value, RunTrigger.SCHEDULED.value)
"""Slices that must begin within seconds: requested by a person, or due."""

SLICE_QUEUES: Final[tuple[str, ...]] = (*PROMPT_QUEUES, BACKFILL)
"""All slices."""

ALL_QUEUES: Final[tuple[str, ...]] = (*SLICE_QUEUES, MAINTENANCE)

WORKER_QUEUES: Final[dict[str, str]] = {
    "worker": ",".join(PROMPT_QUEUES),
    "backfill": BACKFILL,
    "maintenance": MAINTENANCE,
}
"""The queues that each worker consumes, by worker name."""
