"""Reads Nango's budget, which the workers share, for people and metrics."""

from typing import TYPE_CHECKING, Any

from msgspec import structs

from worker.core.key_file import KeyFile
from worker.core.settings import Settings

if TYPE_CHECKING:
    from worker.nango.limiter import RateLimiter


def open_shared_limiter(settings: Settings) -> "RateLimiter | None":
    """Return the limiter, or None if budgets are not shared. Imports Redis only if it is used.

    The caller closes it.
    """
    if settings.redis_url is None or settings.nango_secret_key is None:
        return None
    from worker.nango.limiter import open_limiter

    return open_limiter(settings, settings.nango_secret_key.get_secret_value())


class FollowedLimiter:
    """The limiter of a process that runs for long: that of the key which is in the file now.

    One thread at a time may call ``get``.
    """

    def __init__(self, settings: Settings) -> None:
        self._key_file = KeyFile()
        self._settings = settings
        self._limiter = open_shared_limiter(settings)

    def get(self) -> "RateLimiter | None":
        """Return the limiter, or None if budgets are not shared."""
        key = self._key_file.read_if_changed()
        if key is not None:
            self._settings = structs.replace(self._settings, nango_secret_key=key)
            self.close()
            self._limiter = open_shared_limiter(self._settings)
        return self._limiter

    def close(self) -> None:
        if self._limiter is not None:
            self._limiter.close()


def load_outage(limiter: "RateLimiter") -> dict[str, Any] | None:
    """Return since when Nango is down, and why; None while it works."""
    state, now = limiter.health.read()
    if not state.is_out:
        return None
    seconds = round(max(0.0, now - state.outage_since), 1)
    return {"seconds": seconds, "reason": state.reason}


def load_budget(limiter: "RateLimiter", *, is_set: bool) -> dict[str, Any] | None:
    """Return what is left of this minute's budget; None if nothing is known."""
    account, now = limiter.read_account()
    pause = max(0.0, account.paused_until - now)
    if account.limit is None and not pause:
        return None
    begun = account.calls > 0 or account.window > 0
    return {
        "limit": account.limit,
        "left": account.left if account.limit is not None else None,
        "resets_in_seconds": round(account.resets_at - now, 1) if begun else None,
        "paused_for_seconds": round(pause, 1),
        "source": "set" if is_set else "learnt",
        "calls": {
            "by_hand": account.by_hand,
            "by_clock": account.by_clock,
            "first_loads": account.first_loads,
        },
    }
