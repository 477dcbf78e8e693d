"""The settings and secrets of sinks, by kind; anything else is refused with an explanation.

The same check runs before a sink is stored and before one is used, as rows can be edited by hand.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Meta, structs

from models.sink import SinkKind
from worker.core.config import Mistake, build_rule, list_settings, load_values
from worker.core.errors import InvalidInput
from worker.core.secret import SecretStr
from worker.core.setting_types import RedisAddress

NAME_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
DEFAULT_STREAM: Final = "tenant-mirror:events"
DEFAULT_MAXLEN: Final = 1_000_000
DEFAULT_MAXBYTES: Final = 256 * 1024 * 1024
MIN_MAXBYTES: Final = 1024 * 1024
MAX_BATCH: Final = 100
"""Most events in one request to a webhook."""
MAX_TIMEOUT_SECONDS: Final = 60

_URL_EXAMPLE: Final = "an address such as https://hooks.example.com/path"
_DeclarationT = TypeVar("_DeclarationT", bound=msgspec.Struct)


def _parse_url(url: str) -> SplitResult:
    """Return a URL's parts. Raises ValueError if it is no URL, or programs disagree on it."""
    odd = any(letter.isspace() or not letter.isprintable() or letter == "\\" for letter in url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if odd or not url.isascii() or port == 0:
        raise ValueError("contains invalid characters or an invalid port")
    return parts


def _check_url(url: str) -> str:
    """Return a webhook's URL without a query. Raises ValueError."""
    parts = _parse_url(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("must look like https://hooks.example.com/path")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user or password; requests are signed instead")
    if parts.query or parts.fragment or "#" in url:
        raise ValueError(
            "must end with its path here; a query is kept apart, a fragment is not sent"
        )
    return url


def _check_url_and_query(url: str) -> str:
    """Return a webhook's URL, which may have a query. Raises ValueError."""
    _parse_url(url)
    if "#" in url:
        raise ValueError("must not contain '#': a fragment is never sent")
    address = url.partition("?")[0]
    if "@" in address.partition("://")[2].partition("/")[2]:
        raise ValueError("has an '@' in its path; write it as %40 there, and give no password")
    _check_url(address)
    return url


class WebhookSettings(msgspec.Struct, frozen=True):
    """The settings of a webhook. The query of its ``url`` is stored with the secrets."""

    url: Annotated[
        str,
        Meta(min_length=1),
        build_rule(check=_check_url, allowed=_URL_EXAMPLE, is_hidden=True),
    ]
    batch: Annotated[int, Meta(ge=1, le=MAX_BATCH)] = 1
    timeout: Annotated[
        float,
        Meta(ge=1, le=MAX_TIMEOUT_SECONDS),
        build_rule(allowed=f"1 to {MAX_TIMEOUT_SECONDS} seconds"),
    ] = 15.0
    allow_http: bool = False
    allow_private: bool = False
    direct: bool = False
    """Whether requests bypass the proxy that is set for webhooks."""

    @property
    def host(self) -> str:
        """The host of the URL: the part of it that may be shown."""
        return urlsplit(self.url).netloc


class GivenWebhookSettings(WebhookSettings, frozen=True):
    """The settings of a webhook as a person gives them: the URL may have a query."""

    url: Annotated[
        str,
        Meta(min_length=1),
        build_rule(check=_check_url_and_query, allowed=_URL_EXAMPLE, is_hidden=True),
    ]


class WebhookSecrets(msgspec.Struct, frozen=True):
    """The secrets of a webhook."""

    keys: tuple[SecretStr, ...] = ()
    """The signing secrets, the newest first."""
    query: SecretStr = SecretStr("")
    """The query of the URL, which may hold a key."""


class RedisStreamSettings(msgspec.Struct, frozen=True):
    """The settings of a Redis stream. Another server's URL is stored with the secrets."""

    stream: Annotated[
        str,
        Meta(pattern=r"\A[!-~]{1,200}\Z"),
        build_rule(allowed="1 to 200 plain characters without spaces"),
    ] = DEFAULT_STREAM
    maxlen: Annotated[int, Meta(ge=1, le=2**53)] = DEFAULT_MAXLEN
    maxbytes: Annotated[int, Meta(ge=MIN_MAXBYTES, le=2**53)] = DEFAULT_MAXBYTES
    """Most bytes of one stream's entries."""


class RedisStreamSecrets(msgspec.Struct, frozen=True):
    """The secrets of a Redis stream."""

    url: RedisAddress | None = None
    """The URL of a Redis server of its own."""


URL_SECRETS: Final = ("query", "url")
"""The secrets that are parts of a sink's URL."""


def build_stored_sink(
    kind: SinkKind, url: str | None, options: Mapping[str, object]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings and the secrets to store for a sink that a person adds.

    Raises InvalidInput, with every mistake.
    """
    if kind is SinkKind.WEBHOOK:
        given = _load(kind, GivenWebhookSettings, {"url": url, **options} if url else options)
        address, _, query = given.url.partition("?")
        return structs.asdict(given) | {"url": address}, {"query": query} if query else {}
    mistakes = load_values(RedisStreamSecrets, {"url": url}).mistakes
    settings = _load(kind, RedisStreamSettings, options, mistakes)
    return _drop_default_bound(structs.asdict(settings)), {"url": url} if url else {}


def build_stored_settings(kind: SinkKind, given: Mapping[str, object]) -> dict[str, Any]:
    """Return the settings to store for a sink, defaults included. Raises InvalidInput."""
    if kind is SinkKind.WEBHOOK:
        return structs.asdict(parse_webhook_settings(given))
    return _drop_default_bound(structs.asdict(parse_redis_stream_settings(given)))


def _drop_default_bound(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a stream's settings without ``maxbytes`` if it is the default.

    Relays of the previous release refuse a setting that they do not know.
    """
    if settings["maxbytes"] == DEFAULT_MAXBYTES:
        del settings["maxbytes"]
    return settings


def apply_defaults(kind: str, stored: Mapping[str, object]) -> Mapping[str, object]:
    """Return the effective settings of a sink for display: those stored, and an omitted default."""
    if kind == SinkKind.REDIS_STREAM:
        return {**stored, "maxbytes": stored.get("maxbytes", DEFAULT_MAXBYTES)}
    return stored


def parse_webhook_settings(given: Mapping[str, object]) -> WebhookSettings:
    """Return the settings. Raises InvalidInput if any is missing, unknown or out of bounds."""
    return _load(SinkKind.WEBHOOK, WebhookSettings, given)


def parse_redis_stream_settings(given: Mapping[str, object]) -> RedisStreamSettings:
    """Return the settings. Raises InvalidInput if any is unknown or out of bounds."""
    return _load(SinkKind.REDIS_STREAM, RedisStreamSettings, given)


def parse_webhook_secrets(stored: Mapping[str, object]) -> WebhookSecrets:
    """Return the secrets. Raises InvalidInput, without showing them, if they cannot be used."""
    return _load_known(SinkKind.WEBHOOK, WebhookSecrets, stored)


def parse_redis_stream_secrets(stored: Mapping[str, object]) -> RedisStreamSecrets:
    """Return the secrets. Raises InvalidInput, without showing them, if they cannot be used."""
    return _load_known(SinkKind.REDIS_STREAM, RedisStreamSecrets, stored)


def _load_known(
    kind: SinkKind, declaration: type[_DeclarationT], stored: Mapping[str, object]
) -> _DeclarationT:
    """Return the known part of stored secrets; a later release may have stored more."""
    known = list_settings(declaration)
    return _load(kind, declaration, {name: stored[name] for name in stored if name in known})


def _load(
    kind: SinkKind,
    declaration: type[_DeclarationT],
    given: Mapping[str, object],
    others: Sequence[Mistake] = (),
) -> _DeclarationT:
    """Return the loaded declaration. Raises InvalidInput for its mistakes and others."""
    values, mistakes = load_values(declaration, given, owner=f"a {kind}")
    mistakes = [*others, *mistakes, *_find_unencrypted(values)]
    if mistakes:
        raise InvalidInput("; ".join(map(str, mistakes)))
    return declaration(**values)


def _find_unencrypted(values: Mapping[str, object]) -> list[Mistake]:
    """Return the mistake of a webhook's URL without TLS that is not allowed to be so."""
    if not str(values.get("url", "")).lower().startswith("http://") or values.get("allow_http"):
        return []
    problem = (
        "must start with https://; only allow_http lets events leave unencrypted, "
        "for receivers on your own network"
    )
    return [Mistake("url", problem)]


def check_sink_name(name: str) -> str:
    """Return a sink's name. Raises InvalidInput if it is hard to type or log."""
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidInput(
            "a sink's name is 1 to 63 of a-z, 0-9, '.', '_' and '-', with a letter or digit first"
        )
    return name
