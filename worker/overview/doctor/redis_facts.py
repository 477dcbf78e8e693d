"""Asks Redis what it says about itself, and whether it can be written to."""

import secrets
from typing import Any, Final

import redis

from worker.core.redis.errors import classify_redis_error
from worker.core.redis.pool import build_redis_pool
from worker.core.settings import Settings
from worker.overview.doctor.server_checks import RedisFacts

KEY_PREFIX: Final = "tenant-mirror:doctor:"
_SECONDS: Final = 10
"""After which the written key is gone, if it could not be deleted."""
_RIGHTS: Final = "doctor needs INFO"
_WRITE_RIGHTS: Final = f"the service needs SET, GET and DEL on {KEY_PREFIX}*"


def load_redis_facts(settings: Settings) -> RedisFacts | None:
    """Return what the Redis of ``REDIS_URL`` says; None without one."""
    if settings.redis_url is None:
        return None
    pool = build_redis_pool(
        settings.redis_url.get_secret_value(),
        retries=0,
        timeout=5.0,
        connect_timeout=5.0,
        max_connections=1,
    )
    client = redis.Redis(connection_pool=pool)
    try:
        info = client.info()
        return RedisFacts(info, None, _try_write(client), _ask_for_snapshots(client))
    except (redis.RedisError, OSError) as error:
        return RedisFacts({}, problem=classify_redis_error(error, _RIGHTS).message)
    finally:
        pool.disconnect()


def _try_write(client: Any) -> str | None:
    """Write, read and delete a key of our own; return why that does not work."""
    key = f"{KEY_PREFIX}{secrets.token_hex(8)}"
    try:
        client.set(key, "1", ex=_SECONDS)
        was_kept = client.get(key) == b"1"
        client.delete(key)
    except redis.RedisError as error:
        return classify_redis_error(error, _WRITE_RIGHTS).message
    return None if was_kept else "it forgot at once what was written to it"


def _ask_for_snapshots(client: Any) -> bool | None:
    """Return whether it saves snapshots by itself; hosted servers and users may not tell."""
    try:
        return bool(client.config_get("save").get("save"))
    except redis.ResponseError:
        return None
