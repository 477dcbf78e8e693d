"""The health of Nango, shared by all workers: when it last worked, and since when it is down.

A response about one connection proves nothing about the others, and one call without a response
proves little about Nango. So outages are decided here, for all workers at once: during an outage
nothing is sent but one health check every few seconds.

The functions that decide are pure; times are Unix seconds of the store's clock.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from worker.core.log import get_logger
from worker.nango.kv_store import KeyValueStore

TRANSIENT_SECONDS: Final = 300.0
"""Seconds for which an outage counts as transient if Nango worked before it."""

CHECK_INTERVAL: Final = 5.0
"""Seconds between two health checks."""

LONG_CHECK_INTERVAL: Final = 30.0
"""The same once the outage no longer counts as transient."""

MAX_UNANSWERED: Final = 3
"""Unanswered calls in a row before a health check is sent."""

SILENT_SECONDS: Final = 15.0
"""Seconds without a response, although calls were sent, until the dispatcher checks."""

RECENT_SECONDS: Final = 5.0
"""A response to any other process within so many seconds proves that Nango works."""

_LONG_AGO: Final = 1.0
_KEPT_SECONDS: Final = 30 * 86_400
_NOTE_INTERVAL: Final = 1.0
"""Seconds for which a process neither reads nor records the same state again."""


@dataclass(frozen=True)
class HealthState:
    """The shared state. Times are 0 if an event never happened."""

    worked_at: float = 0.0
    """The latest response that proves that Nango accepts the key."""
    sent_at: float = 0.0
    """The time of the latest call, accurate to seconds."""
    unanswered: int = 0
    """Calls in a row that ended without a response."""
    outage_since: float = 0.0
    asked_at: float = 0.0
    """The time of the latest health check of this outage."""
    reason: str = ""
    halts: bool = False
    """Whether the outage looks like a configuration error, such as a wrong key."""
    lasting: bool = False
    """Whether it certainly is one: Nango itself reports that it does not know the key."""

    @property
    def has_worked(self) -> bool:
        return self.worked_at > 0

    @property
    def is_out(self) -> bool:
        return self.outage_since > 0

    @property
    def needs_check(self) -> bool:
        """Whether a health check must be sent before anything else."""
        return self.is_out or self.unanswered >= MAX_UNANSWERED


def mark_working(state: HealthState, now: float) -> HealthState:
    """Return the state after a response of Nango, which ends an outage."""
    return HealthState(worked_at=now, sent_at=state.sent_at)


def count_unanswered(state: HealthState, began: float) -> HealthState:
    """Count an unanswered call, unless another call got a response after it ``began``."""
    if state.worked_at >= began:
        return state
    return replace(state, unanswered=state.unanswered + 1)


def mark_outage(
    state: HealthState, now: float, reason: str, *, halts: bool, lasting: bool
) -> HealthState:
    """Return the state after a failed health check."""
    since = state.outage_since or now
    return HealthState(
        worked_at=state.worked_at,
        sent_at=state.sent_at,
        unanswered=state.unanswered,
        outage_since=since,
        asked_at=now,
        reason=reason,
        halts=halts,
        lasting=lasting,
    )


def compute_check_wait(state: HealthState, now: float, pause: float) -> float:
    """Return the seconds until the next health check; longer once the outage has lasted."""
    if not state.is_out:
        return 0.0
    late = state.lasting or now - state.outage_since > TRANSIENT_SECONDS
    wait = state.asked_at + (LONG_CHECK_INTERVAL if late else pause) - now
    return min(max(0.0, wait), LONG_CHECK_INTERVAL)


def is_transient_outage(state: HealthState, now: float) -> bool:
    """Whether an apparently wrong key or address is more likely a transient fault."""
    return state.has_worked and not (state.is_out and now - state.outage_since > TRANSIENT_SECONDS)


def is_silent(state: HealthState, now: float) -> bool:
    """Whether calls were sent and none was answered for some time."""
    if state.sent_at <= max(state.worked_at, state.asked_at):
        return False
    return now - max(state.worked_at, state.asked_at) > SILENT_SECONDS


def clamp_to_clock(state: HealthState, now: float) -> HealthState:
    """Return the state with future times replaced, after the store's clock was set back.

    Otherwise no health check would be sent, nor silence noticed, before those times come.
    """
    return replace(
        state,
        worked_at=_LONG_AGO if state.worked_at > now else state.worked_at,
        sent_at=0.0 if state.sent_at > now else state.sent_at,
        asked_at=0.0 if state.asked_at > now else state.asked_at,
        outage_since=min(state.outage_since, now),
    )


class NangoHealth:
    """The state, shared by all users of the same store. Safe to use from several threads."""

    def __init__(self, store: KeyValueStore, key: str) -> None:
        self._store = store
        self._key = key
        self._seen = HealthState()
        self._seen_until = 0.0
        self._noted_until = 0.0
        self._sent_until = 0.0

    def read(self) -> tuple[HealthState, float]:
        """Return the state and the time at which it was read."""
        now, (held,) = self._store.read([self._key])
        self._seen = _decode_state(held, now)
        self._seen_until = time.monotonic() + _NOTE_INTERVAL
        return self._seen, now

    def needs_check(self) -> bool:
        """Whether a health check is due. Asked before every call, so cached for a second."""
        if time.monotonic() >= self._seen_until:
            self.read()
        return self._seen.needs_check

    def note_sent(self) -> None:
        """Record that a call goes out."""
        if time.monotonic() < self._sent_until:
            return
        self._sent_until = time.monotonic() + _NOTE_INTERVAL
        self._update(lambda state, now: replace(state, sent_at=now))

    def note_worked(self, *, force: bool = False) -> None:
        """Record a response of Nango or Graph, at most once a second unless it ends an outage."""
        quiet = not (force or self._seen.is_out or self._seen.unanswered)
        if quiet and time.monotonic() < self._noted_until:
            return
        self._noted_until = time.monotonic() + _NOTE_INTERVAL
        before, now = self._update(mark_working)
        if before.is_out:
            seconds = round(now - before.outage_since, 1)
            get_logger().warning("Nango recovered", outage_seconds=seconds)

    def note_unanswered(self, seconds: float) -> None:
        """Record that a call of so many seconds has ended without a response."""
        self._update(lambda state, now: count_unanswered(state, now - seconds))

    def note_outage(self, reason: str, *, halts: bool, lasting: bool) -> tuple[HealthState, float]:
        """Record a failed health check; return the state and the time."""

        def change(state: HealthState, now: float) -> HealthState:
            return mark_outage(state, now, reason, halts=halts, lasting=lasting)

        before, now = self._update(change)
        if not before.is_out:
            get_logger().error("Nango unavailable: calls are suspended", reason=reason)
        return change(before, now), now

    def claim_check(self, pause: float) -> bool:
        """Whether the caller, of all that share the state, should send the health check now."""
        while True:
            now, (held,) = self._store.read([self._key])
            state = _decode_state(held, now)
            if compute_check_wait(state, now, pause) > 0:
                return False
            if self._save(held, replace(state, asked_at=now)):
                return True

    def restore_worked_at(self, worked_at: float) -> None:
        """Set ``worked_at`` from another source, if it is not known here.

        It comes from another server's clock, which may be ahead of the store's.
        """
        self._update(
            lambda s, now: s if s.has_worked else replace(s, worked_at=min(worked_at, now))
        )

    def _update(
        self, change: Callable[[HealthState, float], HealthState]
    ) -> tuple[HealthState, float]:
        """Replace the state; return the previous one and the time."""
        while True:
            now, (held,) = self._store.read([self._key])
            before = _decode_state(held, now)
            after = change(before, now)
            if after == before or self._save(held, after):
                self._seen = after
                return before, now

    def _save(self, held: bytes | None, after: HealthState) -> bool:
        return self._store.compare_and_swap(
            self._key, held, msgspec.json.encode(after), _KEPT_SECONDS
        )


def _decode_state(held: bytes | None, now: float) -> HealthState:
    try:
        return clamp_to_clock(msgspec.json.decode(held or b"{}", type=HealthState), now)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return HealthState()
