"""What may be set for a sink, by kind: anything else is refused with a sentence.

The same check stands before a sink is stored and before one is used, as rows can be edited by hand.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from models.change_event import ChangeKind, ConnectionChange
from models.event_type import CONNECTION
from models.resources import RESOURCES
from models.sink import SinkKind
from worker.core.errors import Halt
from worker.core.redis_url import read_redis_url

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
STREAM: Final = re.compile(r"[!-~]{1,200}")
DEFAULT_STREAM: Final = "tenant-mirror:events"
DEFAULT_LENGTH: Final = 1_000_000
DEFAULT_BYTES: Final = 256 * 1024 * 1024
LEAST_BYTES: Final = 1024 * 1024
MOST_EVENTS: Final = 100
"""Events in one request to a webhook."""
LONGEST_SECONDS: Final = 60.0


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
class StreamSettings:
    """Where events are added. The server's URL, if it is another than ours, is with the secrets."""

    stream: str = DEFAULT_STREAM
    maxlen: int = DEFAULT_LENGTH
    maxbytes: int = DEFAULT_BYTES
    """Of one stream's entries."""


def settings_of(kind: SinkKind, given: Mapping[str, object]) -> dict[str, Any]:
    """The settings of a sink with all defaults, as they are stored. Raises Halt.

    A stream's bytes are stored where they are not the default: relays of the release before refuse
    a setting that they do not know.
    """
    if kind is SinkKind.WEBHOOK:
        return asdict(webhook_settings(given))
    made = asdict(stream_settings(given))
    if made["maxbytes"] == DEFAULT_BYTES:
        del made["maxbytes"]
    return made


def settings_in_force(kind: str, stored: Mapping[str, object]) -> Mapping[str, object]:
    """What a sink works with, for people: what is stored, and a default that is not."""
    if kind == SinkKind.REDIS_STREAM:
        return {**stored, "maxbytes": stored.get("maxbytes", DEFAULT_BYTES)}
    return stored


def webhook_settings(given: Mapping[str, object]) -> WebhookSettings:
    """Raises Halt where something is missing, unknown or out of bounds."""
    _only_known(SinkKind.WEBHOOK, given, WebhookSettings.__slots__)
    made = WebhookSettings(
        url=_text(given, "url", ""),
        batch=_whole(given, "batch", 1, (1, MOST_EVENTS)),
        timeout=_seconds(given, "timeout", 15.0),
        allow_http=_flag(given, "allow_http"),
        allow_private=_flag(given, "allow_private"),
        direct=_flag(given, "direct"),
    )
    _check_address(made)
    return made


def stream_settings(given: Mapping[str, object]) -> StreamSettings:
    """Raises Halt where something is unknown or out of bounds."""
    _only_known(SinkKind.REDIS_STREAM, given, StreamSettings.__slots__)
    stream = _text(given, "stream", DEFAULT_STREAM)
    if not STREAM.fullmatch(stream):
        raise Halt("stream must be 1 to 200 plain characters without blanks")
    return StreamSettings(
        stream,
        _whole(given, "maxlen", DEFAULT_LENGTH, (1, 2**53)),
        _whole(given, "maxbytes", DEFAULT_BYTES, (LEAST_BYTES, 2**53)),
    )


def parted(url: str) -> tuple[str, str]:
    """A webhook's URL without its query, and the query, which may hold a key. Raises Halt."""
    _split(url)
    if "#" in url:
        raise Halt("url must have no '#': what follows is never sent")
    address, _, query = url.partition("?")
    if "@" in address.partition("://")[2].partition("/")[2]:
        raise Halt("url has an '@' in its path; write it as %40 there, and give no password")
    return address, query


def redis_address(url: str) -> str:
    """Raises Halt, which never shows it, where it is no address of a Redis server."""
    try:
        read_redis_url(url)
    except ValueError as fault:
        raise Halt(f"url {fault}") from None
    return url


def sink_name(name: str) -> str:
    """Raises Halt where a name cannot be typed and logged with ease."""
    if not NAME.fullmatch(name):
        raise Halt(
            "a sink's name is 1 to 63 of a-z, 0-9, '.', '_' and '-', with a letter or digit first"
        )
    return name


def resource_filter(names: Iterable[str]) -> list[str] | None:
    """The resources to deliver; none named: all. Raises Halt for one that does not exist."""
    return _chosen("resource", names, (*RESOURCES, CONNECTION))


def change_filter(names: Iterable[str]) -> list[str] | None:
    """The changes to deliver; none named: all. Raises Halt for one that does not exist."""
    return _chosen("change", names, (*ChangeKind, *ConnectionChange))


def _chosen(what: str, names: Iterable[str], known: tuple[str, ...]) -> list[str] | None:
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in known:
            raise Halt(f"there is no {what} '{name}'; choose from {', '.join(map(str, known))}")
    return wanted or None


def _check_address(made: WebhookSettings) -> None:
    parts = _split(made.url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise Halt("url must look like https://hooks.example.com/path")
    if parts.username is not None or parts.password is not None:
        raise Halt("url must hold no user or password; every request is signed instead")
    if parts.query or parts.fragment or "#" in made.url:
        raise Halt("url must end with its path here; a query is kept apart, a fragment is not sent")
    if parts.scheme == "http" and not made.allow_http:
        raise Halt(
            "url must start with https://; only allow_http lets events leave unencrypted, "
            "for receivers on your own network"
        )


def _split(url: str) -> SplitResult:
    """Raises Halt where it is no URL at all, or one that programs read in different ways."""
    odd = any(letter.isspace() or not letter.isprintable() or letter == "\\" for letter in url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Halt("url is not a URL") from None
    if odd or not url.isascii() or port == 0:
        raise Halt("url holds characters or a port that no URL has")
    return parts


def _only_known(kind: SinkKind, given: Mapping[str, object], known: Iterable[str]) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            raise Halt(f"a {kind} has no setting '{name}'; it has {', '.join(names)}")


def _text(given: Mapping[str, object], name: str, default: str) -> str:
    value = given.get(name, default)
    if not isinstance(value, str) or not value:
        raise Halt(f"{name} must be given, as a text")
    return value


def _whole(given: Mapping[str, object], name: str, default: int, bounds: tuple[int, int]) -> int:
    value = given.get(name, default)
    low, high = bounds
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Halt(f"{name} must be a whole number from {low} to {high}")
    return value


def _seconds(given: Mapping[str, object], name: str, default: float) -> float:
    value = given.get(name, default)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 1 <= value <= LONGEST_SECONDS
    ):
        raise Halt(f"{name} must be 1 to {LONGEST_SECONDS:.0f} seconds")
    return float(value)


def _flag(given: Mapping[str, object], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise Halt(f"{name} must be true or false")
    return value
