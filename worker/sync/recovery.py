"""Decide how a stream recovers from an error of its own within a slice. Pure logic.

A refusal is final only once it has outlasted a few attempts, because Graph refuses single requests
transiently. No refusal drops a delta cursor; only Graph's statement that it is lost does
(CursorExpired).
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeAlias

from models.stream import Phase
from worker.core.errors import (
    BudgetExhausted,
    ConfigurationError,
    ConnectionBroken,
    CursorExpired,
    LeaseLost,
    MirrorError,
    NotLicensed,
    Outage,
    ResourceRefused,
    RetryLater,
    ServerUnavailable,
    StorageFull,
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

SLICE_ENDING_ERRORS: Final = (
    ConfigurationError,
    ConnectionBroken,
    LeaseLost,
    ServerUnavailable,
    StorageFull,
    Outage,
)
"""Errors that are not about a single stream: they end the slice."""

RETRY_PAUSES: Final = (0.5, 1.0, 2.0)
"""Seconds before each further attempt at a refused request."""

TIME_UP_PAUSE: Final = 60.0
"""Seconds that a stream waits if the slice has no time left for another attempt."""


@dataclass(frozen=True)
class RetryRequest:
    """Send the same request again after a pause, in seconds."""

    pause: float


@dataclass(frozen=True)
class CheckDelta:
    """Request a new delta token, to find out whether the tenant offers delta at all."""


@dataclass(frozen=True)
class FindRefusedProperties:
    """Find out which properties Graph refuses."""


@dataclass(frozen=True)
class CheckPageSize:
    """Request a page of one object, to find out whether the page size causes the timeouts."""


@dataclass(frozen=True)
class ContinueFrom:
    """Continue at once in another state; a new walk forgets which rows were seen."""

    stream: Stream


@dataclass(frozen=True)
class StopStream:
    """Stop the stream for this slice."""

    stream: Stream


RecoveryAction: TypeAlias = (
    RetryRequest | CheckDelta | FindRefusedProperties | CheckPageSize | ContinueFrom | StopStream
)


class StreamRecovery:
    """Decides for one stream during one slice, and remembers what was tried."""

    def __init__(self, stream: Stream, began: datetime) -> None:
        self._started_at = began
        self._attempts = 0
        self._was_refused = stream.phase is Phase.REFUSED
        self._was_listed = stream.uses_fallback and not stream.source.follows_delta
        self._expects_refusal = self._was_refused or stream.uses_fallback
        self._refusal: ResourceRefused | None = None
        self._has_searched = False
        self._is_checking_page_size = False

    def note_success(self) -> None:
        """Record a usable response: refusals from now on are unexpected."""
        self._attempts, self._expects_refusal = 0, False

    def decide(
        self, stream: Stream, error: MirrorError, moment: datetime, *, is_time_up: bool
    ) -> RecoveryAction:
        """Return how to recover from an error; ``is_time_up``: the slice has no time left."""
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
        """Return how to recover from an error that persists."""
        if isinstance(error, CursorExpired):
            return self._continue_or_wait(stream, restart_walk(stream, self._started_at), error)
        if isinstance(error, ResourceRefused) and (name := _find_refused_relation(stream)):
            return self.leave_out(stream, [name])
        if isinstance(error, NotLicensed):
            # No other way of reading it and no shorter list of properties is licensed, either.
            self._refusal = None
            return StopStream(mark_refused(stream, self._started_at, error))
        if isinstance(error, ResourceRefused):
            return self._search_properties(stream, error) or self._handle_refusal(stream, error)
        return _postpone(stream, error, moment)

    def _is_first_answer(self, error: MirrorError) -> bool:
        """Whether it is the first failure in a ``$batch``; single calls retry by themselves."""
        return (
            isinstance(error, RetryLater)
            and not error.has_exhausted_retries
            and self._attempts == 0
        )

    def _decide_page_size(
        self, stream: Stream, error: MirrorError, moment: datetime, *, late: bool
    ) -> RecoveryAction:
        """Request smaller pages once the attempts at this size are used up.

        If Graph times out on one object as well, the size is not the cause. If there is no time to
        check that, a second slice that ends the same way counts as proof.
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
        """Continue with smaller pages, if there are any: the size is the cause."""
        self._is_checking_page_size = False
        after = shrink_page(stream, error, self._started_at)
        return ContinueFrom(after) if after else self._decide_final(stream, error, moment)

    def _search_properties(
        self, stream: Stream, error: ResourceRefused
    ) -> FindRefusedProperties | None:
        """Search for refused properties, once in a slice, if the refusal may be about one."""
        unclear = _selects_properties(stream) and can_be_about_property(stream.resource, error)
        if self._has_searched or not unclear or stream.source.below:
            return None
        self._has_searched = True
        return FindRefusedProperties()

    def leave_out(self, stream: Stream, names: Collection[str]) -> ContinueFrom:
        """Continue without properties that Graph does not know."""
        self._attempts, self._refusal = 0, None
        return ContinueFrom(leave_out_properties(stream, names, self._started_at))

    def accept_token(self, stream: Stream) -> tuple[Stream, ResourceRefused] | None:
        """Return the waiting stream after Graph gave a new token but refuses the cursor.

        None if the cursor was refused an attempt before as well: then a full walk begins, once.
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

    def _handle_refusal(self, stream: Stream, error: ResourceRefused) -> RecoveryAction:
        self._expects_refusal = False
        if self._refusal is not None:
            first, self._refusal = self._refusal, None
            if error.status in NOT_OFFERED_STATUSES:
                return ContinueFrom(switch_to_lists(stream, self._started_at))
            return StopStream(mark_refused(stream, self._started_at, first))
        if error.status in NOT_OFFERED_STATUSES and _is_following_delta(stream):
            if self._was_listed:
                return ContinueFrom(switch_to_lists(stream, self._started_at))
            self._refusal = error
            return CheckDelta()
        if (
            error.status in NOT_OFFERED_STATUSES
            and stream.phase is Phase.LISTING
            and stream.page_no
        ):
            return self._continue_or_wait(stream, repeat_walk(stream, self._started_at), error)
        after = switch_mode(stream, error, self._started_at)
        return (
            ContinueFrom(after)
            if after
            else StopStream(mark_refused(stream, self._started_at, error))
        )

    def _continue_or_wait(
        self, stream: Stream, after: Stream | None, error: MirrorError
    ) -> RecoveryAction:
        """Continue with a full walk; ``after`` is None once it was restarted too often."""
        if after is not None:
            return ContinueFrom(after)
        waits = postpone(stream, self._started_at, RESTART_PAUSE, error.message)
        return StopStream(replace(waits, restarts=0))


def _is_following_delta(stream: Stream) -> bool:
    """Whether the failed request was for a delta round."""
    return stream.follows_delta and stream.phase in (Phase.DELTA, Phase.HELD)


def _postpone(stream: Stream, error: MirrorError, moment: datetime) -> StopStream:
    """Keep the stream where it is and wait for as long as the error asks."""
    pause = error.after if isinstance(error, RetryLater) else 300.0
    waits = postpone(stream, moment, pause or 60.0, error.message)
    return StopStream(replace(waits, out_of_budget=isinstance(error, BudgetExhausted)))


def _find_named_properties(stream: Stream, error: ResourceRefused) -> list[str]:
    """Return the optional properties that a refusal names."""
    if not _selects_properties(stream):
        return []
    return find_named_properties(stream.resource, error, stream.without)


def _find_refused_relation(stream: Stream) -> str:
    """Return the relation that is refused with all lists of members, if it can be left out."""
    place = parse_member_cursor(stream.next_link)
    relation = place.choose_edge(stream.carried_edges).relation if place else ""
    return relation if relation in stream.resource.optional_relations else ""


def _selects_properties(stream: Stream) -> bool:
    """Whether the stream's requests name properties; member and assignment requests do not."""
    return parse_member_cursor(stream.next_link) is None and bool(stream.resource.optional)


def _is_under_way(stream: Stream) -> bool:
    """Whether Graph has answered requests like the refused one before."""
    return _is_following_delta(stream) or (stream.phase is Phase.LISTING and stream.page_no > 0)
