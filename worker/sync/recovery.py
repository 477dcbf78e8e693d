"""What a stream does about a failure of its own within a slice. Pure.

A refusal is final only once it has outlasted a few attempts, because Graph refuses single requests
in passing. No refusal drops a delta cursor; only Graph's own word that it is lost does (Restart).
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeAlias

from models.stream import Mode, Phase
from worker.core.errors import Later, Refused, Restart, Spent, Trouble
from worker.graph.left_out import may_be_property, named_properties
from worker.graph.verdict import LOCKED
from worker.nango.reply import PASSING
from worker.store.streams import Stream
from worker.sync.members import place_of
from worker.sync.page_size import is_too_large, is_used_up, shrunk
from worker.sync.transitions import (
    NOT_OFFERED,
    RESTART_PAUSE,
    another_way,
    left_out,
    listed_instead,
    postponed,
    refused,
    restarted,
    walked_again,
)

PAUSES: Final = (0.5, 1.0, 2.0)
"""Seconds before each further attempt at what was refused."""

LATE_PAUSE: Final = 60.0
"""Seconds that a stream waits where no time is left in the slice for a further attempt."""


@dataclass(frozen=True)
class TryAgain:
    """Send the same request again after a pause."""

    pause: float


@dataclass(frozen=True)
class AskForToken:
    """Ask for a new delta token: whether the tenant offers delta at all."""


@dataclass(frozen=True)
class FindProperties:
    """Find out which properties are refused."""


@dataclass(frozen=True)
class AskForOne:
    """Ask for a page of one object: whether it is the size that Graph has no time for."""


@dataclass(frozen=True)
class GoOn:
    """Go on at once in another state; where it is another walk, nothing counts as seen."""

    stream: Stream


@dataclass(frozen=True)
class Stop:
    """The stream is done in this slice."""

    stream: Stream


Decision: TypeAlias = TryAgain | AskForToken | FindProperties | AskForOne | GoOn | Stop


class Recovery:
    """Decides for one stream during one slice; remembers what was tried."""

    def __init__(self, stream: Stream, began: datetime) -> None:
        self._began = began
        self._attempts = 0
        self._was_refused = stream.phase is Phase.REFUSED
        self._was_listed = stream.mode is Mode.LIST_ONLY
        self._expects_refusal = self._was_refused or stream.mode is not Mode.PLAIN
        self._refusal: Refused | None = None
        self._searched = False
        self._asks_for_one = False

    def note_success(self) -> None:
        """An answer was of use: refusals from now on are unexpected."""
        self._attempts, self._expects_refusal = 0, False

    def decide(self, stream: Stream, trouble: Trouble, moment: datetime, *, late: bool) -> Decision:
        """What to do about a trouble; ``late`` says that no time is left in the slice."""
        if self._asks_for_one:
            self._asks_for_one = False
            return _wait(replace(stream, slow_pages=stream.slow_pages + 1), trouble, moment)
        if is_too_large(stream, trouble) and (late or not self._is_first_word(trouble)):
            return self._shrink(stream, trouble, moment, late=late)
        if isinstance(trouble, Refused) and (names := _named(stream, trouble)):
            return self.leave_out(stream, names)
        if self._may_pass(stream, trouble):
            if late:
                return Stop(postponed(stream, moment, LATE_PAUSE, trouble.message))
            self._attempts += 1
            return TryAgain(PAUSES[self._attempts - 1])
        self._attempts = 0
        return self._final(stream, trouble, moment)

    def _final(self, stream: Stream, trouble: Trouble, moment: datetime) -> Decision:
        """What to do about a trouble that does not pass."""
        if isinstance(trouble, Restart):
            return self._again(stream, restarted(stream, self._began), trouble)
        if isinstance(trouble, Refused):
            return self._search(stream, trouble) or self._refused(stream, trouble)
        return _wait(stream, trouble, moment)

    def _is_first_word(self, trouble: Trouble) -> bool:
        """Whether an answer inside a ``$batch`` is the first one; a single call tries by itself."""
        return isinstance(trouble, Later) and not trouble.tried and self._attempts == 0

    def _shrink(
        self, stream: Stream, trouble: Trouble, moment: datetime, *, late: bool
    ) -> Decision:
        """Ask for smaller pages once the attempts at this size are used up.

        Where Graph has no time for one object either, it is not the size. Where none is left to
        ask for that, a second slice that ends like this tells as much.
        """
        self._attempts = 0
        ready = is_used_up(stream, trouble, self._began)
        if isinstance(trouble, Refused) or (ready and late and stream.slow_pages):
            return self.one_was_answered(stream, trouble, moment)
        if ready and not late:
            self._asks_for_one = True
            return AskForOne()
        return _wait(replace(stream, slow_pages=stream.slow_pages + 1), trouble, moment)

    def one_was_answered(self, stream: Stream, trouble: Trouble, moment: datetime) -> Decision:
        """It is the size: smaller pages, where there are any."""
        self._asks_for_one = False
        after = shrunk(stream, trouble, self._began)
        return GoOn(after) if after else self._final(stream, trouble, moment)

    def _search(self, stream: Stream, trouble: Refused) -> FindProperties | None:
        """A refusal that may be about a property is looked into, once in a slice."""
        unclear = _selects(stream) and may_be_property(stream.resource, trouble)
        if self._searched or not unclear:
            return None
        self._searched = True
        return FindProperties()

    def leave_out(self, stream: Stream, names: Collection[str]) -> GoOn:
        """Go on without properties that Graph does not know."""
        self._attempts, self._refusal = 0, None
        return GoOn(left_out(stream, names, self._began))

    def token_given(self, stream: Stream) -> tuple[Stream, Refused] | None:
        """A new delta token was given although the cursor is refused: the stream as it waits.

        None where the cursor was refused an attempt before as well: a full walk begins, once.
        """
        refusal, self._refusal = self._refusal, None
        assert refusal is not None, "a token is asked for because of a refusal"
        walks, self._was_refused = self._was_refused, False
        return None if walks else (refused(stream, self._began, refusal), refusal)

    def _may_pass(self, stream: Stream, trouble: Trouble) -> bool:
        if self._attempts >= len(PAUSES):
            return False
        if isinstance(trouble, Later):
            passing = trouble.status in PASSING - {429} or trouble.status == LOCKED
            return passing and not (trouble.named or trouble.tried)
        if not isinstance(trouble, Refused) or self._expects_refusal or self._refusal:
            return False
        return trouble.status == 403 or (_on_its_way(stream) and trouble.status != 501)

    def _refused(self, stream: Stream, trouble: Refused) -> Decision:
        self._expects_refusal = False
        if self._refusal is not None:
            first, self._refusal = self._refusal, None
            if trouble.status in NOT_OFFERED:
                return GoOn(listed_instead(stream, self._began))
            return Stop(refused(stream, self._began, first))
        if trouble.status in NOT_OFFERED and _follows_cursor(stream):
            if self._was_listed:
                return GoOn(listed_instead(stream, self._began))
            self._refusal = trouble
            return AskForToken()
        if trouble.status in NOT_OFFERED and stream.phase is Phase.LISTING and stream.page_no:
            return self._again(stream, walked_again(stream, self._began), trouble)
        after = another_way(stream, trouble, self._began)
        return GoOn(after) if after else Stop(refused(stream, self._began, trouble))

    def _again(self, stream: Stream, after: Stream | None, trouble: Trouble) -> Decision:
        """A full walk, sweeping as usual; bounded, so that it cannot go on for ever."""
        if after is not None:
            return GoOn(after)
        waits = postponed(stream, self._began, RESTART_PAUSE, trouble.message)
        return Stop(replace(waits, restarts=0))


def _follows_cursor(stream: Stream) -> bool:
    """Whether a round of changes was asked for."""
    return stream.follows_delta and stream.phase in (Phase.DELTA, Phase.HELD)


def _wait(stream: Stream, trouble: Trouble, moment: datetime) -> Stop:
    """The stream waits where it is, for as long as was asked."""
    pause = trouble.after if isinstance(trouble, Later) else 300.0
    waits = postponed(stream, moment, pause or 60.0, trouble.message)
    return Stop(replace(waits, out_of_budget=isinstance(trouble, Spent)))


def _named(stream: Stream, trouble: Refused) -> list[str]:
    """The properties that a refusal names and a request can do without."""
    if not _selects(stream):
        return []
    return named_properties(stream.resource, trouble, stream.left_out or ())


def _selects(stream: Stream) -> bool:
    """Whether its requests name properties: those for members and assignments do not."""
    return place_of(stream.next_link) is None and bool(stream.resource.optional)


def _on_its_way(stream: Stream) -> bool:
    """Whether requests like the one that was refused have been answered before."""
    return _follows_cursor(stream) or (stream.phase is Phase.LISTING and stream.page_no > 0)
