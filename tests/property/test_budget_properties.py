"""Whatever is asked for in whatever order: Nango's limit holds, and nobody starves."""

from collections import Counter
from collections.abc import Sequence
from math import floor

from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.run import RunTrigger
from worker.core.net.retry_after import MAX_RETRY_AFTER
from worker.nango.budget import (
    WINDOW,
    AccountBudget,
    BudgetRules,
    ReportedWindow,
    compute_allowance,
    count_dispatched,
    learn_window,
    pause_until,
    spend,
)

MANUAL, SCHEDULED, BACKFILL = RunTrigger.MANUAL, RunTrigger.SCHEDULED, RunTrigger.BACKFILL
START = 1_800_000_000.0
TICK = 1e-5
"""More than what adding seconds to a Unix time rounds away."""
UNDER_WAY = 5

lanes = st.sampled_from(list(RunTrigger))
shares = st.sampled_from([0.0, 0.25, 0.5, 1.0])
instants = st.floats(0, 2)
"""Seconds by which Nango's clock is ahead of ours."""


class Honest:
    """Nango's limiter, which has a clock of its own and tells times in whole seconds."""

    def __init__(self, limit: int, ahead: float) -> None:
        self.limit, self._ahead = limit, ahead
        self.ends = 0.0
        self.calls: Counter[float] = Counter()
        """By the end of their window."""

    def call(self, now: float) -> tuple[int, int]:
        """Count a call: what is left, and the window, as its reply tells."""
        if now >= self.ends:
            self.ends = now + WINDOW
        self.calls[self.ends] += 1
        left = max(0, self.limit - self.calls[self.ends])
        return left, floor(self.ends + self._ahead)

    def told(self, reply: tuple[int, int], now: float) -> ReportedWindow:
        """A reply as it is read when it comes in."""
        left, window = reply
        return ReportedWindow(
            self.limit, left, window, float(window + 1 - floor(now + self._ahead))
        )

    @property
    def refused(self) -> int:
        """The most calls that were one too many in a window."""
        return max(self.calls.values()) - self.limit


Step = tuple[str, object, int]
asks = st.tuples(st.just("ask"), lanes, st.integers(1, 12))
passing = st.tuples(st.just("pass"), st.floats(0, 90), st.just(0))
answers = st.tuples(st.just("answer"), st.none(), st.integers(1, UNDER_WAY))


@given(
    limit=st.integers(1, 30),
    share=shares,
    ahead=instants,
    steps=st.lists(asks | passing, max_size=60),
)
@settings(max_examples=400, deadline=None)
@example(limit=2, share=0.25, ahead=0.9, steps=[("ask", MANUAL, 9), ("pass", 59.5, 0)] * 5)
def test_a_limit_that_was_told_is_never_exceeded(
    limit: int, share: float, ahead: float, steps: Sequence[Step]
) -> None:
    nango, rules, now = Honest(limit, ahead), BudgetRules(first_load_share=share), START
    account = learn_window(AccountBudget(), now, nango.told(nango.call(now), now), rules)
    for _, about, number in steps:
        if isinstance(about, float):
            now += about
        for _ in range(number):
            assert isinstance(about, RunTrigger)
            account, wait = spend(account, now, about, rules)
            if wait == 0:
                account = learn_window(account, now, nango.told(nango.call(now), now), rules)
            elif about is MANUAL:
                assert account.left == 0, "people wait only where nothing is left"
    assert nango.refused <= 0


@given(
    limit=st.integers(3, 30),
    ahead=instants,
    steps=st.lists(asks | passing | answers, max_size=80),
)
@settings(max_examples=400, deadline=None)
def test_no_more_calls_are_refused_than_were_under_way(
    limit: int, ahead: float, steps: Sequence[Step]
) -> None:
    """Replies come late and in any order."""
    nango, rules, now = Honest(limit, ahead), BudgetRules(), START
    account = learn_window(AccountBudget(), now, nango.told(nango.call(now), now), rules)
    under_way: list[tuple[int, int]] = []
    for what, about, number in steps:
        if isinstance(about, float):
            now += about
        for _ in range(number):
            if isinstance(about, RunTrigger):
                account, wait = spend(account, now, about, rules)
                under_way += [nango.call(now)] if wait == 0 else []
            late = what == "answer" and under_way
            if late or len(under_way) > UNDER_WAY:
                reply = under_way.pop(0 if late else -1)
                account = learn_window(account, now, nango.told(reply, now), rules)
    assert nango.refused <= UNDER_WAY


@given(
    limit=st.integers(2, 40),
    share=st.floats(0.01, 1.0),
    windows=st.lists(
        st.lists(st.tuples(lanes, st.integers(1, 30)), min_size=1, max_size=6),
        min_size=1,
        max_size=5,
    ),
)
@settings(max_examples=400, deadline=None)
@example(
    limit=40,
    share=0.25,
    windows=[[(BACKFILL, 30), (SCHEDULED, 30)], [(BACKFILL, 30), (BACKFILL, 30), (SCHEDULED, 30)]],
)
def test_first_loads_have_their_share_of_every_window_and_the_clock_what_it_needed_before(
    limit: int, share: float, windows: Sequence[Sequence[tuple[RunTrigger, int]]]
) -> None:
    """First loads ask in each window; only people may take their share from them."""
    rules, now = BudgetRules(first_load_share=share), START
    nango = Honest(limit, 0.0)
    account = learn_window(AccountBudget(), now, nango.told(nango.call(now), now), rules)
    account, _ = spend(account, now, BACKFILL, rules)
    kept = min(max(1, int(limit * share)), limit - 1)
    needed = 0
    for wishes in windows:
        now = account.resets_at + TICK
        granted: Counter[RunTrigger] = Counter()
        refused: Counter[RunTrigger] = Counter()
        for lane in (BACKFILL, *(lane for lane, number in wishes for _ in range(number))):
            account, wait = spend(account, now, lane, rules)
            (refused if wait else granted)[lane] += 1
            if wait == 0:
                account = learn_window(account, now, nango.told(nango.call(now), now), rules)
        others = granted[SCHEDULED] + granted[MANUAL]
        if refused[BACKFILL]:
            assert granted[BACKFILL] + granted[MANUAL] >= kept
        if refused[SCHEDULED]:
            assert others >= min(needed, limit - kept)
        needed = others + refused[SCHEDULED] + refused[MANUAL]


tellings = st.builds(
    ReportedWindow,
    st.integers(1, 50),
    st.integers(0, 50),
    st.integers(0, 2_000_000_000),
    st.floats(-9, WINDOW),
)
events = st.one_of(
    lanes,
    tellings,
    st.floats(0, 150).map(lambda seconds: ("pass", seconds)),
    st.floats(0, 300).map(lambda seconds: ("pause", seconds)),
    st.integers(0, 50).map(lambda number: ("admit", number)),
)


def after(events: Sequence[object], rules: BudgetRules) -> tuple[AccountBudget, float]:
    """Whatever state the account may be in, and when."""
    account, now = AccountBudget(), START
    for event in events:
        match event:
            case RunTrigger():
                account, _ = spend(account, now, event, rules)
            case ReportedWindow():
                account = learn_window(account, now, event, rules)
            case ("pass", float(seconds)):
                now += seconds
            case ("pause", float(seconds)):
                account = pause_until(account, now + seconds)
            case ("admit", int(number)):
                account = count_dispatched(account, now, rules, number, number // 2)
    return account, now


@given(
    happened=st.lists(events, max_size=60),
    lane=lanes,
    bound=st.none() | st.integers(1, 20),
    share=shares,
)
@settings(max_examples=600, deadline=None)
def test_a_wait_has_an_end_and_is_worth_it(
    happened: Sequence[object], lane: RunTrigger, bound: int | None, share: float
) -> None:
    """Who waits as long as told gets a call, unless others came first."""
    rules = BudgetRules(bound, share)
    account, now = after(happened, rules)
    account, wait = spend(account, now, lane, rules)
    pause = max(0.0, account.paused_until - now)
    assert 0 <= wait <= max(WINDOW, pause) + TICK
    assert wait == 0 or spend(account, now + wait + TICK, lane, rules)[1] == 0


@given(happened=st.lists(events, max_size=60), ahead=st.floats(0, 1e9), lane=lanes, share=shares)
@settings(max_examples=300, deadline=None)
def test_a_clock_that_is_set_back_by_whatever_time_ends_no_service(
    happened: Sequence[object], ahead: float, lane: RunTrigger, share: float
) -> None:
    rules = BudgetRules(first_load_share=share)
    account, now = after(happened, rules)
    _, wait = spend(account, now - ahead, lane, rules)
    assert wait <= MAX_RETRY_AFTER + 3 * WINDOW


@given(happened=st.lists(events, max_size=60), share=shares)
@settings(max_examples=300, deadline=None)
def test_what_is_dispatched_by_the_clock_gets_its_first_call(
    happened: Sequence[object], share: float
) -> None:
    rules = BudgetRules(first_load_share=share)
    account, now = after(happened, rules)
    number = compute_allowance(account, now, SCHEDULED, rules)
    for _ in range(60 if number is None else number):
        account, wait = spend(account, now, SCHEDULED, rules)
        assert wait == 0
