"""Schedules faults of Nango and Graph: a share of the responses fails, tokens are revoked."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from sandbox.tenant import FaultInjector, Nango, Request
from sandbox.tenant.faults.injector import FaultRule

REVOKED: Final = ("refresh-failed", "refresh-backoff", "refresh-exhausted", "graph-401")
"""How it reads when a customer's consent is gone, or Nango cannot renew the token."""

LATE_SECONDS: Final = 3.0
"""Seconds that a late answer takes; the deadline of a call is 5."""


class FaultSchedule:
    """The faults that `nango.faults` serves, and for whom."""

    def __init__(self, nango: Nango, seed: int, rate: float) -> None:
        self.revoked: dict[str, str] = {}
        """Nango ids of connections that are of no use for now, with the kind of fault."""
        self.key_is_refused = False
        """Nango does not know our key for now: everybody has to stop asking."""
        self._rate = rate
        self._faults = FaultInjector(
            seed,
            0.0,
            connections=True,
            retry_after=LATE_SECONDS,
            stall=LATE_SECONDS,
            rules=self._build_rules(),
        )
        nango.faults = self._faults

    def _build_rules(self) -> Iterable[FaultRule]:
        yield FaultRule(lambda _: self.key_is_refused, "nango-401", times=None)
        for kind in REVOKED:
            yield FaultRule(self._is_revoked(kind), kind, times=None)

    def _is_revoked(self, kind: str) -> Callable[[Request], bool]:
        return lambda request: self.revoked.get(request.connection_id or "") == kind

    @property
    def served_counts(self) -> Counter[str]:
        return self._faults.hits

    def start(self) -> None:
        """Answers fail at random."""
        self._faults.rate = self._rate
        self._faults.item_rate = self._rate / 3  # a slice's first call has half a dozen items

    def stop(self) -> None:
        """From now on every answer is right."""
        self._faults.rate = self._faults.item_rate = 0.0
        self.revoked.clear()
        self.key_is_refused = False
