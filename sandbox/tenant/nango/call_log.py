"""What was called: counters, and the entries of an optional log."""

from collections import Counter
from dataclasses import dataclass, field

from sandbox.tenant.http import Request


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request that was answered, and how."""

    request: Request
    status: int


@dataclass(slots=True)
class CallCounts:
    """How often what was called. The sandbox's own API does not count."""

    total: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """connections, connection, health, proxy, other"""
    graph: Counter[str] = field(default_factory=Counter)
    """The paths within Graph, ids as `{id}`, items of a batch included."""

    def reset(self) -> None:
        self.total = 0
        self.kinds.clear()
        self.graph.clear()
