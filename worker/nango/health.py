"""What all workers know of Nango as a whole: when it last worked, and since when it does not.

One answer to one connection says nothing about the others, and one call without an answer says
little about Nango. So what may concern everybody is decided here, for all workers at once: while
an outage lasts, nothing is sent but one cheap question every few seconds.

The deciding functions are pure; times are Unix seconds of the ledger's clock.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from worker.core.log import get_logger
from worker.nango.kv_store import KeyValueStore

TRANSIENT_SECONDS: Final = 300.0
"""An outage of a Nango that has worked is passing for so long; then an operator has to look."""

CHECK_INTERVAL: Final = 5.0
"""Seconds between two questions whether Nango is back."""

LONG_CHECK_INTERVAL: Final = 30.0
"""The same once the outage is no longer taken for a passing one."""

MAX_UNANSWERED: Final = 3
"""Calls in a row that Nango left without an answer before it is asked the cheap question."""

SILENT_SECONDS: Final = 15.0
"""Seconds without any answer, although calls were sent, before the dispatcher asks it."""

RECENT_SECONDS: Final = 5.0
"""An answer to somebody else within so many seconds says that Nango works."""

_LONG_AGO: Final = 1.0
_KEPT_SECONDS: Final = 30 * 86_400
_NOTE_INTERVAL: Final = 1.0
"""Seconds for which a process neither reads nor notes the same again."""


@dataclass(frozen=True)
class HealthState:
    """What is known. Times are 0 where something never happened."""

    worked_at: float = 0.0
    """The latest answer that only a Nango gives that knows the key."""
    sent_at: float = 0.0
    """The latest call, to within seconds."""
    unanswered: int = 0
    """Calls in a row that ended without an answer."""
    outage_since: float = 0.0
    asked_at: float = 0.0
    """The latest cheap question of this outage."""
    reason: str = ""
    halts: bool = False
    """Whether it looks like a fault of our configuration, such as a wrong key."""
    lasting: bool = False
    """Whether it can be nothing else: Nango itself says that it does not know the key."""

    @property
    def has_worked(self) -> bool:
        return self.worked_at > 0

    @property
    def is_out(self) -> bool:
        return self.outage_since > 0

    @property
    def needs_check(self) -> bool:
        """Whether the question is to be asked before anything else is sent."""
        return self.is_out or self.unanswered >= MAX_UNANSWERED


def mark_working(state: HealthState, now: float) -> HealthState:
    """Nango answered: whatever was wrong is over."""
    return HealthState(worked_at=now, sent_at=state.sent_at)


def count_unanswered(state: HealthState, began: float) -> HealthState:
    """A call that ``began`` then has ended without an answer, unless somebody else got one."""
    if state.worked_at >= began:
        return state
    return replace(state, unanswered=state.unanswered + 1)


def mark_outage(
    state: HealthState, now: float, reason: str, *, halts: bool, lasting: bool
) -> HealthState:
    """The question was not answered as by a Nango that works."""
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
    """Seconds until the question may be asked again; longer pauses once it has lasted."""
    if not state.is_out:
        return 0.0
    late = state.lasting or now - state.outage_since > TRANSIENT_SECONDS
    wait = state.asked_at + (LONG_CHECK_INTERVAL if late else pause) - now
    return min(max(0.0, wait), LONG_CHECK_INTERVAL)


def is_transient_outage(state: HealthState, now: float) -> bool:
    """Whether what looks like a wrong key or address is more likely a fault that goes away."""
    return state.has_worked and not (state.is_out and now - state.outage_since > TRANSIENT_SECONDS)


def is_silent(state: HealthState, now: float) -> bool:
    """Whether calls were sent and none has been answered for some time."""
    if state.sent_at <= max(state.worked_at, state.asked_at):
        return False
    return now - max(state.worked_at, state.asked_at) > SILENT_SECONDS


def clamp_to_clock(state: HealthState, now: float) -> HealthState:
    """The state after the ledger's clock was set back: what it has of the future was long ago.

    Otherwise neither a question would be asked nor silence be noticed before that time comes.
    """
    return replace(
        state,
        worked_at=_LONG_AGO if state.worked_at > now else state.worked_at,
        sent_at=0.0 if state.sent_at > now else state.sent_at,
        asked_at=0.0 if state.asked_at > now else state.asked_at,
        outage_since=min(state.outage_since, now),
    )


class NangoHealth:
    """The state, shared by all who use the same ledger. Safe to use from several threads."""

    def __init__(self, store: KeyValueStore, key: str) -> None:
        self._store = store
        self._key = key
        self._seen = HealthState()
        self._seen_until = 0.0
        self._noted_until = 0.0
        self._sent_until = 0.0

    def read(self) -> tuple[HealthState, float]:
        """The state and the time it is of."""
        now, (held,) = self._store.read([self._key])
        self._seen = _decode_state(held, now)
        self._seen_until = time.monotonic() + _NOTE_INTERVAL
        return self._seen, now

    def needs_check(self) -> bool:
        """The same question for every call, so its answer may be a second old."""
        if time.monotonic() >= self._seen_until:
            self.read()
        return self._seen.needs_check

    def note_sent(self) -> None:
        """A call goes out."""
        if time.monotonic() < self._sent_until:
            return
        self._sent_until = time.monotonic() + _NOTE_INTERVAL
        self._update(lambda state, now: replace(state, sent_at=now))

    def note_worked(self, *, force: bool = False) -> None:
        """Nango, or Graph behind it, answered; noted once a second, unless that is news."""
        quiet = not (force or self._seen.is_out or self._seen.unanswered)
        if quiet and time.monotonic() < self._noted_until:
            return
        self._noted_until = time.monotonic() + _NOTE_INTERVAL
        before, now = self._update(mark_working)
        if before.is_out:
            seconds = round(now - before.outage_since, 1)
            get_logger().warning("Nango answers again", out_for_seconds=seconds)

    def note_unanswered(self, seconds: float) -> None:
        """A call of so many seconds has ended without an answer."""
        self._update(lambda state, now: count_unanswered(state, now - seconds))

    def note_outage(self, reason: str, *, halts: bool, lasting: bool) -> tuple[HealthState, float]:
        """The cheap question was not answered as by a Nango that works; the state, and the time."""

        def change(state: HealthState, now: float) -> HealthState:
            return mark_outage(state, now, reason, halts=halts, lasting=lasting)

        before, now = self._update(change)
        if not before.is_out:
            get_logger().error("Nango does not work; nothing is sent until it does", reason=reason)
        return change(before, now), now

    def claim_check(self, pause: float) -> bool:
        """Whether the caller is the one to ask now, of all who share the state."""
        while True:
            now, (held,) = self._store.read([self._key])
            state = _decode_state(held, now)
            if compute_check_wait(state, now, pause) > 0:
                return False
            if self._save(held, replace(state, asked_at=now)):
                return True

    def restore_worked_at(self, worked_at: float) -> None:
        """Take in from elsewhere that the key has worked, where that is not known here.

        ``worked_at`` is of another server's clock, which may be ahead of the ledger's.
        """
        self._update(
            lambda s, now: s if s.has_worked else replace(s, worked_at=min(worked_at, now))
        )

    def _update(
        self, change: Callable[[HealthState, float], HealthState]
    ) -> tuple[HealthState, float]:
        """Replace the state; the one before, and the time."""
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
