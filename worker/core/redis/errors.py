"""Classify errors of Redis."""

import re
import ssl
from typing import Final

import redis

from worker.core.errors import ConfigurationError, MirrorError, ServerUnavailable, StorageFull


def find_certificate_error(error: BaseException | None) -> str | None:
    """Return OpenSSL's reason for rejecting the server's certificate; None for other errors."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None


REDIS_RETRY_SECONDS: Final = 5.0
"""Pause before the next attempt after Redis failed."""
FULL_RETRY_SECONDS: Final = 30.0
"""Pause before the next attempt while Redis is full."""

_FULL_MESSAGES: Final = {
    "OOM": (
        "the memory of Redis is used up (it answers OOM); raise its maxmemory, or remove "
        "data from it"
    ),
    "MISCONF": (
        "Redis cannot write to its disk and accepts no writes (it answers MISCONF); free some "
        "space on that disk, and see Redis's own log"
    ),
}
"""By the error code at the start of Redis's reply; errors of a script put a dash before it."""
_FULL_CODE: Final = re.compile(r"(?:^|\s-)(OOM|MISCONF)\b")


def _find_full_message(error: Exception) -> str | None:
    """Return a sentence if Redis is out of memory or disk, else None."""
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return _FULL_MESSAGES["OOM"]
    if isinstance(error, redis.ResponseError) and (found := _FULL_CODE.search(str(error))):
        return _FULL_MESSAGES[found[1]]
    return None


def classify_redis_error(
    error: Exception, needed_rights: str, *, url_name: str = "REDIS_URL"
) -> MirrorError:
    """Translate an error of redis-py or kombu into one of ours.

    ``needed_rights`` says what the caller needs at Redis, as the end of a sentence: "the budgets
    need GET on a*". An error of kombu means what the error of Redis in it means. ``url_name`` says
    where the server's URL is set.
    """
    server = "Redis" if url_name == "REDIS_URL" else f"the Redis of {url_name}"
    if not isinstance(error, redis.RedisError) and isinstance(error.__cause__, redis.RedisError):
        error = error.__cause__
    name = _get_error_code(error)
    if (refused := find_certificate_error(error)) is not None:
        return ConfigurationError(
            f"the certificate of Redis was rejected ({refused}), and no password was sent; set "
            f"ssl_ca_certs in {url_name} to the file of its authority, and use the host name that "
            "the certificate is issued for"
        )
    if (sentence := _find_full_message(error)) is not None:
        return StorageFull(sentence, after=FULL_RETRY_SECONDS)
    match error:
        case redis.AuthenticationError() | redis.exceptions.AuthorizationError():
            return ConfigurationError(
                f"Redis rejected the credentials ({name}); check the user and password in "
                f"{url_name}"
            )
        case redis.exceptions.NoPermissionError():
            return ConfigurationError(f"{server} denies the user a command; {needed_rights}")
        case _:
            return ServerUnavailable(f"{server} is unavailable ({name})", after=REDIS_RETRY_SECONDS)


def _get_error_code(error: Exception) -> str:
    """Return redis-py's class, or Redis's own error code where redis-py has no class for it."""
    code = str(error).partition(" ")[0]
    is_code = type(error) is redis.ResponseError and code.isalpha() and code.isupper()
    return code if is_code and code != "ERR" else type(error).__name__
