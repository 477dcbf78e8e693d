"""The rate limiter in front of every call: two kinds of budgets that all workers share.

Nango's account-wide budget (``budget``), and for each connection the pauses that Graph asks for,
one for each of its services (``throttle_policy``). A throttled customer never slows another one
down.
"""

import hashlib
import random
from collections.abc import Callable, Collection, Iterable
from typing import Final

import msgspec

from models.run import RunTrigger
from worker.conditions.reasons import BUDGET_SPENT, SLOWED_DOWN
from worker.core.net.retry_after import MAX_RETRY_AFTER, parse_http_date
from worker.core.settings import Settings
from worker.nango.budget import (
    WINDOW,
    AccountBudget,
    BudgetRules,
    ReportedWindow,
    compute_allowance,
    count_dispatched,
    learn_window,
    pause_until,
    roll_window,
    spend,
)
from worker.nango.health import NangoHealth
from worker.nango.kv_store import InMemoryStore, KeyValueStore, RedisStore
from worker.nango.response import ApiResponse

AccountUpdate = Callable[[AccountBudget, float], AccountBudget]

SHORTAGE_TTL: Final = 150
"""Seconds for which a shortage is reported after its last occurrence; retries come each minute."""

_ACCOUNT_TTL: Final = 3600
_SHORTAGE_KEY: Final = "shortage"


class RateLimiter:
    """Decides when the next call may go out, and learns from every response."""

    def __init__(
        self,
        store: KeyValueStore | None = None,
        *,
        account: str = "",
        rules: BudgetRules | None = None,
    ) -> None:
        self._ledger = store or InMemoryStore()
        self._rules = rules or BudgetRules()
        self._account = f"account:{_hash_text(f'{account} {self._rules.calls_per_minute}')}"
        self.fingerprint = _hash_text(account)
        """A hash of the address and the key, neither of which may be written."""
        self.health = NangoHealth(self._ledger, f"nango:{self.fingerprint}")

    def close(self) -> None:
        self._ledger.close()

    def try_acquire(self, connection: str, service: str, lane: RunTrigger) -> tuple[float, str]:
        """Book one call and return 0, or book nothing and return the wait in seconds and why."""
        pause = _build_pause_key(connection, service)
        while True:
            now, (held, until) = self._ledger.read([self._account, pause])
            left = _decode_pause(until, now)
            if left > 0:
                return left, f"{SLOWED_DOWN} ({service})"
            before = _decode_account(held)
            after, seconds = spend(before, now, lane, self._rules)
            if after == before or self._save(held, after, now):
                return seconds, BUDGET_SPENT

    def learn_window(self, response: ApiResponse, wall: float) -> None:
        """Learn from Nango's rate limit headers, which Graph's responses carry, too."""
        window = _parse_window(response, wall)
        if window is not None:
            self._update(lambda account, now: learn_window(account, now, window, self._rules))

    def pause_account(self, seconds: float) -> None:
        """Pause all calls after Nango's own 429."""
        self._update(lambda account, now: pause_until(account, now + seconds + random.random()))

    def pause_connection(self, connection: str, service: str, seconds: float) -> None:
        """Pause a customer's calls of one service; a longer pause stays. 0 for no pause."""
        if seconds <= 0:
            return
        key = _build_pause_key(connection, service)
        while True:
            now, (held,) = self._ledger.read([key])
            until = now + min(seconds, MAX_RETRY_AFTER)
            if until <= now + _decode_pause(held, now):
                return
            lives = max(1, int(until - now) + 1)
            if self._ledger.compare_and_swap(key, held, repr(until).encode(), lives):
                return

    def read_pauses(
        self, connections: Iterable[str], services: Collection[str]
    ) -> dict[str, dict[str, float]]:
        """Return the seconds for which Graph pauses these connections, by service."""
        keys = {
            _build_pause_key(address, service): (address, service)
            for address in connections
            for service in services
        }
        now, values = self._ledger.read(list(keys)) if keys else (0.0, [])
        pauses: dict[str, dict[str, float]] = {}
        for (address, service), held in zip(keys.values(), values, strict=True):
            if (left := _decode_pause(held, now)) > 0:
                pauses.setdefault(address, {})[service] = left
        return pauses

    def read_allowance(self, lane: RunTrigger) -> int | None:
        """Return how many connections of a lane may be dispatched; None for all that are due."""
        now, (held,) = self._ledger.read([self._account])
        return compute_allowance(_decode_account(held), now, lane, self._rules)

    def count_dispatched(self, number: int, waiting: int) -> None:
        """Record how many due connections were dispatched, and how many had to wait."""
        if number or waiting:
            self._update(lambda a, now: count_dispatched(a, now, self._rules, number, waiting))

    def read_account(self) -> tuple[AccountBudget, float]:
        """Return the state of Nango's budget and the time it was read, for people."""
        now, (held,) = self._ledger.read([self._account])
        return roll_window(_decode_account(held), now, self._rules), now

    def note_shortage(self, reason: str) -> None:
        """Record that a disk, or the memory of a server, is full."""
        _, (held,) = self._ledger.read([_SHORTAGE_KEY])
        self._ledger.compare_and_swap(
            _SHORTAGE_KEY, held, reason.encode(errors="replace"), SHORTAGE_TTL
        )

    def read_shortage(self) -> str | None:
        """Return the shortage recorded within the last minutes, or None."""
        _, (held,) = self._ledger.read([_SHORTAGE_KEY])
        return None if held is None else held.decode(errors="replace")

    def find_write_error(self) -> str | None:
        """Return why the shared budgets cannot be written; None while they can."""
        return self._ledger.find_write_error()

    def _update(self, change: AccountUpdate) -> None:
        while True:
            now, (held,) = self._ledger.read([self._account])
            before = _decode_account(held)
            after = change(before, now)
            if after == before or self._save(held, after, now):
                return

    def _save(self, held: bytes | None, after: AccountBudget, now: float) -> bool:
        """Save the state, for as long as its pause if that exceeds the usual hour."""
        lives = _ACCOUNT_TTL + int(max(0.0, after.paused_until - now))
        return self._ledger.compare_and_swap(self._account, held, msgspec.json.encode(after), lives)


def open_limiter(settings: Settings, key: str) -> RateLimiter:
    """Return the limiter; its budgets are shared through Redis if a URL is set."""
    address = settings.redis_url
    rules = BudgetRules(settings.nango_calls_per_minute, settings.first_load_percent / 100)
    store = InMemoryStore() if address is None else RedisStore(address.get_secret_value())
    return RateLimiter(store, account=f"{settings.nango_host} {key}", rules=rules)


def _parse_window(response: ApiResponse, wall: float) -> ReportedWindow | None:
    """Return the window that Nango's headers report, or None if they make no sense.

    Both times are whole seconds, so the latest possible end is used. Time is that of the response's
    Date; our clock only if that is missing or does not fit the window.
    """
    limit, left = (
        response.get_number("x-ratelimit-limit"),
        response.get_number("x-ratelimit-remaining"),
    )
    reset = response.get_number("x-ratelimit-reset")
    if limit is None or left is None or reset is None or limit < 1:
        return None
    there = parse_http_date(response.headers.get("date"))
    clocks = [wall] if there is None else [there, wall]
    lasting = [int(reset) + 1 - int(clock) for clock in clocks]
    seconds = next((one for one in lasting if 0 < one <= 2 * WINDOW), lasting[0])
    return ReportedWindow(int(limit), int(left), int(reset), float(seconds))


def _decode_account(held: bytes | None) -> AccountBudget:
    try:
        return msgspec.json.decode(held or b"{}", type=AccountBudget)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return AccountBudget()


def _decode_pause(held: bytes | None, now: float) -> float:
    """Return the seconds left of a pause; 0 if too long, as its clock was wrong then."""
    try:
        left = float(held or 0) - now
    except ValueError:
        return 0.0
    return left if 0 < left <= MAX_RETRY_AFTER + _ACCOUNT_TTL else 0.0


def _build_pause_key(connection: str, service: str) -> str:
    return f"pause:{service}:{_hash_text(connection)}"


def _hash_text(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
