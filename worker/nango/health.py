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

from worker.core.log import logger
from worker.nango.ledger import Ledger

PASSING_SECONDS: Final = 300.0
"""An outage of a Nango that has worked is passing for so long; then an operator has to look."""

QUESTION_PAUSE: Final = 5.0
"""Seconds between two questions whether Nango is back."""

LATE_QUESTION_PAUSE: Final = 30.0
"""The same once the outage is no longer taken for a passing one."""

FEW: Final = 3
"""Calls in a row that Nango left without an answer before it is asked the cheap question."""

SILENT_SECONDS: Final = 15.0
"""Seconds without any answer, although calls were sent, before the dispatcher asks it."""

RECENT: Final = 5.0
"""An answer to somebody else within so many seconds says that Nango works."""

_LONG_AGO: Final = 1.0
_KEPT_SECONDS: Final = 30 * 86_400
_NOTED_EVERY: Final = 1.0
"""Seconds for which a process neither reads nor notes the same again."""


@dataclass(frozen=True)
class State:
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
    def is_doubted(self) -> bool:
        """Whether the question is to be asked before anything else is sent."""
        return self.is_out or self.unanswered >= FEW


def worked(state: State, now: float) -> State:
    """Nango answered: whatever was wrong is over."""
    return State(worked_at=now, sent_at=state.sent_at)


def left_unanswered(state: State, began: float) -> State:
    """A call that ``began`` then has ended without an answer, unless somebody else got one."""
    if state.worked_at >= began:
        return state
    return replace(state, unanswered=state.unanswered + 1)


def out(state: State, now: float, reason: str, *, halts: bool, lasting: bool) -> State:
    """The question was not answered as by a Nango that works."""
    since = state.outage_since or now
    return State(
        worked_at=state.worked_at,
        sent_at=state.sent_at,
        unanswered=state.unanswered,
        outage_since=since,
        asked_at=now,
        reason=reason,
        halts=halts,
        lasting=lasting,
    )


def until_question(state: State, now: float, pause: float) -> float:
    """Seconds until the question may be asked again; longer pauses once it has lasted."""
    if not state.is_out:
        return 0.0
    late = state.lasting or now - state.outage_since > PASSING_SECONDS
    wait = state.asked_at + (LATE_QUESTION_PAUSE if late else pause) - now
    return min(max(0.0, wait), LATE_QUESTION_PAUSE)


def is_passing(state: State, now: float) -> bool:
    """Whether what looks like a wrong key or address is more likely a fault that goes away."""
    return state.has_worked and not (state.is_out and now - state.outage_since > PASSING_SECONDS)


def is_silent(state: State, now: float) -> bool:
    """Whether calls were sent and none has been answered for some time."""
    if state.sent_at <= max(state.worked_at, state.asked_at):
        return False
    return now - max(state.worked_at, state.asked_at) > SILENT_SECONDS


def set_back(state: State, now: float) -> State:
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


class Health:
    """The state, shared by all who use the same ledger. Safe to use from several threads."""

    def __init__(self, ledger: Ledger, key: str) -> None:
        self._ledger = ledger
        self._key = key
        self._seen = State()
        self._seen_until = 0.0
        self._noted_until = 0.0
        self._sent_until = 0.0

    def look(self) -> tuple[State, float]:
        """The state and the time it is of."""
        now, (held,) = self._ledger.read([self._key])
        self._seen = _decoded(held, now)
        self._seen_until = time.monotonic() + _NOTED_EVERY
        return self._seen, now

    def is_doubted(self) -> bool:
        """The same question for every call, so its answer may be a second old."""
        if time.monotonic() >= self._seen_until:
            self.look()
        return self._seen.is_doubted

    def note_sent(self) -> None:
        """A call goes out."""
        if time.monotonic() < self._sent_until:
            return
        self._sent_until = time.monotonic() + _NOTED_EVERY
        self._change(lambda state, now: replace(state, sent_at=now))

    def note_worked(self, *, anyway: bool = False) -> None:
        """Nango, or Graph behind it, answered; noted once a second, unless that is news."""
        quiet = not (anyway or self._seen.is_out or self._seen.unanswered)
        if quiet and time.monotonic() < self._noted_until:
            return
        self._noted_until = time.monotonic() + _NOTED_EVERY
        before, now = self._change(worked)
        if before.is_out:
            seconds = round(now - before.outage_since, 1)
            logger().warning("Nango answers again", out_for_seconds=seconds)

    def note_unanswered(self, seconds: float) -> None:
        """A call of so many seconds has ended without an answer."""
        self._change(lambda state, now: left_unanswered(state, now - seconds))

    def note_out(self, reason: str, *, halts: bool, lasting: bool) -> tuple[State, float]:
        """The cheap question was not answered as by a Nango that works; the state, and the time."""

        def change(state: State, now: float) -> State:
            return out(state, now, reason, halts=halts, lasting=lasting)

        before, now = self._change(change)
        if not before.is_out:
            logger().error("Nango does not work; nothing is sent until it does", reason=reason)
        return change(before, now), now

    def take_turn(self, pause: float) -> bool:
        """Whether the caller is the one to ask now, of all who share the state."""
        while True:
            now, (held,) = self._ledger.read([self._key])
            state = _decoded(held, now)
            if until_question(state, now, pause) > 0:
                return False
            if self._save(held, replace(state, asked_at=now)):
                return True

    def remember(self, worked_at: float) -> None:
        """Take in from elsewhere that the key has worked, where that is not known here.

        ``worked_at`` is of another server's clock, which may be ahead of the ledger's.
        """
        self._change(
            lambda s, now: s if s.has_worked else replace(s, worked_at=min(worked_at, now))
        )

    def _change(self, change: Callable[[State, float], State]) -> tuple[State, float]:
        """Replace the state; the one before, and the time."""
        while True:
            now, (held,) = self._ledger.read([self._key])
            before = _decoded(held, now)
            after = change(before, now)
            if after == before or self._save(held, after):
                self._seen = after
                return before, now

    def _save(self, held: bytes | None, after: State) -> bool:
        return self._ledger.swap(self._key, held, msgspec.json.encode(after), _KEPT_SECONDS)


def _decoded(held: bytes | None, now: float) -> State:
    try:
        return set_back(msgspec.json.decode(held or b"{}", type=State), now)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return State()
