"""How far a snapshot has come that a sink gets, as its position keeps it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec


class SnapshotProgress(NamedTuple):
    """How far a snapshot has come: the last key of a resource, and how many rows are delivered."""

    resource: str = ""
    """Empty before the first."""
    after: tuple[str, ...] = ()
    """Empty before the resource's first."""
    rows: int = 0
    rewound: bool = False
    """History was rewound: the receiver holds what may not be so, and is to know the end."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "SnapshotProgress":
        return cls(**{**stored, "after": tuple(stored.get("after", ()))})

    @property
    def as_json(self) -> str:
        """As JSON, with ``rewound`` only where it is set."""
        kept = {name: value for name, value in self._asdict().items() if name != "rewound"}
        return msgspec.json.encode({**kept, "rewound": True} if self.rewound else kept).decode()


class Event(NamedTuple):
    """A change event as it is read for delivery; ``before`` and ``after`` are JSON text."""

    connection_id: int
    seq: int
    occurred_at: datetime
    event_id: str
    resource: str
    object_id: str
    change: str
    changed: list[str] | None = None
    before: str | None = None
    after: str | None = None
    initial: bool = False
    snapshot: bool = False


class Position(NamedTuple):
    """How far a sink has come with a connection; ``occurred_at`` is that event's time.

    While a snapshot is under way, that event is its cut, and the tail waits behind it.
    """

    connection_id: int
    seq: int
    occurred_at: datetime | None
    snapshot: SnapshotProgress | None = None
