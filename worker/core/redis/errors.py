"""Classify errors of Redis."""

import re
import ssl
from typing import Final

import redis

from worker.core.errors import ConfigurationError, MirrorError, ServerUnavailable, StorageFull


def find_certificate_error(fault: BaseException | None) -> str | None:
    """Why the server's certificate was refused, in OpenSSL's words; None where that is not it."""
    while fault is not None:
        if isinstance(fault, ssl.SSLCertVerificationError):
            return fault.verify_message
        fault = fault.__cause__ or fault.__context__
    return None


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
