"""What a write did to one object, before it becomes a change event."""

from typing import NamedTuple

from models.change_event import ChangeKind, ConnectionChange


class Change(NamedTuple):
    """``before`` and ``after`` are JSON: whole objects, or the changed columns of an update."""

    kind: ChangeKind | ConnectionChange
    key: str
    changed: list[str] | None = None
    before: bytes | None = None
    after: bytes | None = None
