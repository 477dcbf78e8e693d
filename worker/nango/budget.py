"""Nango's account-wide budget of calls, as decisions about a small state. Pure.

Nango gives an account a number of calls in a fixed window of a minute, whatever the key, the
connection or the endpoint, and says on every reply how many are left. First loads keep a share of
it so that they come forward; the rest is for what is due by the clock, and people come first.
https://nango.dev/docs/implementation-guides/platform/rate-limits
"""

from dataclasses import dataclass, replace
from typing import Final

from models.run import RunTrigger

WINDOW: Final = 60.0
"""Seconds of Nango's fixed window."""


@dataclass(frozen=True)
class Rules:
    """What an operator sets: our own bound on calls a minute, the share kept for first loads."""

    calls_per_minute: int | None = None
    first_load_share: float = 0.25


@dataclass(frozen=True)
class Account:
    """What is known of the account's window. Times are Unix seconds.

    ``limit`` is None until a reply has told it; then nothing is held back.
    """

    limit: int | None = None
    left: int = 0
    resets_at: float = 0.0
    paused_until: float = 0.0
    first_loads: int = 0
    """Calls of first loads in this window."""
    others: int = 0
    others_before: int = 0
    """Calls of all others in this window, and in the one before."""
    wanted_at: float = 0.0
    """When a first load last asked for a call."""
    admitted: int = 0
    """Connections that the dispatcher sent on their way in this window."""


def turned(account: Account, now: float, rules: Rules) -> Account:
    """The state at ``now``: a new window where the last one is over."""
    limit = rules.calls_per_minute or account.limit
    if now < account.resets_at:
        return account if limit == account.limit else replace(account, limit=limit)
    recent = now < account.resets_at + WINDOW
    return Account(
        limit=limit,
        left=limit or 0,
        resets_at=now + WINDOW,
        paused_until=account.paused_until,
        others_before=account.others if recent else 0,
        wanted_at=account.wanted_at,
    )


def spend(account: Account, now: float, lane: RunTrigger, rules: Rules) -> tuple[Account, float]:
    """Take one call out of the budget, or the seconds after which to ask again (nothing taken)."""
    account = turned(account, now, rules)
    if lane is RunTrigger.BACKFILL:
        account = replace(account, wanted_at=now)
    if now < account.paused_until:
        return account, account.paused_until - now
    if account.limit is not None and account.left <= _kept(account, now, lane, rules):
        return account, account.resets_at - now
    return _booked(account, lane), 0.0


def _booked(account: Account, lane: RunTrigger) -> Account:
    left = max(0, account.left - 1)
    if lane is RunTrigger.BACKFILL:
        return replace(account, left=left, first_loads=account.first_loads + 1)
    return replace(account, left=left, others=account.others + 1)


def _kept(account: Account, now: float, lane: RunTrigger, rules: Rules) -> int:
    """Calls that this lane must leave for the other ones."""
    share = int((account.limit or 0) * rules.first_load_share)
    if lane is RunTrigger.MANUAL:
        return 0
    if lane is RunTrigger.BACKFILL:
        if account.first_loads < share:
            return 0
        return max(0, account.others_before - account.others)
    if now - account.wanted_at > WINDOW:
        return 0
    return max(0, share - account.first_loads)


def learn(
    account: Account, now: float, rules: Rules, *, limit: int, left: int, seconds: float
) -> Account:
    """Take in what a reply told: the limit, what is left of it, and when the window ends.

    The lower of the two counts stands: calls under way are not in Nango's yet, and others may
    use the account beside us. An operator's own bound keeps its window, but not against Nango's
    word that nothing is left.
    """
    account = turned(account, now, rules)
    ends = now + min(max(seconds, 0.0), 2 * WINDOW)
    if rules.calls_per_minute:
        return (
            replace(account, paused_until=max(account.paused_until, ends)) if not left else account
        )
    if abs(ends - account.resets_at) > 2.0 or limit != account.limit:
        return replace(account, limit=limit, left=left, resets_at=ends)
    return replace(account, left=left) if left < account.left else account


def paused(account: Account, until: float) -> Account:
    """Nobody asks before ``until``."""
    return replace(account, paused_until=max(account.paused_until, until))


def allowance(account: Account, now: float, rules: Rules) -> int | None:
    """How many more connections may be sent on their way now; None: as many as are due.

    One that is under way but has not called yet counts as a call to come.
    """
    account = turned(account, now, rules)
    if now < account.paused_until:
        return 0
    if account.limit is None:
        return None
    coming = max(0, account.admitted - account.others - account.first_loads)
    return max(0, account.left - coming)


def admitted(account: Account, now: float, rules: Rules, number: int) -> Account:
    """Note that the dispatcher sent ``number`` connections on their way."""
    account = turned(account, now, rules)
    return replace(account, admitted=account.admitted + number)
