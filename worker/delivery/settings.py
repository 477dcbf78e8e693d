"""What may be set for a sink, by kind: anything else is refused with a sentence.

The same check stands before a sink is stored and before one is used, as rows can be edited by hand.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from models.sink import SinkKind
from worker.core.errors import ConfigurationError
from worker.core.redis.url import parse_redis_url

NAME_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
STREAM_PATTERN: Final = re.compile(r"[!-~]{1,200}")
DEFAULT_STREAM: Final = "tenant-mirror:events"
DEFAULT_MAXLEN: Final = 1_000_000
DEFAULT_MAXBYTES: Final = 256 * 1024 * 1024
MIN_MAXBYTES: Final = 1024 * 1024
MAX_BATCH: Final = 100
"""Events in one request to a webhook."""
MAX_TIMEOUT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """How events are posted. What ``url`` had behind a question mark is kept with the secrets."""

    url: str
    batch: int = 1
    timeout: float = 15.0
    allow_http: bool = False
    allow_private: bool = False
    direct: bool = False
    """Not through the proxy that is set for webhooks."""

    @property
    def host(self) -> str:
        """Who receives: as much of the address as may be said anywhere."""
        return urlsplit(self.url).netloc


@dataclass(frozen=True, slots=True)
class RedisStreamSettings:
    """Where events are added. The server's URL, if it is another than ours, is with the secrets."""

    stream: str = DEFAULT_STREAM
    maxlen: int = DEFAULT_MAXLEN
    maxbytes: int = DEFAULT_MAXBYTES
    """Of one stream's entries."""


def build_stored_settings(kind: SinkKind, given: Mapping[str, object]) -> dict[str, Any]:
    """The settings of a sink with all defaults, as they are stored. Raises ConfigurationError.

    A stream's bytes are stored where they are not the default: relays of the release before refuse
    a setting that they do not know.
    """
    if kind is SinkKind.WEBHOOK:
        return asdict(parse_webhook_settings(given))
    made = asdict(parse_redis_stream_settings(given))
    if made["maxbytes"] == DEFAULT_MAXBYTES:
        del made["maxbytes"]
    return made


def apply_defaults(kind: str, stored: Mapping[str, object]) -> Mapping[str, object]:
    """What a sink works with, for people: what is stored, and a default that is not."""
    if kind == SinkKind.REDIS_STREAM:
        return {**stored, "maxbytes": stored.get("maxbytes", DEFAULT_MAXBYTES)}
    return stored


def parse_webhook_settings(given: Mapping[str, object]) -> WebhookSettings:
    """Raises ConfigurationError where something is missing, unknown or out of bounds."""
    _reject_unknown(SinkKind.WEBHOOK, given, WebhookSettings.__slots__)
    made = WebhookSettings(
        url=_parse_text(given, "url", ""),
        batch=_parse_integer(given, "batch", 1, (1, MAX_BATCH)),
        timeout=_parse_seconds(given, "timeout", 15.0),
        allow_http=_parse_boolean(given, "allow_http"),
        allow_private=_parse_boolean(given, "allow_private"),
        direct=_parse_boolean(given, "direct"),
    )
    _check_address(made)
    return made


def parse_redis_stream_settings(given: Mapping[str, object]) -> RedisStreamSettings:
    """Raises ConfigurationError where something is unknown or out of bounds."""
    _reject_unknown(SinkKind.REDIS_STREAM, given, RedisStreamSettings.__slots__)
    stream = _parse_text(given, "stream", DEFAULT_STREAM)
    if not STREAM_PATTERN.fullmatch(stream):
        raise ConfigurationError("stream must be 1 to 200 plain characters without blanks")
    return RedisStreamSettings(
        stream,
        _parse_integer(given, "maxlen", DEFAULT_MAXLEN, (1, 2**53)),
        _parse_integer(given, "maxbytes", DEFAULT_MAXBYTES, (MIN_MAXBYTES, 2**53)),
    )


def split_query(url: str) -> tuple[str, str]:
    """A webhook's URL without its query, and the query, which may hold a key.

    Raises ConfigurationError.
    """
    _parse_url(url)
    if "#" in url:
        raise ConfigurationError("url must have no '#': what follows is never sent")
    address, _, query = url.partition("?")
    if "@" in address.partition("://")[2].partition("/")[2]:
        raise ConfigurationError(
            "url has an '@' in its path; write it as %40 there, and give no password"
        )
    return address, query


def check_redis_url(url: str) -> str:
    """Raises ConfigurationError, which never shows it, where it is no address of a Redis server."""
    try:
        parse_redis_url(url)
    except ValueError as fault:
        raise ConfigurationError(f"url {fault}") from None
    return url


def check_sink_name(name: str) -> str:
    """Raises ConfigurationError where a name cannot be typed and logged with ease."""
    if not NAME_PATTERN.fullmatch(name):
        raise ConfigurationError(
            "a sink's name is 1 to 63 of a-z, 0-9, '.', '_' and '-', with a letter or digit first"
        )
    return name


def _check_address(made: WebhookSettings) -> None:
    parts = _parse_url(made.url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigurationError("url must look like https://hooks.example.com/path")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            "url must hold no user or password; every request is signed instead"
        )
    if parts.query or parts.fragment or "#" in made.url:
        raise ConfigurationError(
            "url must end with its path here; a query is kept apart, a fragment is not sent"
        )
    if parts.scheme == "http" and not made.allow_http:
        raise ConfigurationError(
            "url must start with https://; only allow_http lets events leave unencrypted, "
            "for receivers on your own network"
        )


def _parse_url(url: str) -> SplitResult:
    """Raises ConfigurationError where it is no URL, or one that programs read differently."""
    odd = any(letter.isspace() or not letter.isprintable() or letter == "\\" for letter in url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError("url is not a URL") from None
    if odd or not url.isascii() or port == 0:
        raise ConfigurationError("url holds characters or a port that no URL has")
    return parts


def _reject_unknown(kind: SinkKind, given: Mapping[str, object], known: Iterable[str]) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            raise ConfigurationError(f"a {kind} has no setting '{name}'; it has {', '.join(names)}")


def _parse_text(given: Mapping[str, object], name: str, default: str) -> str:
    value = given.get(name, default)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name} must be given, as a text")
    return value


def _parse_integer(
    given: Mapping[str, object], name: str, default: int, bounds: tuple[int, int]
) -> int:
    value = given.get(name, default)
    low, high = bounds
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigurationError(f"{name} must be a whole number from {low} to {high}")
    return value


def _parse_seconds(given: Mapping[str, object], name: str, default: float) -> float:
    value = given.get(name, default)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 1 <= value <= MAX_TIMEOUT_SECONDS
    ):
        raise ConfigurationError(f"{name} must be 1 to {MAX_TIMEOUT_SECONDS:.0f} seconds")
    return float(value)


def _parse_boolean(given: Mapping[str, object], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be true or false")
    return value
