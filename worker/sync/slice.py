"""One slice: open, then take every due stream forward until done or out of time.

The streams are fetched side by side, each one page ahead; commits come one after another.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from models.connection import ConnectionStatus
from models.resources.group_members import GROUP_MEMBERS
from worker.core.crash import crash_point
from worker.core.errors import Full, Later, Refused, Restart, Spent, Trouble
from worker.nango.reply import Reply
from worker.store.deletions import pending_removals
from worker.store.hidden import release_announced
from worker.store.lease import Transaction
from worker.store.quarantine import count_quarantined
from worker.store.streams import Stream, load_streams, save_stream
from worker.store.unresolved import any_unresolved, summaries
from worker.sync.opening import mend, open_connection
from worker.sync.plan import Step
from worker.sync.preempt import preemption
from worker.sync.reread import ask, find_doubts, note_checked, take_answers
from worker.sync.session import Session
from worker.sync.streaming import Streaming
from worker.sync.transitions import released
from worker.sync.walk import Ask
from worker.sync.whole import read_returned, read_whole


@dataclass
class Outcome:
    """How far a slice came."""

    streams: dict[str, Stream] = field(default_factory=dict)
    troubles: dict[str, Trouble] = field(default_factory=dict)
    unfinished: bool = False
    """There is more to do at once."""
    spent: Spent | None = None
    """There is more to do once a budget has calls again."""
    quarantined: int = 0
    """Objects that are kept apart."""
    cleaned: int = 0
    """Objects with values that are not stored as they were sent."""
    unresolved: dict[str, str] = field(default_factory=dict)
    """What is set apart as Graph does not answer for it, in a sentence for each stream."""


@dataclass(frozen=True)
class Standing:
    """The streams as committed, and what waits for them: removals, quarantined objects."""

    streams: dict[str, Stream]
    pending: dict[tuple[str, bool], int]
    quarantined: dict[tuple[str, bool], int]
    unresolved: bool
    """Whether Graph does not answer for some parts."""


def standing_of(tx: Transaction) -> Standing:
    """Where a slice begins."""
    pending = pending_removals(tx)
    if pending.get((GROUP_MEMBERS.name, True)) and release_announced(tx):
        pending = pending_removals(tx)
    found = load_streams(tx.connection, tx.connection_id)
    streams = {name: _let_go(tx, stream, pending) for name, stream in found.items()}
    return Standing(streams, pending, count_quarantined(tx), any_unresolved(tx))


def take_slice(session: Session, standing: Standing, *, seconds: float | None = None) -> Outcome:
    """Bring the connection forward for at most ``seconds`` (None: until done).

    Raises Broken, Halt, Fenced, Away, Later (the opening call itself could not be answered).
    """
    streamings = _prepared(session, standing)
    due = [one for one in streamings if one.step is not Step.WAIT]
    if due or session.connection.status is ConnectionStatus.BROKEN:
        _open(session, due)
    if due:
        session.until = None if seconds is None else time.monotonic() + seconds
        session.is_preempted = preemption(session)
        _drive(session, due)
    unfinished = any(one.step is not Step.WAIT for one in streamings)
    troubles = {one.stream.name: one.trouble for one in streamings if one.trouble is not None}
    streams = {one.stream.name: one.stream for one in streamings}
    if due and not unfinished:
        troubles |= _clear_doubts(session, streams)
    spent = next((one for one in troubles.values() if isinstance(one, Spent)), None)
    return Outcome(streams, troubles, unfinished or bool(session.cut_short), spent)


def look_back(tx: Transaction, session: Session, outcome: Outcome) -> None:
    """What has become of held streams and of malformed objects by the end of a slice."""
    if any(stream.is_held for stream in outcome.streams.values()):
        pending = pending_removals(tx)
        outcome.streams = {name: _let_go(tx, one, pending) for name, one in outcome.streams.items()}
    if any(session.quarantined.values()):
        counts = count_quarantined(tx)
        outcome.quarantined = sum(n for (_, apart), n in counts.items() if apart)
        outcome.cleaned = sum(counts.values()) - outcome.quarantined
    if session.unresolved:
        found = summaries(tx.connection, tx.connection_id)
        outcome.unresolved = found.get(tx.connection_id, {})


def _prepared(session: Session, standing: Standing) -> list[Streaming]:
    streamings = []
    session.unresolved = standing.unresolved
    noted = {resource for resource, _ in standing.quarantined}
    for name, stream in standing.streams.items():
        session.quarantined[name] = name in noted
        if not stream.observes(session.began):
            session.late.add(name)
        names = [resource.name for resource in stream.carries]
        waiting = sum(standing.pending.get((one, False), 0) for one in names)
        streamings.append(Streaming(session, stream, waiting, session.began))
    return streamings


def _let_go(tx: Transaction, stream: Stream, pending: Mapping[tuple[str, bool], int]) -> Stream:
    """A held stream goes on once nothing of it waits for an operator any more.

    What was held may have gone with something else: memberships with a member whose own stream
    came to its end later.
    """
    if not stream.is_held or any(pending.get((one.name, True)) for one in stream.carries):
        return stream
    after = released(stream)
    save_stream(tx, stream, after)
    return after


def _open(session: Session, due: list[Streaming]) -> None:
    links = {one.stream.name: one.opening_target() for one in due}
    targets = {name: target for name, target in links.items() if target is not None}
    replies = _opened(session, targets)
    mend(session)
    crash_point("opened")
    for one in due:
        one.opened(replies.get(one.stream.name))


def _opened(session: Session, targets: Mapping[str, str]) -> dict[str, Reply]:
    """The opening call; where it takes too long, the organization only.

    Each page is then asked for by itself, so that the one that takes so long is found.
    """
    try:
        return open_connection(session, targets)
    except Later as trouble:
        if not trouble.slow or not targets:
            raise
    return open_connection(session, {})


class _Driver:
    """Fetches and understands on pools, loads on its own thread; asks no more when time is up."""

    def __init__(self, pool: Executor, calls: Executor, session: Session) -> None:
        self._pool = pool
        self._calls = calls
        self._is_late = session.is_late
        self._gives_way = session.gives_way
        self._running: dict[Future[object], tuple[Streaming, int]] = {}

    def drive(self, due: list[Streaming]) -> None:
        for one in due:
            one.follow = self._follow
            self._submit(one, _guarded(one), anyway=True)
        while self._running:
            finished, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in [one for one in self._running if one in finished]:
                one, generation = self._running.pop(future)
                if generation != one.generation or not self._advance(one, future):
                    self._submit(one, _guarded(one))
            self._gives_way()

    def _advance(self, one: Streaming, future: "Future[object]") -> bool:
        """Ask for the page behind, load the one that came; whether one is on its way."""
        reading_ahead = False
        try:
            result = future.result()
            crash_point("page-fetched")
            reading_ahead = self._submit(one, one.ahead(result))
            one.take(result)
        except Trouble as trouble:
            one.fail(trouble)
        return reading_ahead

    def _submit(self, one: Streaming, asked: Ask | None, *, anyway: bool = False) -> bool:
        """Send an ask; every slice takes each stream at least one step further."""
        if asked is None or (self._is_late() and not anyway):
            return False
        self._running[self._pool.submit(asked)] = (one, one.generation)
        return True

    def _follow(self, call: Callable[[], Reply]) -> "Future[Reply] | None":
        """Send the call for the page behind, before the page in hand is understood."""
        return None if self._is_late() else self._calls.submit(call)


def _drive(session: Session, due: list[Streaming]) -> None:
    number = len(due)
    with (
        ThreadPoolExecutor(number, "fetch") as pool,
        ThreadPoolExecutor(2 * number, "call") as calls,
    ):
        _Driver(pool, calls, session).drive(due)


def _guarded(one: Streaming) -> Ask | None:
    """The next ask; a trouble while preparing it is the stream's own."""
    while True:
        try:
            return one.next_ask()
        except Trouble as trouble:
            one.fail(trouble)


def _clear_doubts(session: Session, streams: dict[str, Stream]) -> dict[str, Trouble]:
    doubts = find_doubts(session, streams)
    try:
        if doubts:
            answers = ask(session.batcher, doubts)
            groups = take_answers(session, doubts, answers, streams)
            read_returned(session, streams["groups"], sorted(answers.crowded))
            streams["groups"] = read_whole(session, streams["groups"], groups)
        note_checked(session, streams["groups"], doubts)
    except Full:
        raise
    except (Later, Refused, Restart) as trouble:
        return {trouble.resource or "group_members": trouble}
    return {}
