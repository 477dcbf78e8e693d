"""Counters of calls, and the entries of the request log."""

from collections import Counter
from dataclasses import dataclass, field

from sandbox.tenant.http import Request


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One answered request and its status."""

    request: Request
    status: int


@dataclass(slots=True)
class CallCounts:
    """Numbers of calls, without those of the control API."""

    total: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """By kind: connections, connection, health, proxy, other."""
    graph: Counter[str] = field(default_factory=Counter)
    """By Graph path, with ids as `{id}`; batch items included."""

    def reset(self) -> None:
        self.total = 0
        self.kinds.clear()
        self.graph.clear()
