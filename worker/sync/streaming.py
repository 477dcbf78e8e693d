"""One stream's way through a slice: from step to step, reading ahead by one page.

``ask`` runs on a thread of the pool and only talks to Graph; ``answer`` runs on the loader's
thread and only talks to Postgres.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from models.stream import Mode
from worker.core.crash import crash_point
from worker.core.errors import Away, Broken, Fenced, Full, Halt, Outage, Reject, Trouble
from worker.graph.links import target_of
from worker.nango.reply import Reply
from worker.store.quarantine import forget_unreadable
from worker.store.seen import forget_seen
from worker.store.streams import Stream, save_stream
from worker.sync.fetch import Read, link_of, page_ask
from worker.sync.members import FIRST, place_of
from worker.sync.onward import Coming, Follow, Onward
from worker.sync.page import load_page
from worker.sync.page_size import grown, reads_members_apart
from worker.sync.plan import Step, allowed_again, compares, next_step, tries_all, tries_plain
from worker.sync.recovery import (
    AskForOne,
    AskForToken,
    Decision,
    FindProperties,
    GoOn,
    Recovery,
    Stop,
    TryAgain,
)
from worker.sync.session import Session
from worker.sync.settle import settle_round
from worker.sync.sweeping import Sweeping
from worker.sync.transitions import begun, tried_plain
from worker.sync.walk import (
    Ask,
    after_pause,
    find_unknown,
    first_link,
    read_one,
    read_token,
    token_target,
)

NOT_FOR_GOOD = (Halt, Broken, Fenced, Away, Full, Outage)
"""Troubles that are not about one stream: they end the slice."""


class Streaming:
    """Takes one stream as far as it goes."""

    def __init__(self, session: Session, stream: Stream, pending: int, now: datetime) -> None:
        self.session = session
        self.stream = stream
        self.pending = pending
        self.generation = 0
        self.trouble: Trouble | None = None
        self.follow: Follow = lambda _: None
        self._now = now
        self._done = False
        self._opened: Reply | None = None
        self._round: Coming | None = None
        self._answer: Callable[[object], None] | None = None
        self._sweep: Sweeping | None = None
        self._pause = 0.0
        self._asks_for_token = False
        self._question: Callable[[], Ask] | None = None
        self.recovery = Recovery(stream, now)
        if self.step is not Step.WAIT:
            stream = replace(allowed_again(stream), out_of_budget=False)
            interval = session.policy.interval(stream)
            stream = self.stream = replace(stream, interval_seconds=interval)
            if tries_plain(stream, session.order) and not reads_members_apart(stream, now):
                self.stream = tried_plain(stream)

    @property
    def step(self) -> Step:
        if self._done:
            return Step.WAIT
        session = self.session
        return next_step(self.stream, session.order, self._now, session.policy, self.pending)

    def opening_target(self) -> str | None:
        """What the opening ``$batch`` can bring for this stream."""
        step = self._coming_step()
        if step is Step.TOKEN:
            return token_target(self.stream)
        if step not in (Step.BEGIN, Step.PAGE) or self.stream.mode is Mode.BY_DEFINITION:
            return None
        link = first_link(self.stream) if step is Step.BEGIN else link_of(self.stream)
        return None if place_of(link) else target_of(link)

    def opened(self, reply: Reply | None) -> None:
        """The answer that the opening call brought.

        A walk begins only now that the tenant is known to be the same: a slice that could not
        begin leaves its streams as they were.
        """
        if self.step is Step.BEGIN:
            self._begin(None)
        self._opened = reply

    def next_ask(self) -> Ask | None:
        """Do what needs no call, then say what to ask next; None where nothing is left."""
        ask, pause, self._pause = self._next_ask(), self._pause, 0.0
        return ask if ask is None or not pause else after_pause(pause, ask)

    def _coming_step(self) -> Step:
        """The next step; a walk tries larger pages, and a regular one what was left out."""
        session, step = self.session, self.step
        if step in (Step.TOKEN, Step.BEGIN):
            self.stream = grown(self.stream, self._now)
            if tries_all(self.stream, session.order, self._now, session.policy):
                self.stream = replace(self.stream, left_out=None)
        return Step.TOKEN if self._asks_for_token else step

    def _next_ask(self) -> Ask | None:
        if self._question is not None:
            return self._question()
        while not self._done and self.stream.name not in self.session.cut_short:
            step = self._coming_step()
            if step is Step.BEGIN:
                self._begin(None)
            elif step is Step.SETTLE:
                self._settle()
            elif step is Step.TOKEN:
                return self._ask_token()
            elif step is Step.PAGE:
                return self._ask_page(self.stream)
            elif step is Step.SWEEP:
                return self._ask_sweep()
            else:
                self._done = True
        return None

    def _settle(self) -> None:
        self.stream = settle_round(self.session, self.stream)
        if self.stream.name not in self.session.cut_short:
            crash_point("round-settled")
            self.pending = 0

    def ahead(self, result: object) -> Ask | None:
        """The ask for the page behind the one that just came, before that is loaded."""
        if not isinstance(result, Read) or result.page.next_link in (None, FIRST):
            return None
        later = replace(
            result.stream,
            next_link=result.page.next_link,
            page_no=result.stream.page_no + 1,
            parts=result.parts or result.stream.parts,
        )
        return page_ask(self.session, self.follow, later, None, result.coming)

    def take(self, result: object) -> None:
        """Commit what an ask brought."""
        self.recovery.note_success()
        if isinstance(result, Read):
            self._load(result)
        elif self._answer is not None:
            answer, self._answer = self._answer, None
            answer(result)

    def fail(self, trouble: Trouble) -> None:
        """What a trouble means for this stream alone; others are raised again."""
        trouble.resource = trouble.resource or self.stream.name
        self.generation += 1
        if isinstance(trouble, NOT_FOR_GOOD):
            raise trouble
        self._asks_for_token = False
        self._round = self._question = self._sweep = None
        moment, late = self.session.moment, self.session.is_late()
        decision = self.recovery.decide(self.stream, trouble, moment, late=late)
        self._follow_decision(decision, trouble)

    def _follow_decision(self, decision: Decision, trouble: Trouble) -> None:
        match decision:
            case TryAgain(pause):
                self._pause = min(pause, self.session.retry_seconds)
                self._opened = self._answer = None
            case AskForToken():
                self._asks_for_token = True
            case FindProperties():
                self._question = lambda: self._ask_for_properties(trouble)
            case AskForOne():
                self._question = lambda: self._ask_for_one(trouble)
            case GoOn(after):
                self._save(after, afresh=after.walk_id != self.stream.walk_id)
            case Stop(after):
                self._park(after, trouble)
            case _:
                assert_never(decision)

    def _ask_page(self, stream: Stream) -> Ask:
        opened, self._opened = self._opened, None
        coming, self._round = self._round, None
        return page_ask(self.session, self.follow, stream, opened, coming)

    def _ask_token(self) -> Ask:
        opened, self._opened = self._opened, None
        stream, batcher = self.stream, self.session.batcher
        probing, self._asks_for_token = self._asks_for_token, False
        self._answer = lambda token: (self._take_token if probing else self._begin)(str(token))
        return lambda: read_token(batcher, stream, opened)

    def _ask_for_properties(self, refusal: Trouble) -> Ask:
        batcher, stream = self.session.batcher, self.stream

        def answer(names: object) -> None:
            assert isinstance(names, list)
            self._question = None
            if names:
                self._follow_decision(self.recovery.leave_out(stream, names), refusal)
            else:
                self.fail(refusal)

        self._answer = answer
        return lambda: find_unknown(batcher, stream)

    def _ask_for_one(self, slow: Trouble) -> Ask:
        batcher, stream = self.session.batcher, self.stream

        def answer(_: object) -> None:
            self._question = None
            moment = self.session.moment
            self._follow_decision(self.recovery.one_was_answered(stream, slow, moment), slow)

        self._answer = answer
        return lambda: read_one(batcher, stream)

    def _ask_sweep(self) -> Ask | None:
        if self._sweep is None:
            coming = self._round_ahead()
            self._sweep = Sweeping.begin(self.session, self.stream)
            if self._sweep is None:
                return None
            self._round = None if self._sweep.has_candidates else coming
            self.stream = self._sweep.stream
        self._answer = self._take_confirmed
        return self._sweep.ask

    def _round_ahead(self) -> Coming | None:
        """The round behind a first load, asked for while nothing is likely to be swept."""
        stream = self.stream
        leads_on = stream.initial and not stream.incomplete and not stream.resource.children
        if not leads_on or stream.delta_link is None:
            return None
        return Onward(self.session.batcher, self.follow).ask(stream.delta_link)

    def _begin(self, token: str | None) -> None:
        """A token that covers the walk is committed before the walk's first page is sent."""
        session = self.session
        tells = compares(self.stream, session.order, self._now, session.policy)
        after = begun(self.stream, session.began, token, compares=tells)
        with self.session.writing() as tx:
            forget_seen(tx, self.stream.carries)
            forget_unreadable(tx, self.stream.resource)
            save_stream(tx, self.stream, after)
        self.stream = after
        crash_point("walk-begun")

    def _take_token(self, token: str) -> None:
        """The tenant offers delta, but refuses the cursor: it is kept, or replaced by a walk."""
        decision = self.recovery.token_given(self.stream)
        if decision is None:
            self._begin(None if self.stream.resource.children else token)
        else:
            self._park(*decision)

    def _take_confirmed(self, confirmed: object) -> None:
        sweep = self._sweep
        assert sweep is not None
        try:
            if sweep.take(confirmed):
                self.pending, self._sweep = 0, None
        finally:
            self.stream = sweep.stream
        if sweep.incomplete:
            self.trouble, self._done = Reject(self.stream.reason or ""), True

    def _load(self, read: Read) -> None:
        behind = self.stream if read.parts is None else replace(self.stream, parts=read.parts)
        waiting = self.pending > 0 or self.stream.is_held
        self.stream = load_page(self.session, behind, read.page, withdraw=waiting)
        self.pending += len(read.page.removed) + len(read.page.edges_removed)

    def _park(self, after: Stream, trouble: Trouble) -> None:
        self._save(after)
        self.trouble, self._done = trouble, True

    def _save(self, after: Stream, *, afresh: bool = False) -> None:
        with self.session.writing() as tx:
            if afresh:
                forget_seen(tx, self.stream.carries)
            save_stream(tx, self.stream, after)
        self.stream, self._opened, self._answer = after, None, None
