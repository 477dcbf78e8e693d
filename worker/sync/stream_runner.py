"""Run one stream through a slice, step by step, fetching one page ahead.

Each ``Fetch`` runs on a pool thread and only talks to Graph; its result is handled on the loader's
thread, which only talks to Postgres.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from worker.core.errors import MalformedObject, MirrorError, NotLicensed
from worker.core.process.failpoints import hit_failpoint
from worker.nango.response import ApiResponse
from worker.store.state.quarantine import delete_unreadable
from worker.store.state.streams import Stream, save_stream
from worker.store.sweep.seen import delete_seen
from worker.sync.context import SliceContext
from worker.sync.finish.removals import apply_round_removals
from worker.sync.finish.sweep_runner import SweepRunner
from worker.sync.loading.load import load_page
from worker.sync.page_size import grow_page, is_listing_members
from worker.sync.parents import must_wait
from worker.sync.plan import (
    StreamStep,
    choose_step,
    resume_refused,
    should_measure_drift,
    should_retry_left_out,
    should_retry_plain,
)
from worker.sync.recovery import (
    SLICE_ENDING_ERRORS,
    CheckDelta,
    CheckPageSize,
    ContinueFrom,
    FindRefusedProperties,
    RecoveryAction,
    RetryRequest,
    StopStream,
    StreamRecovery,
)
from worker.sync.sources.fetch import FetchedPage, find_opening_path, get_link, prepare_page_fetch
from worker.sync.sources.members import FIRST_MEMBER_LINK
from worker.sync.sources.pages import (
    Fetch,
    build_first_link,
    build_token_path,
    delay_fetch,
    fetch_delta_token,
    fetch_smallest_page,
)
from worker.sync.sources.prefetch import PendingPage, Prefetch, Submit
from worker.sync.sources.property_search import find_refused_properties
from worker.sync.state import return_to_plain, start_walk


class StreamRunner:
    """Runs one stream as far as it gets in a slice, after ``parents`` if it lists what is below."""

    def __init__(
        self,
        context: SliceContext,
        stream: Stream,
        pending_removals: int,
        now: datetime,
        parents: "StreamRunner | None" = None,
    ) -> None:
        self.context = context
        self._parents = parents
        self.stream = stream
        self.pending_removals = pending_removals
        self.generation = 0
        self.error: MirrorError | None = None
        self.submit: Submit = lambda _: None
        self._started_at = now
        self._is_done = False
        self._opening_response: ApiResponse | None = None
        self._pending_round: PendingPage | None = None
        self._on_result: Callable[[object], None] | None = None
        self._sweep_runner: SweepRunner | None = None
        self._pause_seconds = 0.0
        self._is_checking_delta = False
        self._prepare_check: Callable[[], Fetch] | None = None
        self.recovery = StreamRecovery(stream, now)
        self.resume()

    def resume(self) -> bool:
        """Return whether there is something to do now; the stream is ready for it."""
        if self.step is StreamStep.WAIT:
            return False
        stream = replace(resume_refused(self.stream), out_of_budget=False)
        interval = self.context.policy.get_interval(stream)
        stream = self.stream = replace(stream, interval_seconds=interval)
        may_retry = not is_listing_members(stream, self._started_at)
        if may_retry and should_retry_plain(stream, self.context.request):
            self.stream = return_to_plain(stream)
        return True

    @property
    def step(self) -> StreamStep:
        if self._is_done or self._must_wait_for_parents():
            return StreamStep.WAIT
        context = self.context
        return choose_step(
            self.stream, context.request, self._started_at, context.policy, self.pending_removals
        )

    def _must_wait_for_parents(self) -> bool:
        of = self._parents
        if of is None:
            return False
        return must_wait(self.stream, of.stream, are_busy=of.step is not StreamStep.WAIT)

    def build_opening_path(self) -> str | None:
        """Return the path to request for this stream in the opening ``$batch``, if any."""
        step = self._prepare_step()
        if step is StreamStep.TAKE_TOKEN:
            return build_token_path(self.stream)
        if step is StreamStep.START_WALK:
            return find_opening_path(self.stream, build_first_link(self.stream))
        if step is StreamStep.FETCH_PAGE:
            return find_opening_path(self.stream, get_link(self.stream))
        return None

    def accept_opening(self, response: ApiResponse | None) -> None:
        """Accept the response from the opening call.

        A walk begins only now that the tenant is known to be the same: a slice that fails to open
        leaves its streams as they were.
        """
        if self.step is StreamStep.START_WALK:
            self._start_walk(None)
        self._opening_response = response

    def prepare_fetch(self) -> Fetch | None:
        """Do the steps that need no call; return the next fetch, or None if none is left."""
        ask, pause, self._pause_seconds = self._prepare_next(), self._pause_seconds, 0.0
        return ask if ask is None or not pause else delay_fetch(pause, ask)

    def _prepare_step(self) -> StreamStep:
        """Return the next step; before a walk, try larger pages and left-out properties again."""
        context, step = self.context, self.step
        if step in (StreamStep.TAKE_TOKEN, StreamStep.START_WALK):
            self.stream = grow_page(self.stream, self._started_at)
            if should_retry_left_out(
                self.stream, context.request, self._started_at, context.policy
            ):
                self.stream = replace(self.stream, left_out=None)
        return StreamStep.TAKE_TOKEN if self._is_checking_delta else step

    def _prepare_next(self) -> Fetch | None:
        if self._prepare_check is not None:
            return self._prepare_check()
        while not self._is_done and self.stream.name not in self.context.unfinished_streams:
            step = self._prepare_step()
            if step is StreamStep.START_WALK:
                self._start_walk(None)
            elif step is StreamStep.APPLY_REMOVALS:
                self._apply_removals()
            elif step is StreamStep.TAKE_TOKEN:
                return self._prepare_token_fetch()
            elif step is StreamStep.FETCH_PAGE:
                return self._prepare_page_fetch(self.stream)
            elif step is StreamStep.SWEEP:
                return self._prepare_sweep()
            else:
                self._is_done = True
        return None

    def _apply_removals(self) -> None:
        self.stream = apply_round_removals(self.context, self.stream)
        if self.stream.name not in self.context.unfinished_streams:
            hit_failpoint("round-settled")
            self.pending_removals = 0

    def prepare_fetch_ahead(self, result: object) -> Fetch | None:
        """Return the fetch for the page after ``result``, before ``result`` is loaded."""
        if not isinstance(result, FetchedPage) or result.page.next_link in (
            None,
            FIRST_MEMBER_LINK,
        ):
            return None
        later = replace(
            result.stream,
            next_link=result.page.next_link,
            page_no=result.stream.page_no + 1,
            parts=result.definition_ids or result.stream.parts,
        )
        return prepare_page_fetch(self.context, self.submit, later, None, result.pending_page)

    def handle_result(self, result: object) -> None:
        """Commit the result of a fetch."""
        self.recovery.note_success()
        if isinstance(result, FetchedPage):
            self._load(result)
        elif self._on_result is not None:
            answer, self._on_result = self._on_result, None
            answer(result)

    def handle_error(self, error: MirrorError) -> None:
        """Recover from an error of this stream; raise errors that end the slice."""
        error.resource = error.resource or self.stream.name
        self.generation += 1
        if isinstance(error, SLICE_ENDING_ERRORS):
            raise error
        self._is_checking_delta = False
        self._pending_round = self._prepare_check = self._sweep_runner = None
        moment, late = self.context.now, self.context.is_time_up()
        decision = self.recovery.decide(self.stream, error, moment, is_time_up=late)
        self._apply_action(decision, error)

    def _apply_action(self, decision: RecoveryAction, error: MirrorError) -> None:
        match decision:
            case RetryRequest(pause):
                self._pause_seconds = min(pause, self.context.retry_seconds)
                self._opening_response = self._on_result = None
            case CheckDelta():
                self._is_checking_delta = True
            case FindRefusedProperties():
                self._prepare_check = lambda: self._prepare_property_search(error)
            case CheckPageSize():
                self._prepare_check = lambda: self._prepare_size_check(error)
            case ContinueFrom(after):
                self._save(after, forget_seen_rows=after.walk_id != self.stream.walk_id)
            case StopStream(after):
                self._stop(after, error)
            case _:
                assert_never(decision)

    def _prepare_page_fetch(self, stream: Stream) -> Fetch:
        opened, self._opening_response = self._opening_response, None
        coming, self._pending_round = self._pending_round, None
        return prepare_page_fetch(self.context, self.submit, stream, opened, coming)

    def _prepare_token_fetch(self) -> Fetch:
        opened, self._opening_response = self._opening_response, None
        stream, client = self.stream, self.context.client
        probing, self._is_checking_delta = self._is_checking_delta, False
        self._on_result = lambda token: (self._handle_token if probing else self._start_walk)(
            str(token)
        )
        return lambda: fetch_delta_token(client, stream, opened)

    def _prepare_property_search(self, refusal: MirrorError) -> Fetch:
        client, stream = self.context.client, self.stream

        def answer(names: object) -> None:
            assert isinstance(names, list)
            self._prepare_check = None
            if names:
                self._apply_action(self.recovery.leave_out(stream, names), refusal)
            else:
                self.handle_error(refusal)

        self._on_result = answer
        return lambda: find_refused_properties(client, stream)

    def _prepare_size_check(self, slow: MirrorError) -> Fetch:
        client, stream = self.context.client, self.stream

        def answer(_: object) -> None:
            self._prepare_check = None
            moment = self.context.now
            self._apply_action(self.recovery.shrink_pages(stream, slow, moment), slow)

        self._on_result = answer
        return lambda: fetch_smallest_page(client, stream)

    def _prepare_sweep(self) -> Fetch | None:
        if self._sweep_runner is None:
            coming = self._prefetch_first_round()
            self._sweep_runner = SweepRunner.start(self.context, self.stream)
            if self._sweep_runner is None:
                return None
            self._pending_round = None if self._sweep_runner.has_candidates else coming
            self.stream = self._sweep_runner.stream
        self._on_result = self._handle_confirmation
        return self._sweep_runner.confirm

    def _prefetch_first_round(self) -> PendingPage | None:
        """Prefetch the round after a first load, while the sweep is likely to find nothing."""
        stream = self.stream
        leads_on = stream.is_initial and not stream.incomplete and stream.source.takes_token
        if not leads_on or stream.delta_link is None:
            return None
        return Prefetch(self.context.client, self.submit).send(stream.delta_link)

    def _start_walk(self, token: str | None) -> None:
        """Commit the token that covers the walk before the walk's first page is requested."""
        context = self.context
        tells = should_measure_drift(self.stream, context.request, self._started_at, context.policy)
        # What lists are below may have been stored since the slice began.
        moment = context.now if self.stream.source.below else context.started_at
        after = start_walk(self.stream, moment, token, is_drift_measured=tells)
        with self.context.open_transaction() as tx:
            delete_seen(tx, self.stream.carried_resources)
            if context.has_quarantined.get(self.stream.name, True):
                delete_unreadable(tx, self.stream.resource)
            save_stream(tx, self.stream, after)
        self.stream = after
        hit_failpoint("walk-begun")

    def _handle_token(self, token: str) -> None:
        """Keep the refused cursor or start a full walk: the tenant does offer delta."""
        decision = self.recovery.accept_token(self.stream)
        if decision is None:
            self._start_walk(token if self.stream.source.takes_token else None)
        else:
            self._stop(*decision)

    def _handle_confirmation(self, confirmed: object) -> None:
        sweep = self._sweep_runner
        assert sweep is not None
        try:
            if sweep.apply(confirmed):
                self.pending_removals, self._sweep_runner = 0, None
        finally:
            self.stream = sweep.stream
        if sweep.is_incomplete:
            self.error, self._is_done = MalformedObject(self.stream.reason or ""), True

    def _load(self, read: FetchedPage) -> None:
        behind = (
            self.stream
            if read.definition_ids is None
            else replace(self.stream, parts=read.definition_ids)
        )
        waiting = self.pending_removals > 0 or self.stream.is_held
        self.stream = load_page(
            self.context, behind, read.page, read.encoded_rows, has_pending_removals=waiting
        )
        self.pending_removals += read.page.removal_count

    def _stop(self, after: Stream, error: MirrorError) -> None:
        self._save(after)
        # A run that lacks only what the tenant has no licence for succeeds.
        self.error = None if isinstance(error, NotLicensed) else error
        self._is_done = True

    def _save(self, after: Stream, *, forget_seen_rows: bool = False) -> None:
        with self.context.open_transaction() as tx:
            if forget_seen_rows:
                delete_seen(tx, self.stream.carried_resources)
            save_stream(tx, self.stream, after)
        self.stream, self._opening_response, self._on_result = after, None, None
