"""Settings, read once from the environment and validated.

A name ``X`` may be given as ``X_FILE`` instead, naming a file that holds the value (for secrets).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from worker.core.config import Mistake, Setting, list_settings, load_values
from worker.core.errors import ConfigurationError
from worker.core.secret import Certificates, SecretStr
from worker.core.setting_types import (
    ActorName,
    BaseUrl,
    ClientIds,
    DatabaseUrl,
    EventPrefix,
    HostNames,
    NaturalInt,
    Networks,
    PositiveFloat,
    PositiveInt,
    ProxyUrl,
    RedisAddress,
    ResourceNames,
    WebToken,
)
from worker.core.value_file import read_value_file

ENV_PREFIX: Final = "TENANT_MIRROR_"
MICROSOFT_PROVIDERS: Final = (
    "microsoft",
    "microsoft-entra-id",
    "microsoft-admin",
    "microsoft-tenant-specific",
    "microsoft-oauth2-cc",
    "microsoft-oauth2-cc-cert",
)


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
    nango_host: Annotated[BaseUrl, Meta(description="address of Nango")] = msgspec.field(
        default="https://api.nango.dev", name="NANGO_HOST"
    )
    nango_secret_key: Annotated[
        SecretStr | None, Meta(description="Nango's environment API key")
    ] = msgspec.field(default=None, name="NANGO_SECRET_KEY")
    nango_integrations: Annotated[
        tuple[str, ...],
        Meta(
            description="provider config keys to enrol, separated by commas; empty: all "
            "Microsoft providers"
        ),
    ] = msgspec.field(default=(), name="NANGO_INTEGRATIONS")
    client_ids: Annotated[
        ClientIds,
        Meta(
            description="client id of the application that customers consent to, for texts to "
            "them; with several: INTEGRATION=id, separated by commas"
        ),
    ] = ()
    ca: Annotated[
        Certificates | None,
        Meta(
            description="certificates of additional trusted authorities, as PEM; ..._CA_FILE "
            "names a file"
        ),
    ] = None
    nango_proxy: Annotated[
        ProxyUrl | None,
        Meta(description="HTTP proxy for calls to Nango: http://user:password@host:port"),
    ] = None
    webhook_proxy: Annotated[ProxyUrl | None, Meta(description="HTTP proxy for webhooks")] = None
    webhook_proxy_resolves: Annotated[
        Literal["yes", "no"],
        Meta(
            description="yes: that proxy resolves the names of receivers, and has to refuse "
            "internal addresses"
        ),
    ] = "no"
    home: Annotated[Path | None, Meta(description="data directory of the embedded servers")] = None
    delta_seconds: Annotated[PositiveInt, Meta(description="seconds between two delta rounds")] = (
        300
    )
    listing_seconds: Annotated[
        PositiveInt,
        Meta(description="the same for a tenant without delta, which is listed in full"),
    ] = 3600
    roles_seconds: Annotated[
        PositiveInt, Meta(description="seconds between two reads of the roles")
    ] = 900
    roles_filtered_seconds: Annotated[
        PositiveInt,
        Meta(description="the same if Graph requires a query for each role definition"),
    ] = 3600
    sites_seconds: Annotated[
        PositiveInt, Meta(description="seconds between two reads of the sites")
    ] = 21_600
    daily_seconds: Annotated[
        PositiveInt, Meta(description="seconds between two reads of what is read daily")
    ] = 86_400
    app_roles_seconds: Annotated[
        PositiveInt,
        Meta(description="seconds between two reads of the application permissions"),
    ] = 3600
    other_app_roles_seconds: Annotated[
        PositiveInt,
        Meta(description="seconds between two reads of who may use which application"),
    ] = 86_400
    full_walk_seconds: Annotated[
        int, Meta(ge=60, description="seconds between two full walks of users and groups")
    ] = 604_800
    first_full_walk_seconds: Annotated[
        int, Meta(ge=60, description="seconds from a first load to the first full walk after it")
    ] = 86_400
    cursor_days: Annotated[
        float,
        Meta(gt=0, le=7, description="age in days from which a delta cursor is no longer used"),
    ] = 6.0
    resources_on: Annotated[
        ResourceNames,
        Meta(description="resources to mirror that are off by default, separated by commas"),
    ] = ()
    resources_off: Annotated[
        ResourceNames, Meta(description="resources not to mirror, separated by commas")
    ] = ()
    discovery_seconds: Annotated[
        PositiveInt, Meta(description="seconds between two discoveries of connections in Nango")
    ] = 180
    tick_seconds: Annotated[
        PositiveFloat, Meta(description="seconds between two ticks, which dispatch due connections")
    ] = 2.0
    slice_seconds: Annotated[
        float, Meta(gt=0, le=75, description="time budget of one worker task, in seconds")
    ] = 60.0
    lease_seconds: Annotated[
        int, Meta(ge=5, description="seconds that a connection's lease lasts")
    ] = 180
    call_seconds: Annotated[
        PositiveFloat, Meta(description="deadline of one call to Nango, in seconds")
    ] = 60.0
    retry_seconds: Annotated[
        float, Meta(ge=0, description="longest pause before a retry within a slice, in seconds")
    ] = 20.0
    nango_calls_per_minute: Annotated[
        PositiveInt | None,
        Meta(description="limit of calls to Nango; unset: learnt from Nango's headers"),
    ] = None
    first_load_percent: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="percentage of Nango's budget that is reserved for first loads",
        ),
    ] = 25.0
    dispatch_limit: Annotated[PositiveInt, Meta(description="connections claimed in one tick")] = (
        200
    )
    first_loads: Annotated[
        PositiveInt,
        Meta(
            description="most first loads at the same time; the number of processes that serve "
            "them is a limit, too"
        ),
    ] = 100
    guard_percent: Annotated[
        float,
        Meta(
            gt=0,
            le=100,
            description="percentage of a resource above which a deletion is held for approval",
        ),
    ] = 20.0
    guard_rows: Annotated[
        NaturalInt,
        Meta(description="number of deletions up to which they are not held for their percentage"),
    ] = 50
    guard_connections: Annotated[
        NaturalInt,
        Meta(
            description="number of connections that may disappear from Nango at once without "
            "being held"
        ),
    ] = 1
    guard_connections_percent: Annotated[
        float,
        Meta(
            gt=0,
            le=100,
            description="percentage of the connections above which their disappearance at once "
            "is held",
        ),
    ] = 20.0
    purge_days: Annotated[PositiveInt, Meta(description="retention of deleted rows, in days")] = 400
    events_days: Annotated[
        PositiveInt, Meta(description="retention of change events and daily samples, in days")
    ] = 400
    events_grace_days: Annotated[
        NaturalInt,
        Meta(
            description="additional retention, in days, of events that an active sink has not "
            "received"
        ),
    ] = 30
    event_prefix: Annotated[
        EventPrefix,
        Meta(description="prefix of the types of delivered events, such as com.example"),
    ] = "tenantmirror"
    actor: Annotated[
        ActorName | None,
        Meta(
            description="name of the operator in the audit of the command line; unset: the user "
            "of the host"
        ),
    ] = None
    web_host: Annotated[str, Meta(description="address at which 'web' listens")] = "127.0.0.1"
    web_port: Annotated[
        int, Meta(ge=0, le=65_535, description="port at which 'web' listens; 0: any free one")
    ] = 8420
    web_names: Annotated[
        HostNames,
        Meta(
            description="additional names by which clients reach 'web', separated by commas; "
            "requests for other names are refused"
        ),
    ] = ()
    web_token: Annotated[
        WebToken | None,
        Meta(description="a token with every scope, for the time before there are others"),
    ] = None
    web_proxies: Annotated[
        Networks,
        Meta(
            description="addresses or networks of reverse proxies whose X-Forwarded-For and "
            "X-Forwarded-Proto are trusted, separated by commas"
        ),
    ] = ()
    web_certificate: Annotated[
        Path | None, Meta(description="file with the certificate chain for HTTPS, as PEM")
    ] = None
    web_certificate_key: Annotated[
        Path | None, Meta(description="file with the key of that certificate, as PEM")
    ] = None
    web_allow_http: Annotated[
        Literal["yes", "no"],
        Meta(
            description="yes: 'web' may listen beyond this host without HTTPS and without a "
            "listed proxy"
        ),
    ] = "no"
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Meta(description="log level: DEBUG, INFO, WARNING or ERROR"),
    ] = "INFO"
    log_format: Annotated[
        Literal["json", "console"], Meta(description="log format: json or console")
    ] = "json"


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
    mistakes = given.mistakes + loaded.mistakes + _find_contradictions(loaded.values)
    if mistakes:
        raise ConfigurationError("\n".join(f"{one.name}: {one.problem}" for one in mistakes))
    return Settings(**loaded.values)


def _find_contradictions(values: Mapping[str, Any]) -> list[Mistake]:
    """Return that a resource is switched both on and off, if one is."""
    both = sorted({*values.get("resources_on", ())} & {*values.get("resources_off", ())})
    if not both:
        return []
    on, off = SETTINGS["resources_on"].name, SETTINGS["resources_off"].name
    return [Mistake(on, f"and {off} both name {', '.join(both)}; keep one of them")]


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
                given.texts[name] = read_value_file(name, path)
            except ValueError as error:
                given.mistakes.append(Mistake(f"{name}_FILE", str(error)))
            given.from_files.add(name)
    return given
