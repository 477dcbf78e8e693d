"""The settings of sinks, by kind; anything else is refused with an explanation.

The same check runs before a sink is stored and before one is used, as rows can be edited by hand.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from models.sink import SinkKind
from worker.core.errors import InvalidInput
from worker.core.redis.url import parse_redis_url

NAME_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
STREAM_PATTERN: Final = re.compile(r"[!-~]{1,200}")
DEFAULT_STREAM: Final = "tenant-mirror:events"
DEFAULT_MAXLEN: Final = 1_000_000
DEFAULT_MAXBYTES: Final = 256 * 1024 * 1024
MIN_MAXBYTES: Final = 1024 * 1024
MAX_BATCH: Final = 100
"""Most events in one request to a webhook."""
MAX_TIMEOUT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """The settings of a webhook. The query of its ``url`` is stored with the secrets."""

    url: str
    batch: int = 1
    timeout: float = 15.0
    allow_http: bool = False
    allow_private: bool = False
    direct: bool = False
    """Whether requests bypass the proxy that is set for webhooks."""

    @property
    def host(self) -> str:
        """The host of the URL: the part of it that may be shown."""
        return urlsplit(self.url).netloc


@dataclass(frozen=True, slots=True)
class RedisStreamSettings:
    """The settings of a Redis stream. Another server's URL is stored with the secrets."""

    stream: str = DEFAULT_STREAM
    maxlen: int = DEFAULT_MAXLEN
    maxbytes: int = DEFAULT_MAXBYTES
    """Most bytes of one stream's entries."""


def build_stored_settings(kind: SinkKind, given: Mapping[str, object]) -> dict[str, Any]:
    """Return the settings to store for a sink, defaults included. Raises InvalidInput.

    A stream's ``maxbytes`` is stored only if it is not the default: relays of the previous release
    refuse a setting that they do not know.
    """
    if kind is SinkKind.WEBHOOK:
        return asdict(parse_webhook_settings(given))
    made = asdict(parse_redis_stream_settings(given))
    if made["maxbytes"] == DEFAULT_MAXBYTES:
        del made["maxbytes"]
    return made


def apply_defaults(kind: str, stored: Mapping[str, object]) -> Mapping[str, object]:
    """Return the effective settings of a sink for display: those stored, and an omitted default."""
    if kind == SinkKind.REDIS_STREAM:
        return {**stored, "maxbytes": stored.get("maxbytes", DEFAULT_MAXBYTES)}
    return stored


def parse_webhook_settings(given: Mapping[str, object]) -> WebhookSettings:
    """Return the settings. Raises InvalidInput if any is missing, unknown or out of bounds."""
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
    """Return the settings. Raises InvalidInput if any is unknown or out of bounds."""
    _reject_unknown(SinkKind.REDIS_STREAM, given, RedisStreamSettings.__slots__)
    stream = _parse_text(given, "stream", DEFAULT_STREAM)
    if not STREAM_PATTERN.fullmatch(stream):
        raise InvalidInput("stream must be 1 to 200 plain characters without spaces")
    return RedisStreamSettings(
        stream,
        _parse_integer(given, "maxlen", DEFAULT_MAXLEN, (1, 2**53)),
        _parse_integer(given, "maxbytes", DEFAULT_MAXBYTES, (MIN_MAXBYTES, 2**53)),
    )


def split_query(url: str) -> tuple[str, str]:
    """Return a webhook's URL without its query, and the query, which may hold a key.

    Raises InvalidInput.
    """
    _parse_url(url)
    if "#" in url:
        raise InvalidInput("url must not contain '#': a fragment is never sent")
    address, _, query = url.partition("?")
    if "@" in address.partition("://")[2].partition("/")[2]:
        raise InvalidInput(
            "url has an '@' in its path; write it as %40 there, and give no password"
        )
    return address, query


def check_redis_url(url: str) -> str:
    """Return a Redis URL. Raises InvalidInput, without showing it, if it is invalid."""
    try:
        parse_redis_url(url)
    except ValueError as error:
        raise InvalidInput(f"url {error}") from None
    return url


def check_sink_name(name: str) -> str:
    """Return a sink's name. Raises InvalidInput if it is hard to type or log."""
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidInput(
            "a sink's name is 1 to 63 of a-z, 0-9, '.', '_' and '-', with a letter or digit first"
        )
    return name


def _check_address(made: WebhookSettings) -> None:
    parts = _parse_url(made.url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise InvalidInput("url must look like https://hooks.example.com/path")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("url must not contain a user or password; requests are signed instead")
    if parts.query or parts.fragment or "#" in made.url:
        raise InvalidInput(
            "url must end with its path here; a query is kept apart, a fragment is not sent"
        )
    if parts.scheme == "http" and not made.allow_http:
        raise InvalidInput(
            "url must start with https://; only allow_http lets events leave unencrypted, "
            "for receivers on your own network"
        )


def _parse_url(url: str) -> SplitResult:
    """Return a URL's parts. Raises InvalidInput if it is no URL, or programs disagree on it."""
    odd = any(letter.isspace() or not letter.isprintable() or letter == "\\" for letter in url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInput("url is not a URL") from None
    if odd or not url.isascii() or port == 0:
        raise InvalidInput("url contains invalid characters or an invalid port")
    return parts


def _reject_unknown(kind: SinkKind, given: Mapping[str, object], allowed: Iterable[str]) -> None:
    names = list(allowed)
    for name in given:
        if name not in names:
            raise InvalidInput(f"a {kind} has no setting '{name}'; it has {', '.join(names)}")


def _parse_text(given: Mapping[str, object], name: str, default: str) -> str:
    value = given.get(name, default)
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{name} must be a non-empty text")
    return value


def _parse_integer(
    given: Mapping[str, object], name: str, default: int, bounds: tuple[int, int]
) -> int:
    value = given.get(name, default)
    low, high = bounds
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidInput(f"{name} must be a whole number from {low} to {high}")
    return value


def _parse_seconds(given: Mapping[str, object], name: str, default: float) -> float:
    value = given.get(name, default)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 1 <= value <= MAX_TIMEOUT_SECONDS
    ):
        raise InvalidInput(f"{name} must be 1 to {MAX_TIMEOUT_SECONDS:.0f} seconds")
    return float(value)


def _parse_boolean(given: Mapping[str, object], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} must be true or false")
    return value
