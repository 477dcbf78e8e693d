"""Stores the budgets: in Redis, shared by all workers, or in this process while Redis is down.

It holds small values, each replaced as a whole by compare-and-swap, so that the rules stay in
Python and are the same in both stores. Redis may lose everything at any time: the next responses
fill it again.
"""

import time
from threading import Lock
from typing import Final, Protocol

import redis

from worker.core.clock import steady_time
from worker.core.errors import MirrorError
from worker.core.log import get_logger
from worker.core.redis.errors import REDIS_RETRY_SECONDS, classify_redis_error
from worker.core.redis.pool import build_redis_pool

KEY_PREFIX: Final = "tenant-mirror:budget:"

_NEEDED_RIGHTS: Final = (
    f"the rate-limit budgets need GET, MGET, SET, TIME, EVALSHA and SCRIPT LOAD on {KEY_PREFIX}*"
)

_SWAP_SCRIPT: Final = """
local held = redis.call('GET', KEYS[1])
if (held or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class KeyValueStore(Protocol):
    """Values by key, read with the store's time."""

    def read(self, keys: list[str]) -> tuple[float, list[bytes | None]]:
        """Return the Unix time and the values; None for missing ones."""

    def compare_and_swap(self, key: str, old: bytes | None, new: bytes, seconds: int) -> bool:
        """Replace a value if it is still ``old``; return whether. It expires after ``seconds``."""

    def find_write_error(self) -> str | None:
        """Return why nothing can be written for other processes; None while it can."""

    def close(self) -> None: ...


class InMemoryStore:
    """The budgets of one process, by a monotonic clock."""

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
        """Return None: no other process reads this store."""

    def close(self) -> None:
        """Do nothing: there are no connections."""

    def _get_live(self, key: str, now: float) -> bytes | None:
        value, until = self._values.get(key, (None, 0.0))
        return value if now < until else None


class RedisStore:
    """The budgets in Redis; in this process while Redis is down."""

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
            except (redis.RedisError, OSError) as error:
                self._mark_unavailable(error)
        return self._fallback.read(keys)

    def compare_and_swap(self, key: str, old: bytes | None, new: bytes, seconds: int) -> bool:
        if self._is_available():
            try:
                return bool(
                    self._swap_script(keys=[KEY_PREFIX + key], args=[old or b"", new, seconds])
                )
            except (redis.RedisError, OSError) as error:
                self._mark_unavailable(error)
        return self._fallback.compare_and_swap(key, old, new, seconds)

    def check_write(self) -> None:
        """Write a value that expires after a second. Raises MirrorError if Redis rejects it.

        A full Redis still answers reads, so only a write shows it.
        """
        try:
            self._redis.set(f"{KEY_PREFIX}written", b"", ex=1)
        except (redis.RedisError, OSError) as error:
            raise classify_redis_error(error, _NEEDED_RIGHTS) from error

    def find_write_error(self) -> str | None:
        try:
            self.check_write()
        except MirrorError as error:
            return error.message
        return None

    def close(self) -> None:
        self._redis.close()

    def _is_available(self) -> bool:
        return time.monotonic() >= self._away_until

    def _mark_unavailable(self, error: Exception) -> None:
        """Pause the use of Redis, then reconnect, as its host may resolve differently by then."""
        self._away_until = time.monotonic() + REDIS_RETRY_SECONDS
        self._redis.connection_pool.disconnect(inuse_connections=False)
        get_logger().warning(
            "Redis unavailable: rate-limit budgets are not shared",
            reason=str(classify_redis_error(error, _NEEDED_RIGHTS)),
            retry_in_seconds=REDIS_RETRY_SECONDS,
        )


def check_redis(url: str) -> None:
    """Write a value that expires after a second. Raises MirrorError if Redis rejects it."""
    store = RedisStore(url)
    try:
        store.check_write()
    finally:
        store.close()
