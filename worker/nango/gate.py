"""The gate in front of every call: two budgets that all workers share.

Nango's account-wide one (``budget``), and for each connection the pauses that Graph asks for,
SharePoint's apart from the directory's. A throttled customer never slows another one down.
https://learn.microsoft.com/graph/throttling
"""

import hashlib
import random
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from models.run import RunTrigger
from worker.core.settings import Settings
from worker.nango.budget import (
    WINDOW,
    Account,
    Rules,
    Told,
    admitted,
    allowance,
    learn,
    paused,
    spend,
    turned,
)
from worker.nango.health import Health
from worker.nango.ledger import Ledger, LocalLedger, SharedLedger
from worker.nango.reply import LONGEST_PAUSE, Reply, http_time

Change = Callable[[Account, float], Account]

SLOW_FROM: Final = 0.8
"""Share of a customer's Graph budget from which we slow down, before Graph has to say 429."""

UNITS_WINDOW: Final = 10.0
"""Seconds of the directory's window of resource units."""

LIST_UNITS: Final = 2.0
"""Resource units that a page of a list costs at SharePoint."""

DIRECTORY: Final = "directory"
SHAREPOINT: Final = "sharepoint"
SERVICES: Final = (DIRECTORY, SHAREPOINT)

SHORTAGE_SECONDS: Final = 150
"""How long a shortage is told after it was last met; what is due is tried again every minute."""

_KEEP_SECONDS: Final = 3600
_SHORTAGE: Final = "shortage"
_SPENT: Final = "Nango's budget of calls a minute is spent for now"


def service_of(target: str) -> str:
    """Which of a customer's budgets a call draws on."""
    path = target.split("?", 1)[0].rstrip("/")
    return SHAREPOINT if path.split("/", 3)[2:3] == ["sites"] else DIRECTORY


class Gate:
    """Tells when the next call may go out, and learns from every reply."""

    def __init__(
        self, ledger: Ledger | None = None, *, account: str = "", rules: Rules | None = None
    ) -> None:
        self._ledger = ledger or LocalLedger()
        self._rules = rules or Rules()
        self._account = f"account:{_digest(f'{account} {self._rules.calls_per_minute}')}"
        self.fingerprint = _digest(account)
        """Stands for the address and the key, where neither may be written."""
        self.health = Health(self._ledger, f"nango:{self.fingerprint}")

    def close(self) -> None:
        self._ledger.close()

    def wait(self, address: str, target: str, lane: RunTrigger) -> tuple[float, str]:
        """Book one call and answer 0, or the seconds to wait first and why (nothing is booked)."""
        pause = _pause_key(address, service_of(target))
        while True:
            now, (held, until) = self._ledger.read([self._account, pause])
            left = _left(until, now)
            if left > 0:
                return left, f"Graph asks to slow down ({service_of(target)})"
            before = _account(held)
            after, seconds = spend(before, now, lane, self._rules)
            if after == before or self._save(held, after, now):
                return seconds, _SPENT

    def learn(self, reply: Reply, wall: float) -> None:
        """Take in Nango's own headers; they are on Graph's answers, too."""
        told = _told(reply, wall)
        if told is not None:
            self._change(lambda account, now: learn(account, now, told, self._rules))

    def pause_account(self, seconds: float) -> None:
        """Nango's own 429: nobody asks until then."""
        self._change(lambda account, now: paused(account, now + seconds + random.random()))

    def heed(self, address: str, target: str, reply: Reply, wall: float) -> None:
        """Slow a customer's calls down as Graph asks for, before it has to refuse them."""
        seconds = wished_pause(reply, wall)
        if seconds <= 0:
            return
        key = _pause_key(address, service_of(target))
        while True:
            now, (held,) = self._ledger.read([key])
            until = now + min(seconds, LONGEST_PAUSE)
            if until <= now + _left(held, now):
                return
            lives = max(1, int(until - now) + 1)
            if self._ledger.swap(key, held, repr(until).encode(), lives):
                return

    def pauses(self, addresses: Iterable[str]) -> dict[str, dict[str, float]]:
        """Seconds for which Graph wants the calls of these connections held back, by service."""
        keys = {
            _pause_key(address, service): (address, service)
            for address in addresses
            for service in SERVICES
        }
        now, values = self._ledger.read(list(keys)) if keys else (0.0, [])
        found: dict[str, dict[str, float]] = {}
        for (address, service), held in zip(keys.values(), values, strict=True):
            if (left := _left(held, now)) > 0:
                found.setdefault(address, {})[service] = left
        return found

    def allowance(self, lane: RunTrigger) -> int | None:
        """How many connections of a lane may be sent on their way; None: all that are due."""
        now, (held,) = self._ledger.read([self._account])
        return allowance(_account(held), now, lane, self._rules)

    def admit(self, number: int, waiting: int) -> None:
        """The dispatcher sent so many on their way by the clock, and left so many."""
        if number or waiting:
            self._change(lambda a, now: admitted(a, now, self._rules, number, waiting))

    def account(self) -> tuple[Account, float]:
        """The state of Nango's budget, for people, and the time it is of."""
        now, (held,) = self._ledger.read([self._account])
        return turned(_account(held), now, self._rules), now

    def note_shortage(self, reason: str) -> None:
        """A disk or memory that we stand on was found to be used up."""
        _, (held,) = self._ledger.read([_SHORTAGE])
        self._ledger.swap(_SHORTAGE, held, reason.encode(errors="replace"), SHORTAGE_SECONDS)

    def shortage(self) -> str | None:
        """What was found to be used up within the last minutes."""
        _, (held,) = self._ledger.read([_SHORTAGE])
        return None if held is None else held.decode(errors="replace")

    def unusable(self) -> str | None:
        """Why the shared budgets cannot be written now; None while they can be."""
        return self._ledger.unusable()

    def _change(self, change: Change) -> None:
        while True:
            now, (held,) = self._ledger.read([self._account])
            before = _account(held)
            after = change(before, now)
            if after == before or self._save(held, after, now):
                return

    def _save(self, held: bytes | None, after: Account, now: float) -> bool:
        """A pause outlives the hour after which a silent account is forgotten."""
        lives = _KEEP_SECONDS + int(max(0.0, after.paused_until - now))
        return self._ledger.swap(self._account, held, msgspec.json.encode(after), lives)


def open_gate(settings: Settings, key: str) -> Gate:
    """The budgets, shared through Redis where an address is set."""
    address = settings.redis_url
    rules = Rules(settings.nango_calls_per_minute, settings.first_load_percent / 100)
    ledger = LocalLedger() if address is None else SharedLedger(address.get_secret_value())
    return Gate(ledger, account=f"{settings.nango_host} {key}", rules=rules)


def wished_pause(reply: Reply, now: float) -> float:
    """Seconds that Graph wants us to hold this customer's calls back; 0 for none.

    A refusal's Retry-After where it names the whole scope (else only its own stream waits), and
    SharePoint's RateLimit headers (the longer of both). Ahead of a refusal: the more of the budget
    is used up the longer, from half a second at 80 % to the whole window at 100 %.
    """
    reset = _number(reply, "ratelimit-reset")
    if reply.status in (429, 503):
        whole = reset is not None or "x-ms-throttle-scope" in reply.headers
        return max(reply.retry_after(now) or 0.0, reset or 0.0) if whole else 0.0
    used = _number(reply, "x-ms-throttle-limit-percentage")
    if used is not None and used >= SLOW_FROM:
        share = min(1.0, (used - SLOW_FROM) / (1 - SLOW_FROM))
        return 0.5 + (UNITS_WINDOW - 0.5) * share**2
    left = _number(reply, "ratelimit-remaining")
    if left is not None and reset is not None:
        return min(reset, 60.0) * min(1.0, LIST_UNITS / max(left, 1.0))
    return 0.0


def _told(reply: Reply, wall: float) -> Told | None:
    """What Nango says of its window, where that makes sense.

    Both times are whole seconds, so the end is taken to be as late as it may be. The clock is the
    answer's own; ours only where that has none, or one by which no window could end then.
    """
    limit, left = _number(reply, "x-ratelimit-limit"), _number(reply, "x-ratelimit-remaining")
    reset = _number(reply, "x-ratelimit-reset")
    if limit is None or left is None or reset is None or limit < 1:
        return None
    there = http_time(reply.headers.get("date"))
    clocks = [wall] if there is None else [there, wall]
    lasting = [int(reset) + 1 - int(clock) for clock in clocks]
    seconds = next((one for one in lasting if 0 < one <= 2 * WINDOW), lasting[0])
    return Told(int(limit), int(left), int(reset), float(seconds))


def _number(reply: Reply, name: str) -> float | None:
    try:
        value = float(reply.headers[name])
    except (KeyError, ValueError):
        return None
    return value if 0 <= value < 1e12 else None


def _account(held: bytes | None) -> Account:
    try:
        return msgspec.json.decode(held or b"{}", type=Account)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Account()


def _left(held: bytes | None, now: float) -> float:
    """Seconds of a pause that are left; one that is longer than any came from a wrong clock."""
    try:
        left = float(held or 0) - now
    except ValueError:
        return 0.0
    return left if 0 < left <= LONGEST_PAUSE + _KEEP_SECONDS else 0.0


def _pause_key(address: str, service: str) -> str:
    return f"pause:{service}:{_digest(address)}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
