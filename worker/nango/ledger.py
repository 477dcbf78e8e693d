"""Where the budgets are kept: in Redis, shared by all workers, or in this process where it is away.

Only small values, each replaced as a whole by compare-and-swap, so that the rules stay in Python
and are the same in both places. Redis may lose everything at any time: the next replies tell it
again.
"""

import re
import time
from threading import Lock
from typing import Final, Protocol

import redis

from worker.core.errors import ConfigurationError, MirrorError, ServerUnavailable, StorageFull
from worker.core.log import get_logger
from worker.core.redis_pool import build_redis_pool, find_certificate_error
from worker.core.steady import steady_time

KEY_PREFIX: Final = "tenant-mirror:budget:"
REDIS_RETRY_SECONDS: Final = 5.0
"""How long Redis is left alone after it failed."""
FULL_RETRY_SECONDS: Final = 30.0
"""Pause before the next attempt at a Redis that is full."""

_FULL_MESSAGES: Final = {
    "OOM": (
        "the memory of Redis is used up (it answers OOM); raise its maxmemory, or take out what "
        "fills it"
    ),
    "MISCONF": (
        "Redis cannot write to its disk and takes nothing in (it answers MISCONF); make room on "
        "that disk, and see Redis's own log"
    ),
}
"""By the code that begins Redis's answer; within a script it may stand behind a dash."""
_FULL_CODE: Final = re.compile(r"(?:^|\s-)(OOM|MISCONF)\b")

_SWAP_SCRIPT: Final = """
local held = redis.call('GET', KEYS[1])
if (held or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class KeyValueStore(Protocol):
    """Values by key, with the time they were read at."""

    def read(self, keys: list[str]) -> tuple[float, list[bytes | None]]:
        """The Unix time and the values; None for what is not known."""

    def compare_and_swap(self, key: str, old: bytes | None, new: bytes, seconds: int) -> bool:
        """Replace a value that is still ``old``; whether it was. It lives for ``seconds``."""

    def find_write_error(self) -> str | None:
        """Why nothing can be written for others to see; None while it can be."""

    def close(self) -> None: ...


class InMemoryStore:
    """The budgets of one process, by a clock that nobody sets while it runs."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[bytes, float]] = {}
        self._lock = Lock()

    def read(self, keys: list[str]) -> tuple[float, list[bytes | None]]:
        now = steady_time()
        with self._lock:
            return now, [self._get_live(key, now) for key in keys]

    def compare_and_swap(self, key: str, old: bytes | None, new: bytes, seconds: int) -> bool:
        now = steady_time()
        with self._lock:
            if self._get_live(key, now) != old:
                return False
            if len(self._values) > 10_000:
                self._values = {k: v for k, v in self._values.items() if v[1] > now}
            self._values[key] = (new, now + seconds)
            return True

    def find_write_error(self) -> None:
        """There are no others."""

    def close(self) -> None:
        """Nothing is open."""

    def _get_live(self, key: str, now: float) -> bytes | None:
        value, until = self._values.get(key, (None, 0.0))
        return value if now < until else None


class RedisStore:
    """The budgets in Redis; this process's own while Redis is away."""

    def __init__(self, url: str) -> None:
        pool = build_redis_pool(
            url, retries=1, timeout=1.0, connect_timeout=1.0, max_connections=16
        )
        self._redis = redis.Redis.from_pool(pool)
        self._swap_script = self._redis.register_script(_SWAP_SCRIPT)
        self._fallback = InMemoryStore()
        self._away_until = 0.0

    def read(self, keys: list[str]) -> tuple[float, list[bytes | None]]:
        if self._is_available():
            try:
                pipe = self._redis.pipeline(transaction=False)
                pipe.time()
                pipe.mget([KEY_PREFIX + key for key in keys])
                (seconds, micros), values = pipe.execute()
                return seconds + micros / 1e6, list(values)
            except (redis.RedisError, OSError) as fault:
                self._mark_unavailable(fault)
        return self._fallback.read(keys)

    def compare_and_swap(self, key: str, old: bytes | None, new: bytes, seconds: int) -> bool:
        if self._is_available():
            try:
                return bool(
                    self._swap_script(keys=[KEY_PREFIX + key], args=[old or b"", new, seconds])
                )
            except (redis.RedisError, OSError) as fault:
                self._mark_unavailable(fault)
        return self._fallback.compare_and_swap(key, old, new, seconds)

    def check_write(self) -> None:
        """A value that lives for a second. Raises MirrorError where Redis does not take it.

        A Redis that is full still answers what is read: only a write tells.
        """
        try:
            self._redis.set(f"{KEY_PREFIX}written", b"", ex=1)
        except (redis.RedisError, OSError) as fault:
            raise classify_redis_error(fault) from fault

    def find_write_error(self) -> str | None:
        try:
            self.check_write()
        except MirrorError as trouble:
            return trouble.message
        return None

    def close(self) -> None:
        self._redis.close()

    def _is_available(self) -> bool:
        return time.monotonic() >= self._away_until

    def _mark_unavailable(self, fault: Exception) -> None:
        """Leave Redis alone for a while; then connect anew, as the address may lead elsewhere."""
        self._away_until = time.monotonic() + REDIS_RETRY_SECONDS
        self._redis.connection_pool.disconnect(inuse_connections=False)
        get_logger().warning(
            "budgets are not shared now",
            reason=str(classify_redis_error(fault)),
            seconds=REDIS_RETRY_SECONDS,
        )


def _find_full_message(fault: Exception) -> str | None:
    """What a Redis that has no room answers, as a sentence; kombu wraps its answers."""
    for one in (fault, fault.__cause__):
        if isinstance(one, redis.exceptions.OutOfMemoryError):
            return _FULL_MESSAGES["OOM"]
        if isinstance(one, redis.ResponseError) and (found := _FULL_CODE.search(str(one))):
            return _FULL_MESSAGES[found[1]]
    return None


def classify_redis_error(fault: Exception) -> MirrorError:
    """What a failure of Redis means for us."""
    name = _get_error_code(fault)
    if (refused := find_certificate_error(fault)) is not None:
        return ConfigurationError(
            f"the certificate of Redis is refused ({refused}), and no password was sent; name its "
            "authority with ssl_ca_certs in the URL, and the host that the certificate is for"
        )
    if (sentence := _find_full_message(fault)) is not None:
        return StorageFull(sentence, after=FULL_RETRY_SECONDS)
    match fault:
        case redis.AuthenticationError() | redis.exceptions.AuthorizationError():
            return ConfigurationError(
                f"Redis does not let us in ({name}); check the password in REDIS_URL"
            )
        case redis.exceptions.NoPermissionError():
            return ConfigurationError(
                "Redis denies our user a command; the budgets need GET, MGET, SET, TIME, EVALSHA "
                "and SCRIPT LOAD on tenant-mirror:budget:*"
            )
        case _:
            return ServerUnavailable(
                f"Redis cannot be used now ({name})", after=REDIS_RETRY_SECONDS
            )


def _get_error_code(fault: Exception) -> str:
    """What kind of failure it is: Redis's own code where redis-py has no class for it."""
    code = str(fault).partition(" ")[0]
    is_code = type(fault) is redis.ResponseError and code.isalpha() and code.isupper()
    return code if is_code and code != "ERR" else type(fault).__name__


def check_redis(url: str) -> None:
    """Write a value that lives for a second. Raises MirrorError where Redis does not take it."""
    ledger = RedisStore(url)
    try:
        ledger.check_write()
    finally:
        ledger.close()
