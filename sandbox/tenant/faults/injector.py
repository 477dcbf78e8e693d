"""Decides which requests get a fault: at random from a seed, or by rules.

    nango.faults = FaultInjector(seed=7, rate=0.1)
    nango.faults = FaultInjector.from_rules([("users/delta", "429-zero", 2), (is_mine, "cut")])
    nango.faults = None

The same seed gives the same request the same faults: they depend on the request and how often it
was made, not on the order of all requests.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b
from random import Random

from sandbox.tenant.errors import GraphError
from sandbox.tenant.faults.fault_kinds import (
    ALL_KINDS,
    EXPIRIES,
    TRANSIENT,
    build_fault,
    can_apply,
    is_connections,
)
from sandbox.tenant.faults.fault_responses import FaultContext
from sandbox.tenant.http import Request, Response

RequestMatcher = Callable[[Request], bool]
GetResponse = Callable[[], Response]
BuildRefusal = Callable[[GraphError], Response]


@dataclass(slots=True)
class FaultRule:
    """A rule: after `skip` matching requests, the next `times` ones get the fault."""

    matches: str | RequestMatcher
    """A substring of the request's path and query, or a function of the request."""
    fault: str | Response | Callable[[Request], Response]
    """The name of a kind, a response, or a function that returns one."""
    times: int | None = 1
    """None for always."""
    skip: int = 0

    def take_turn(self, request: Request) -> bool:
        """Count a matching request; return whether it gets the fault."""
        if self.times == 0 or not self._matches(request):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def _matches(self, request: Request) -> bool:
        if isinstance(self.fault, str) and not can_apply(self.fault, request):
            return False
        if isinstance(self.matches, str):
            return self.matches in request.target
        return self.matches(request)


FaultRuleSpec = (
    FaultRule
    | tuple[str | RequestMatcher, str | Response | Callable[[Request], Response]]
    | tuple[str | RequestMatcher, str | Response | Callable[[Request], Response], int | None]
)


class FaultInjector:
    """Injects faults. Install it as `nango.faults`; it may be replaced or changed at any time.

    Each item of a `$batch` gets faults by itself, with `item_rate`. Retry-After stays below
    `retry_after` seconds, so that tests need not wait.
    """

    def __init__(
        self,
        seed: int = 1,
        rate: float = 0.05,
        kinds: Iterable[str] = TRANSIENT | EXPIRIES,
        *,
        item_rate: float | None = None,
        connections: bool = False,
        retry_after: float = 0.5,
        stall: float = 0.5,
        rules: Iterable[FaultRuleSpec] = (),
    ) -> None:
        self.seed, self.rate = seed, rate
        self.item_rate = rate if item_rate is None else item_rate
        self.kinds = _check_kinds(kinds)
        self.connections = connections
        """Whether requests to Nango's /connections get random faults, too."""
        self.retry_after, self.stall = retry_after, stall
        self.rules = [line if isinstance(line, FaultRule) else FaultRule(*line) for line in rules]
        _check_kinds(step.fault for step in self.rules if isinstance(step.fault, str))
        self.hits: Counter[str] = Counter()
        """The number of faults of each kind; responses of rules count as "scripted"."""
        self.recent: deque[tuple[str, Request]] = deque(maxlen=1000)
        """The latest faults, oldest first."""
        self._request_counts: Counter[bytes] = Counter()

    @classmethod
    def from_rules(
        cls, steps: Iterable[FaultRuleSpec], *, retry_after: float = 0.5, stall: float = 0.5
    ) -> FaultInjector:
        """Build an injector without random faults.

        Each rule is `(matches, fault)`, `(matches, fault, times)` or a FaultRule. The first rule
        that matches a request decides.
        """
        return cls(rate=0.0, retry_after=retry_after, stall=stall, rules=steps)

    @property
    def total(self) -> int:
        return self.hits.total()

    def respond(self, request: Request, answer: GetResponse, refuse: BuildRefusal) -> Response:
        """Return the response to a request: a fault, or the result of `answer`."""
        rng = self._make_rng(request)
        fault = self._apply_rules(request) or self._draw_kind(request, rng)
        if fault is None:
            return answer()
        name = fault if isinstance(fault, str) else "scripted"
        self.hits[name] += 1
        self.recent.append((name, request))
        if isinstance(fault, str):
            return build_fault(
                fault, FaultContext(request, rng, answer, refuse, self.retry_after, self.stall)
            )
        return replace(fault, headers=dict(fault.headers))

    def _apply_rules(self, request: Request) -> str | Response | None:
        for step in self.rules:
            if step.take_turn(request):
                return step.fault(request) if callable(step.fault) else step.fault
        return None

    def _draw_kind(self, request: Request, rng: Random) -> str | None:
        if is_connections(request) and not self.connections:
            return None
        if rng.random() >= (self.rate if request.item is None else self.item_rate):
            return None
        possible = [kind for kind in self.kinds if can_apply(kind, request)]
        return rng.choice(possible) if possible else None

    def _make_rng(self, request: Request) -> Random:
        """Return the random generator of this request."""
        text = f"{request.connection_id} {request.method} {request.target} {request.item is None}"
        key = blake2b(text.encode() + request.body, digest_size=12).digest()
        self._request_counts[key] += 1
        return Random(f"{self.seed}/{key.hex()}/{self._request_counts[key]}")


def _check_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    """Return the kinds in an order that does not depend on the process."""
    found = sorted(set(kinds))
    unknown = set(found) - ALL_KINDS
    if unknown:
        raise ValueError(
            f"No such faults: {', '.join(sorted(unknown))}. There are {_render_kinds()}."
        )
    return tuple(found)


def _render_kinds() -> str:
    return ", ".join(sorted(ALL_KINDS))
