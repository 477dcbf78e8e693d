"""Settings, read once from the environment and validated.

A name ``X`` may be given as ``X_FILE`` instead, naming a file that holds the value (for secrets).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from worker.core.config import Mistake, Setting, build_rule, list_settings, load_values
from worker.core.errors import ConfigurationError
from worker.core.net.url import check_base_url, check_proxy_url
from worker.core.redis.url import parse_redis_url
from worker.core.secret import Certificates, SecretStr

ENV_PREFIX: Final = "TENANT_MIRROR_"
MICROSOFT_PROVIDERS: Final = (
    "microsoft",
    "microsoft-entra-id",
    "microsoft-admin",
    "microsoft-tenant-specific",
    "microsoft-oauth2-cc",
    "microsoft-oauth2-cc-cert",
)


_DATABASE_SCHEMES: Final = ("postgres", "postgresql", "postgresql+psycopg")


def _check_database_url(url: SecretStr) -> SecretStr:
    try:
        scheme = urlsplit(url.get_secret_value()).scheme
    except ValueError:
        raise ValueError("is not a URL") from None
    if scheme not in _DATABASE_SCHEMES:
        raise ValueError(f"must start with {', '.join(f'{one}://' for one in _DATABASE_SCHEMES)}")
    return url


def _check_redis_url(url: SecretStr) -> SecretStr:
    parse_redis_url(url.get_secret_value())
    return url


PositiveInt = Annotated[int, Meta(ge=1)]
NaturalInt = Annotated[int, Meta(ge=0)]
PositiveFloat = Annotated[float, Meta(gt=0)]
DatabaseUrl = Annotated[SecretStr, build_rule(check=_check_database_url)]
RedisAddress = Annotated[SecretStr, build_rule(check=_check_redis_url)]
ProxyUrl = Annotated[SecretStr, build_rule(check=check_proxy_url)]
BaseUrl = Annotated[str, build_rule(check=check_base_url, is_hidden=True)]
EventPrefix = Annotated[
    str,
    Meta(pattern=r"\A[a-z0-9]+(\.[a-z0-9-]+)*\Z"),
    build_rule(allowed="words of a-z and 0-9 with dots between them, such as com.example"),
]


def _name_variable(field: str) -> str:
    return f"{ENV_PREFIX}{field.upper()}"


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename=_name_variable):
    """All settings. Created by ``load_settings``."""

    database_url: Annotated[
        DatabaseUrl | None,
        Meta(
            description="Postgres 15 or newer, encoded as UTF8: "
            "postgresql://user:password@host:port/database"
        ),
    ] = msgspec.field(default=None, name="DATABASE_URL")
    redis_url: Annotated[
        RedisAddress | None,
        Meta(description="Redis 6.2 or newer, or Valkey: redis://, rediss:// or unix://"),
    ] = msgspec.field(default=None, name="REDIS_URL")
    nango_host: Annotated[BaseUrl, Meta(description="where Nango answers")] = msgspec.field(
        default="https://api.nango.dev", name="NANGO_HOST"
    )
    nango_secret_key: Annotated[
        SecretStr | None, Meta(description="Nango's environment API key")
    ] = msgspec.field(default=None, name="NANGO_SECRET_KEY")
    nango_integrations: Annotated[
        tuple[str, ...],
        Meta(
            description="provider config keys to enrol, with commas; empty: all Microsoft providers"
        ),
    ] = msgspec.field(default=(), name="NANGO_INTEGRATIONS")
    ca: Annotated[
        Certificates | None,
        Meta(
            description="certificates of further authorities to trust, as PEM; "
            "..._CA_FILE names their file"
        ),
    ] = None
    nango_proxy: Annotated[
        ProxyUrl | None,
        Meta(description="HTTP proxy on the way to Nango: http://user:password@host:port"),
    ] = None
    webhook_proxy: Annotated[
        ProxyUrl | None, Meta(description="HTTP proxy on the way to webhooks")
    ] = None
    webhook_proxy_resolves: Annotated[
        Literal["yes", "no"],
        Meta(
            description="yes: that proxy looks up the names of receivers, and has to keep them "
            "from leading inside"
        ),
    ] = "no"
    home: Annotated[Path | None, Meta(description="where the embedded servers keep their data")] = (
        None
    )
    delta_seconds: Annotated[PositiveInt, Meta(description="seconds between two delta rounds")] = (
        300
    )
    listing_seconds: Annotated[
        PositiveInt,
        Meta(description="the same where a tenant has no delta and is listed in full"),
    ] = 3600
    roles_seconds: Annotated[
        PositiveInt, Meta(description="seconds between two reads of the roles")
    ] = 900
    roles_filtered_seconds: Annotated[
        PositiveInt,
        Meta(description="the same where Graph demands a query for each role definition"),
    ] = 3600
    sites_seconds: Annotated[
        PositiveInt, Meta(description="seconds between two reads of the sites")
    ] = 21_600
    full_walk_seconds: Annotated[
        int, Meta(ge=60, description="seconds between two full walks of users and groups")
    ] = 604_800
    first_full_walk_seconds: Annotated[
        int, Meta(ge=60, description="seconds from a first load to the first full walk after it")
    ] = 86_400
    cursor_days: Annotated[
        float, Meta(gt=0, le=7, description="age at which a delta cursor is no longer trusted")
    ] = 6.0
    discovery_seconds: Annotated[
        PositiveInt, Meta(description="seconds between two readings of Nango")
    ] = 180
    tick_seconds: Annotated[
        PositiveFloat, Meta(description="seconds between two looks at what is due")
    ] = 2.0
    slice_seconds: Annotated[
        float, Meta(gt=0, le=75, description="time budget of one worker task")
    ] = 60.0
    lease_seconds: Annotated[int, Meta(ge=5, description="life of a connection's lease")] = 180
    call_seconds: Annotated[PositiveFloat, Meta(description="deadline of one call to Nango")] = 60.0
    retry_seconds: Annotated[
        float, Meta(ge=0, description="longest pause that is waited in place")
    ] = 20.0
    nango_calls_per_minute: Annotated[
        PositiveInt | None,
        Meta(description="bound on calls to Nango; unset: learnt from Nango's own headers"),
    ] = None
    first_load_percent: Annotated[
        float,
        Meta(ge=0, le=100, description="share of Nango's budget that is kept for first loads"),
    ] = 25.0
    dispatch_limit: Annotated[PositiveInt, Meta(description="connections claimed in one tick")] = (
        200
    )
    first_loads: Annotated[
        PositiveInt,
        Meta(
            description="first loads under way at once at most, "
            "and no more than processes serve them"
        ),
    ] = 100
    guard_percent: Annotated[
        float,
        Meta(gt=0, le=100, description="share of a resource whose deletion is held for approval"),
    ] = 20.0
    guard_rows: Annotated[
        NaturalInt, Meta(description="deletions that are never held for their share")
    ] = 50
    guard_connections: Annotated[
        NaturalInt,
        Meta(description="connections that may vanish from Nango at once, never held"),
    ] = 1
    guard_connections_percent: Annotated[
        float,
        Meta(
            gt=0,
            le=100,
            description="share of the connections whose vanishing at once is held for approval",
        ),
    ] = 20.0
    purge_days: Annotated[PositiveInt, Meta(description="days that deleted rows are kept")] = 400
    events_days: Annotated[PositiveInt, Meta(description="days that change events are kept")] = 400
    events_grace_days: Annotated[
        NaturalInt,
        Meta(description="days more that they are kept for an active sink that lacks them"),
    ] = 30
    event_prefix: Annotated[
        EventPrefix,
        Meta(description="what the types of delivered events begin with, such as com.example"),
    ] = "tenantmirror"
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Meta(description="least level of what is logged"),
    ] = "INFO"
    log_format: Annotated[Literal["json", "console"], Meta(description="json or console")] = "json"


SETTINGS: Final[Mapping[str, Setting]] = list_settings(Settings)


class _GivenValues(NamedTuple):
    """The texts of the environment by the name of the variable, and what is wrong with it."""

    texts: dict[str, str]
    from_files: set[str]
    mistakes: list[Mistake]


def load_settings(**overrides: object) -> Settings:
    """Read the settings; arguments take precedence over the environment.

    Raises ConfigurationError with one line for each mistake; secret values are never shown.
    """
    if unknown := overrides.keys() - SETTINGS.keys():
        raise TypeError(f"no such settings: {', '.join(sorted(unknown))}")
    given = _read_environment(os.environ)
    named = {SETTINGS[field].name: value for field, value in overrides.items()}
    loaded = load_values(
        Settings, given.texts | named, parses_text=True, unquoted=given.from_files - named.keys()
    )
    mistakes = given.mistakes + loaded.mistakes
    if mistakes:
        raise ConfigurationError("\n".join(f"{one.name}: {one.problem}" for one in mistakes))
    return Settings(**loaded.values)


def _read_environment(environ: Mapping[str, str]) -> _GivenValues:
    given = _GivenValues({}, set(), [])
    for name in (setting.name for setting in SETTINGS.values()):
        value, path = environ.get(name), environ.get(f"{name}_FILE")
        if value and path:
            given.mistakes.append(Mistake(name, f"{name}_FILE is set as well; keep one of them"))
        elif value:
            given.texts[name] = value
        elif path:
            try:
                given.texts[name] = _read_value_file(name, path)
            except ValueError as error:
                given.mistakes.append(Mistake(f"{name}_FILE", str(error)))
            given.from_files.add(name)
    return given


def _read_value_file(name: str, path: str) -> str:
    """Return the content of a file without its last line break. Raises ValueError."""
    try:
        return Path(path).read_text(encoding="utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text in UTF-8") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no file has such a name"
        shown = path if _looks_like_path(path) else f"what it names ({name} takes the value itself)"
        raise ValueError(f"cannot read {shown}: {why}") from None


def _looks_like_path(text: str) -> bool:
    """Whether a text is a path (which may be missing), and not a secret by mistake."""
    try:
        return "://" not in text and "/" in text and Path(text).parent.is_dir()
    except (OSError, ValueError):
        return False
