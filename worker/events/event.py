"""Change events as read for delivery, and the positions and snapshot progress of sinks."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec


class SnapshotProgress(NamedTuple):
    """Progress of a snapshot: the last key of a resource, and the number of rows delivered."""

    resource: str = ""
    """Empty before the first resource."""
    after: tuple[str, ...] = ()
    """Empty before the resource's first row."""
    rows: int = 0
    rewound: bool = False
    """Whether history was rewound: the receiver may hold wrong data and is notified at the end."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "SnapshotProgress":
        return cls(**{**stored, "after": tuple(stored.get("after", ()))})

    @property
    def as_json(self) -> str:
        """As JSON, with ``rewound`` only if it is set."""
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
    """The last event delivered to a sink for a connection; ``occurred_at`` is its time.

    While a snapshot is running, that event is the snapshot's cut; later events are read afterwards.
    """

    connection_id: int
    seq: int
    occurred_at: datetime | None
    snapshot: SnapshotProgress | None = None
