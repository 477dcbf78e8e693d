"""What a stream does about a failure of its own within a slice. Pure.

A refusal is final only once it has outlasted a few attempts, because Graph refuses single requests
in passing. No refusal drops a delta cursor; only Graph's own word that it is lost does (Restart).
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeAlias

from models.stream import Mode, Phase
from worker.core.errors import (
    BudgetExhausted,
    CursorExpired,
    MirrorError,
    ResourceRefused,
    RetryLater,
)
from worker.graph.errors import LOCKED_STATUS
from worker.graph.unknown_properties import can_be_about_property, find_named_properties
from worker.nango.response import TRANSIENT_STATUSES
from worker.store.state.streams import Stream
from worker.sync.page_size import has_exhausted_attempts, is_page_too_large, shrink_page
from worker.sync.sources.members import parse_member_cursor
from worker.sync.state import (
    NOT_OFFERED_STATUSES,
    RESTART_PAUSE,
    leave_out_properties,
    mark_refused,
    postpone,
    repeat_walk,
    restart_walk,
    switch_mode,
    switch_to_lists,
)

RETRY_PAUSES: Final = (0.5, 1.0, 2.0)
"""Seconds before each further attempt at what was refused."""

TIME_UP_PAUSE: Final = 60.0
"""Seconds that a stream waits where no time is left in the slice for a further attempt."""


@dataclass(frozen=True)
class RetryRequest:
    """Send the same request again after a pause."""

    pause: float


@dataclass(frozen=True)
class CheckDelta:
    """Ask for a new delta token: whether the tenant offers delta at all."""


@dataclass(frozen=True)
class FindRefusedProperties:
    """Find out which properties are refused."""


@dataclass(frozen=True)
class CheckPageSize:
    """Ask for a page of one object: whether it is the size that Graph has no time for."""


@dataclass(frozen=True)
class ContinueFrom:
    """Go on at once in another state; where it is another walk, nothing counts as seen."""

    stream: Stream


@dataclass(frozen=True)
class StopStream:
    """The stream is done in this slice."""

    stream: Stream


RecoveryAction: TypeAlias = (
    RetryRequest | CheckDelta | FindRefusedProperties | CheckPageSize | ContinueFrom | StopStream
)


class StreamRecovery:
    """Decides for one stream during one slice; remembers what was tried."""

    def __init__(self, stream: Stream, began: datetime) -> None:
        self._started_at = began
        self._attempts = 0
        self._was_refused = stream.phase is Phase.REFUSED
        self._was_listed = stream.mode is Mode.LIST_ONLY
        self._expects_refusal = self._was_refused or stream.mode is not Mode.PLAIN
        self._refusal: ResourceRefused | None = None
        self._has_searched = False
        self._is_checking_page_size = False

    def note_success(self) -> None:
        """An answer was of use: refusals from now on are unexpected."""
        self._attempts, self._expects_refusal = 0, False

    def decide(
        self, stream: Stream, error: MirrorError, moment: datetime, *, is_time_up: bool
    ) -> RecoveryAction:
        """What to do about a trouble; ``is_time_up`` says that no time is left in the slice."""
        if self._is_checking_page_size:
            self._is_checking_page_size = False
            return _postpone(replace(stream, slow_pages=stream.slow_pages + 1), error, moment)
        if is_page_too_large(stream, error) and (is_time_up or not self._is_first_answer(error)):
            return self._decide_page_size(stream, error, moment, late=is_time_up)
        if isinstance(error, ResourceRefused) and (names := _find_named_properties(stream, error)):
            return self.leave_out(stream, names)
        if self._can_retry(stream, error):
            if is_time_up:
                return StopStream(postpone(stream, moment, TIME_UP_PAUSE, error.message))
            self._attempts += 1
            return RetryRequest(RETRY_PAUSES[self._attempts - 1])
        self._attempts = 0
        return self._decide_final(stream, error, moment)

    def _decide_final(self, stream: Stream, error: MirrorError, moment: datetime) -> RecoveryAction:
        """What to do about a trouble that does not pass."""
        if isinstance(error, CursorExpired):
            return self._continue_or_wait(stream, restart_walk(stream, self._started_at), error)
        if isinstance(error, ResourceRefused):
            return self._search_properties(stream, error) or self._handle_refusal(stream, error)
        return _postpone(stream, error, moment)

    def _is_first_answer(self, error: MirrorError) -> bool:
        """Whether an answer inside a ``$batch`` is the first one; a single call tries by itself."""
        return (
            isinstance(error, RetryLater)
            and not error.has_exhausted_retries
            and self._attempts == 0
        )

    def _decide_page_size(
        self, stream: Stream, error: MirrorError, moment: datetime, *, late: bool
    ) -> RecoveryAction:
        """Ask for smaller pages once the attempts at this size are used up.

        Where Graph has no time for one object either, it is not the size. Where none is left to
        ask for that, a second slice that ends like this tells as much.
        """
        self._attempts = 0
        ready = has_exhausted_attempts(stream, error, self._started_at)
        if isinstance(error, ResourceRefused) or (ready and late and stream.slow_pages):
            return self.shrink_pages(stream, error, moment)
        if ready and not late:
            self._is_checking_page_size = True
            return CheckPageSize()
        return _postpone(replace(stream, slow_pages=stream.slow_pages + 1), error, moment)

    def shrink_pages(self, stream: Stream, error: MirrorError, moment: datetime) -> RecoveryAction:
        """It is the size: smaller pages, where there are any."""
        self._is_checking_page_size = False
        after = shrink_page(stream, error, self._started_at)
        return ContinueFrom(after) if after else self._decide_final(stream, error, moment)

    def _search_properties(
        self, stream: Stream, trouble: ResourceRefused
    ) -> FindRefusedProperties | None:
        """A refusal that may be about a property is looked into, once in a slice."""
        unclear = _selects_properties(stream) and can_be_about_property(stream.resource, trouble)
        if self._has_searched or not unclear:
            return None
        self._has_searched = True
        return FindRefusedProperties()

    def leave_out(self, stream: Stream, names: Collection[str]) -> ContinueFrom:
        """Go on without properties that Graph does not know."""
        self._attempts, self._refusal = 0, None
        return ContinueFrom(leave_out_properties(stream, names, self._started_at))

    def accept_token(self, stream: Stream) -> tuple[Stream, ResourceRefused] | None:
        """A new delta token was given although the cursor is refused: the stream as it waits.

        None where the cursor was refused an attempt before as well: a full walk begins, once.
        """
        refusal, self._refusal = self._refusal, None
        assert refusal is not None, "a token is asked for because of a refusal"
        walks, self._was_refused = self._was_refused, False
        return None if walks else (mark_refused(stream, self._started_at, refusal), refusal)

    def _can_retry(self, stream: Stream, error: MirrorError) -> bool:
        if self._attempts >= len(RETRY_PAUSES):
            return False
        if isinstance(error, RetryLater):
            passing = error.status in TRANSIENT_STATUSES - {429} or error.status == LOCKED_STATUS
            return passing and not (error.has_retry_after or error.has_exhausted_retries)
        if not isinstance(error, ResourceRefused) or self._expects_refusal or self._refusal:
            return False
        return error.status == 403 or (_is_under_way(stream) and error.status != 501)

    def _handle_refusal(self, stream: Stream, trouble: ResourceRefused) -> RecoveryAction:
        self._expects_refusal = False
        if self._refusal is not None:
            first, self._refusal = self._refusal, None
            if trouble.status in NOT_OFFERED_STATUSES:
                return ContinueFrom(switch_to_lists(stream, self._started_at))
            return StopStream(mark_refused(stream, self._started_at, first))
        if trouble.status in NOT_OFFERED_STATUSES and _is_following_delta(stream):
            if self._was_listed:
                return ContinueFrom(switch_to_lists(stream, self._started_at))
            self._refusal = trouble
            return CheckDelta()
        if (
            trouble.status in NOT_OFFERED_STATUSES
            and stream.phase is Phase.LISTING
            and stream.page_no
        ):
            return self._continue_or_wait(stream, repeat_walk(stream, self._started_at), trouble)
        after = switch_mode(stream, trouble, self._started_at)
        return (
            ContinueFrom(after)
            if after
            else StopStream(mark_refused(stream, self._started_at, trouble))
        )

    def _continue_or_wait(
        self, stream: Stream, after: Stream | None, error: MirrorError
    ) -> RecoveryAction:
        """A full walk, sweeping as usual; bounded, so that it cannot go on for ever."""
        if after is not None:
            return ContinueFrom(after)
        waits = postpone(stream, self._started_at, RESTART_PAUSE, error.message)
        return StopStream(replace(waits, restarts=0))


def _is_following_delta(stream: Stream) -> bool:
    """Whether a round of changes was asked for."""
    return stream.follows_delta and stream.phase in (Phase.DELTA, Phase.HELD)


def _postpone(stream: Stream, error: MirrorError, moment: datetime) -> StopStream:
    """The stream waits where it is, for as long as was asked."""
    pause = error.after if isinstance(error, RetryLater) else 300.0
    waits = postpone(stream, moment, pause or 60.0, error.message)
    return StopStream(replace(waits, out_of_budget=isinstance(error, BudgetExhausted)))


def _find_named_properties(stream: Stream, trouble: ResourceRefused) -> list[str]:
    """The properties that a refusal names and a request can do without."""
    if not _selects_properties(stream):
        return []
    return find_named_properties(stream.resource, trouble, stream.left_out or ())


def _selects_properties(stream: Stream) -> bool:
    """Whether its requests name properties: those for members and assignments do not."""
    return parse_member_cursor(stream.next_link) is None and bool(stream.resource.optional)


def _is_under_way(stream: Stream) -> bool:
    """Whether requests like the one that was refused have been answered before."""
    return _is_following_delta(stream) or (stream.phase is Phase.LISTING and stream.page_no > 0)
