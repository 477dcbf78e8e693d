"""Settings, read once from the environment and validated.

A name ``X`` may be given as ``X_FILE`` instead, naming a file that holds the value (for secrets).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, Self

from worker.core import parse as read
from worker.core.errors import ConfigurationError
from worker.core.net.url import parse_proxy_url
from worker.core.parse import Certificates, Parser, SecretStr

ENV_PREFIX: Final = "TENANT_MIRROR_"
MICROSOFT_PROVIDERS: Final = (
    "microsoft",
    "microsoft-entra-id",
    "microsoft-admin",
    "microsoft-tenant-specific",
    "microsoft-oauth2-cc",
    "microsoft-oauth2-cc-cert",
)


class _Meta(NamedTuple):
    """A setting's parser and meaning, and its name where it differs from the field's."""

    parser: Parser
    description: str
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings. Created by ``load_settings``."""

    database_url: Annotated[
        SecretStr | None,
        _Meta(
            read.build_secret_url_parser("postgres", "postgresql", "postgresql+psycopg"),
            "Postgres 15 or newer, encoded as UTF8: postgresql://user:password@host:port/database",
            "DATABASE_URL",
        ),
    ] = None
    redis_url: Annotated[
        SecretStr | None,
        _Meta(
            read.parse_redis_address,
            "Redis 6.2 or newer, or Valkey: redis://, rediss:// or unix://",
            "REDIS_URL",
        ),
    ] = None
    nango_host: Annotated[str, _Meta(read.parse_base_url, "where Nango answers", "NANGO_HOST")] = (
        "https://api.nango.dev"
    )
    nango_secret_key: Annotated[
        SecretStr | None,
        _Meta(read.parse_secret, "Nango's environment API key", "NANGO_SECRET_KEY"),
    ] = None
    nango_integrations: Annotated[
        tuple[str, ...],
        _Meta(
            read.parse_list,
            "provider config keys to enrol, with commas; empty: all Microsoft providers",
            "NANGO_INTEGRATIONS",
        ),
    ] = ()
    ca: Annotated[
        Certificates | None,
        _Meta(
            read.parse_certificates,
            "certificates of further authorities to trust, as PEM; ..._CA_FILE names their file",
        ),
    ] = None
    nango_proxy: Annotated[
        SecretStr | None,
        _Meta(parse_proxy_url, "HTTP proxy on the way to Nango: http://user:password@host:port"),
    ] = None
    webhook_proxy: Annotated[
        SecretStr | None, _Meta(parse_proxy_url, "HTTP proxy on the way to webhooks")
    ] = None
    webhook_proxy_resolves: Annotated[
        str,
        _Meta(
            read.build_pattern_parser("^(yes|no)$"),
            "yes: that proxy looks up the names of receivers, and has to keep them from leading "
            "inside",
        ),
    ] = "no"
    home: Annotated[
        Path | None, _Meta(read.parse_path, "where the embedded servers keep their data")
    ] = None
    delta_seconds: Annotated[
        int, _Meta(read.build_int_parser(1), "seconds between two delta rounds")
    ] = 300
    listing_seconds: Annotated[
        int,
        _Meta(
            read.build_int_parser(1), "the same where a tenant has no delta and is listed in full"
        ),
    ] = 3600
    roles_seconds: Annotated[
        int, _Meta(read.build_int_parser(1), "seconds between two reads of the roles")
    ] = 900
    roles_filtered_seconds: Annotated[
        int,
        _Meta(
            read.build_int_parser(1),
            "the same where Graph demands a query for each role definition",
        ),
    ] = 3600
    sites_seconds: Annotated[
        int, _Meta(read.build_int_parser(1), "seconds between two reads of the sites")
    ] = 21_600
    full_walk_seconds: Annotated[
        int, _Meta(read.build_int_parser(60), "seconds between two full walks of users and groups")
    ] = 604_800
    first_full_walk_seconds: Annotated[
        int,
        _Meta(
            read.build_int_parser(60), "seconds from a first load to the first full walk after it"
        ),
    ] = 86_400
    cursor_days: Annotated[
        float,
        _Meta(
            read.build_float_parser(above=0, at_most=7),
            "age at which a delta cursor is no longer trusted",
        ),
    ] = 6.0
    discovery_seconds: Annotated[
        int, _Meta(read.build_int_parser(1), "seconds between two readings of Nango")
    ] = 180
    tick_seconds: Annotated[
        float, _Meta(read.build_float_parser(above=0), "seconds between two looks at what is due")
    ] = 2.0
    slice_seconds: Annotated[
        float, _Meta(read.build_float_parser(above=0, at_most=75), "time budget of one worker task")
    ] = 60.0
    lease_seconds: Annotated[
        int, _Meta(read.build_int_parser(5), "life of a connection's lease")
    ] = 180
    call_seconds: Annotated[
        float, _Meta(read.build_float_parser(above=0), "deadline of one call to Nango")
    ] = 60.0
    retry_seconds: Annotated[
        float, _Meta(read.build_float_parser(at_least=0), "longest pause that is waited in place")
    ] = 20.0
    nango_calls_per_minute: Annotated[
        int | None,
        _Meta(
            read.build_int_parser(1),
            "bound on calls to Nango; unset: learnt from Nango's own headers",
        ),
    ] = None
    first_load_percent: Annotated[
        float,
        _Meta(
            read.build_float_parser(at_least=0, at_most=100),
            "share of Nango's budget that is kept for first loads",
        ),
    ] = 25.0
    dispatch_limit: Annotated[
        int, _Meta(read.build_int_parser(1), "connections claimed in one tick")
    ] = 200
    first_loads: Annotated[
        int,
        _Meta(
            read.build_int_parser(1),
            "first loads under way at once at most, and no more than processes serve them",
        ),
    ] = 100
    guard_percent: Annotated[
        float,
        _Meta(
            read.build_float_parser(above=0, at_most=100),
            "share of a resource whose deletion is held for approval",
        ),
    ] = 20.0
    guard_rows: Annotated[
        int, _Meta(read.build_int_parser(0), "deletions that are never held for their share")
    ] = 50
    guard_connections: Annotated[
        int,
        _Meta(
            read.build_int_parser(0), "connections that may vanish from Nango at once, never held"
        ),
    ] = 1
    guard_connections_percent: Annotated[
        float,
        _Meta(
            read.build_float_parser(above=0, at_most=100),
            "share of the connections whose vanishing at once is held for approval",
        ),
    ] = 20.0
    purge_days: Annotated[
        int, _Meta(read.build_int_parser(1), "days that deleted rows are kept")
    ] = 400
    events_days: Annotated[
        int, _Meta(read.build_int_parser(1), "days that change events are kept")
    ] = 400
    events_grace_days: Annotated[
        int,
        _Meta(
            read.build_int_parser(0),
            "days more that they are kept for an active sink that lacks them",
        ),
    ] = 30
    event_prefix: Annotated[
        str,
        _Meta(
            read.build_pattern_parser(r"^[a-z0-9]+(\.[a-z0-9-]+)*$"),
            "what the types of delivered events begin with, such as com.example",
        ),
    ] = "tenantmirror"
    log_level: Annotated[
        str,
        _Meta(
            read.build_pattern_parser("^(DEBUG|INFO|WARNING|ERROR)$"),
            "least level of what is logged",
        ),
    ] = "INFO"
    log_format: Annotated[
        str, _Meta(read.build_pattern_parser("^(json|console)$"), "json or console")
    ] = "json"


class Setting(NamedTuple):
    """One setting, for documentation and the CLI."""

    name: str
    """The name of the environment variable."""
    default: object
    parser: Parser
    description: str

    @classmethod
    def from_field(cls, field: str) -> Self:
        about: _Meta = Settings.__annotations__[field].__metadata__[0]
        name = about.name or f"{ENV_PREFIX}{field.upper()}"
        return cls(name, getattr(Settings, field), about.parser, about.description)


SETTINGS: Final[Mapping[str, Setting]] = {
    one.name: Setting.from_field(one.name) for one in fields(Settings)
}


def load_settings(**overrides: object) -> Settings:
    """Read the settings; arguments take precedence over the environment.

    Raises ConfigurationError with one line for each mistake; secret values are never shown.
    """
    given: dict[str, Any] = _read_environment(os.environ) | overrides
    values: dict[str, Any] = {}
    complaints: list[str] = []
    for key, setting in SETTINGS.items():
        if key in given:
            try:
                values[key] = _parse(given.pop(key), setting)
            except ValueError as error:
                complaints.append(f"{setting.name}: {error}")
    if complaints:
        raise ConfigurationError("\n".join(complaints))
    return Settings(**values, **given)


def _parse(given: object, setting: Setting) -> object:
    if given is None and setting.default is None:
        return None
    return setting.parser(given)


def _read_environment(environ: Mapping[str, str]) -> dict[str, object]:
    given: dict[str, object] = {}
    for key, setting in SETTINGS.items():
        value, path = environ.get(setting.name), environ.get(f"{setting.name}_FILE")
        if value and path:
            raise ConfigurationError(
                f"{setting.name} and {setting.name}_FILE are both set; keep one of them"
            )
        if path:
            given[key] = _read_value_file(setting.name, path)
        elif value:
            given[key] = value
    return given


def _read_value_file(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{name}_FILE: {path} is not a text in UTF-8") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no file has such a name"
        shown = path if _looks_like_path(path) else f"what it names ({name} takes the value itself)"
        raise ConfigurationError(f"{name}_FILE: cannot read {shown}: {why}") from None


def _looks_like_path(text: str) -> bool:
    """Whether a text is a path (which may be missing), and not a secret by mistake."""
    try:
        return "://" not in text and "/" in text and Path(text).parent.is_dir()
    except (OSError, ValueError):
        return False
