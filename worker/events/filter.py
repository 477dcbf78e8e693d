"""Filters of events by resource and kind of change."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from models.change_event import ChangeKind, ConnectionChange
from models.event_type import CONNECTION_RESOURCE
from models.resources import RESOURCES
from worker.core.errors import InvalidInput


def parse_resource_filter(names: Iterable[str]) -> list[str] | None:
    """Return the resources to deliver, or None for all if none is named.

    Raises InvalidInput for an unknown one.
    """
    return _parse_choices("resource", names, (*RESOURCES, CONNECTION_RESOURCE))


def parse_change_filter(names: Iterable[str]) -> list[str] | None:
    """Return the changes to deliver, or None for all if none is named.

    Raises InvalidInput for an unknown one.
    """
    return _parse_choices("change", names, (*ChangeKind, *ConnectionChange))


def _parse_choices(what: str, names: Iterable[str], allowed: tuple[str, ...]) -> list[str] | None:
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in allowed:
            raise InvalidInput(
                f"there is no {what} '{name}'; choose from {', '.join(map(str, allowed))}"
            )
    return wanted or None


@dataclass(frozen=True)
class EventFilter:
    """Which events to read; None means all."""

    connections: frozenset[int] | None = None
    resources: Sequence[str] | None = None
    changes: Sequence[str] | None = None
    with_initial: bool = True
    """Whether to read the events of first loads."""
    until: datetime | None = None
    """Events from this time on are left out."""

    @property
    def is_sparse(self) -> bool:
        """Whether the filter may leave out most events."""
        return (
            self.resources is not None
            or self.changes is not None
            or not self.with_initial
            or self.until is not None
        )

    @property
    def connection_ids(self) -> list[int] | None:
        return None if self.connections is None else sorted(self.connections)

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "resources": None if self.resources is None else list(self.resources),
            "changes": None if self.changes is None else list(self.changes),
            "initial": self.with_initial,
            "until": self.until,
        }
