"""Nango's account-wide budget of calls, as pure functions of a small state.

Nango gives an account a number of calls in a fixed window of a minute, across all keys, connections
and endpoints, and reports on every response how many are left. A share is reserved for first loads
so that they progress; the rest is for scheduled syncs, and people's commands come first.
https://nango.dev/docs/implementation-guides/platform/rate-limits
"""

from dataclasses import dataclass, replace
from typing import Final

from models.run import RunTrigger
from worker.core.net.retry_after import MAX_RETRY_AFTER

WINDOW: Final = 60.0
"""Length in seconds of Nango's fixed window."""


@dataclass(frozen=True)
class BudgetRules:
    """The operator's settings: our own limit on calls a minute, the share for first loads."""

    calls_per_minute: int | None = None
    first_load_share: float = 0.25


@dataclass(frozen=True)
class ReportedWindow:
    """The window that a call was counted in, as its response reported it."""

    limit: int
    left: int
    window: int
    """The second at which it ends by Nango's clock; identifies the window."""
    seconds: float
    """The most seconds that it lasts from now; 0 or less if it is over."""


@dataclass(frozen=True)
class AccountBudget:
    """The known state of the account's window. Times are Unix seconds.

    ``limit`` is None until a response has reported it; until then no call waits.
    """

    limit: int | None = None
    left: int = 0
    resets_at: float = 0.0
    window: int = 0
    """Nango's id of this window; 0 until a response has reported it."""
    window_before: int = 0
    paused_until: float = 0.0
    by_hand: int = 0
    by_clock: int = 0
    first_loads: int = 0
    """Calls in this window: of people and discovery, of scheduled syncs, of first loads."""
    others_before: int = 0
    """Calls that all but first loads needed in the previous window."""
    waited: int = 0
    """Calls of all but first loads that had to wait in this window."""
    undispatched: int = 0
    """The most due connections that the dispatcher could not dispatch."""
    wanted_at: float = 0.0
    """The last time a first load asked for a call."""
    admitted: int = 0
    """Scheduled connections that the dispatcher dispatched in this window."""

    @property
    def non_backfill(self) -> int:
        return self.by_hand + self.by_clock

    @property
    def calls(self) -> int:
        return self.non_backfill + self.first_loads


def roll_window(account: AccountBudget, now: float, rules: BudgetRules) -> AccountBudget:
    """Return the state at ``now``: a new window if the last one is over.

    A time further away than the longest window or pause came from a clock that was set back since,
    and is ignored. If no response of a whole window reported a limit, Nango no longer has one.
    """
    if account.paused_until > now + MAX_RETRY_AFTER + WINDOW:
        account = replace(account, paused_until=0.0)
    if account.wanted_at > now:
        account = replace(account, wanted_at=now)
    if now < account.resets_at <= now + 3 * WINDOW:
        return account
    limit = rules.calls_per_minute
    if limit is None and (account.window or not account.calls):
        limit = account.limit
    after = _start_window(account, rules, limit, resets_at=now + WINDOW)
    recent = account.resets_at <= now < account.resets_at + WINDOW
    return after if recent else replace(after, others_before=0)


def _start_window(
    account: AccountBudget, rules: BudgetRules, limit: int | None, *, resets_at: float
) -> AccountBudget:
    """Return the next window, with all of its calls left."""
    needed = account.non_backfill
    if account.limit is not None:
        wanted = needed + account.waited + account.undispatched
        needed = max(needed, min(wanted, account.limit - _compute_share(account.limit, rules)))
    return AccountBudget(
        limit=limit,
        left=limit or 0,
        resets_at=resets_at,
        window_before=account.window,
        paused_until=account.paused_until,
        others_before=needed,
        wanted_at=account.wanted_at,
    )


def spend(
    account: AccountBudget, now: float, lane: RunTrigger, rules: BudgetRules
) -> tuple[AccountBudget, float]:
    """Book one call, or book nothing and return the seconds after which to ask again."""
    account = roll_window(account, now, rules)
    if lane is RunTrigger.BACKFILL:
        account = replace(account, wanted_at=now)
    wait = max(0.0, account.paused_until - now)
    if account.limit is not None and account.left <= _compute_reserved(account, now, lane, rules):
        wait = max(wait, account.resets_at - now)
        account = replace(account, waited=account.waited + (lane is not RunTrigger.BACKFILL))
    return (account, wait) if wait > 0 else (_book_call(account, lane), 0.0)


def _book_call(account: AccountBudget, lane: RunTrigger) -> AccountBudget:
    account = replace(account, left=max(0, account.left - 1))
    match lane:
        case RunTrigger.MANUAL:
            return replace(account, by_hand=account.by_hand + 1)
        case RunTrigger.SCHEDULED:
            return replace(account, by_clock=account.by_clock + 1)
        case RunTrigger.BACKFILL:
            return replace(account, first_loads=account.first_loads + 1)


def _compute_share(limit: int, rules: BudgetRules) -> int:
    """Return the calls of a window reserved for first loads: at least one, and never all."""
    if rules.first_load_share <= 0:
        return 0
    return min(max(1, int(limit * rules.first_load_share)), limit - 1)


def _compute_reserved(
    account: AccountBudget, now: float, lane: RunTrigger, rules: BudgetRules
) -> int:
    """Return the calls that this lane must leave for the others: never all, so that none starves.

    A waiting first load asks again in the next window, so requests count for two windows.
    """
    limit = max(1, account.limit or 0)
    share, kept = _compute_share(limit, rules), 0
    if lane is RunTrigger.BACKFILL and account.first_loads >= share:
        kept = account.others_before - account.non_backfill
    elif lane is RunTrigger.SCHEDULED and now - account.wanted_at <= 2 * WINDOW:
        kept = share - account.first_loads
    return min(max(kept, 0), limit - 1)


def learn_window(
    account: AccountBudget, now: float, reported: ReportedWindow, rules: BudgetRules
) -> AccountBudget:
    """Update the state from a response: the limit, the calls left, and the end of the window.

    The lower of Nango's and our count is used: calls under way are not in Nango's yet, and others
    may use the account, too. A late response about an earlier window is ignored. An operator's own
    limit keeps its window, unless Nango reports that no calls are left.
    """
    account = roll_window(account, now, rules)
    ends = now + min(reported.seconds, 2 * WINDOW)
    if reported.seconds <= 0 or reported.window < _find_oldest_window(account):
        return account
    if rules.calls_per_minute:
        return account if reported.left else pause_until(account, ends)
    if not account.window:
        left = min(reported.left, _estimate_left(account, reported))
        named = replace(account, window=reported.window, resets_at=ends)
        return replace(named, limit=reported.limit, left=left)
    if reported.window > account.window + 1 or reported.limit != account.limit:
        after = _start_window(account, rules, reported.limit, resets_at=ends)
        return replace(after, window=reported.window, left=min(reported.left, reported.limit))
    left = min(account.left, reported.left)
    return replace(account, left=left, resets_at=min(account.resets_at, ends))


def _find_oldest_window(account: AccountBudget) -> int:
    """Return the earliest reported window that may be this one, allowing for rounding."""
    if account.window:
        return account.window - 1
    return account.window_before + 2 if account.window_before else 0


def _estimate_left(account: AccountBudget, window: ReportedWindow) -> int:
    """Return the calls left, less those under way, which Nango has not counted yet."""
    if account.limit == window.limit:
        return account.left
    free = window.limit - account.calls
    return free if free > 0 else window.left


def pause_until(account: AccountBudget, until: float) -> AccountBudget:
    """Allow no call before ``until``."""
    return replace(account, paused_until=max(account.paused_until, until))


def compute_allowance(
    account: AccountBudget, now: float, lane: RunTrigger, rules: BudgetRules
) -> int | None:
    """Return how many more connections of a lane may be dispatched; None for all that are due.

    A dispatched connection that has not called yet counts as one call.
    """
    account = roll_window(account, now, rules)
    if now < account.paused_until:
        return 0
    if account.limit is None:
        return None
    free = max(0, account.left - _compute_reserved(account, now, lane, rules))
    if lane is RunTrigger.SCHEDULED:
        return max(0, free - max(0, account.admitted - account.by_clock))
    return free


def count_dispatched(
    account: AccountBudget, now: float, rules: BudgetRules, number: int, waiting: int
) -> AccountBudget:
    """Record that ``number`` scheduled connections were dispatched.

    ``waiting`` more were due, but exceeded the allowance.
    """
    account = roll_window(account, now, rules)
    most = max(account.undispatched, waiting)
    return replace(account, admitted=account.admitted + number, undispatched=most)
