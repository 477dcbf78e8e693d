"""How far a snapshot has come that a sink gets, as its position keeps it."""

from collections.abc import Mapping
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
