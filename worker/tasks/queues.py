"""The queues, and what travels on each."""

from typing import Final

from models.run import RunTrigger

MAINTENANCE: Final = "maintenance"
"""Ticks, discovery and housekeeping; served apart, so that they never wait behind slices."""

SYNCS: Final[tuple[str, ...]] = tuple(trigger.value for trigger in RunTrigger)
"""Slices: asked for by a person, due by the clock, first loads."""

QUEUES: Final[tuple[str, ...]] = (*SYNCS, MAINTENANCE)
