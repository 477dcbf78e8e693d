"""Settings: read once from the environment, validated, never guessed.

A name ``X`` may be given as ``X_FILE`` instead, naming a file that holds the value (for secrets).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from worker.core.errors import Halt

PREFIX = "TENANT_MIRROR_"
MICROSOFT_PROVIDERS = (
    "microsoft",
    "microsoft-entra-id",
    "microsoft-admin",
    "microsoft-tenant-specific",
    "microsoft-oauth2-cc",
    "microsoft-oauth2-cc-cert",
)
_POSTGRES = ("postgres", "postgresql", "postgresql+psycopg")
_REDIS = ("redis", "rediss", "unix")


class Settings(BaseSettings):
    """Everything that can be set from outside."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    database_url: SecretStr | None = Field(
        None,
        validation_alias="DATABASE_URL",
        description="Postgres 15 or newer: postgresql://user:password@host:port/database",
    )
    redis_url: SecretStr | None = Field(
        None,
        validation_alias="REDIS_URL",
        description="Redis 6.2 or newer, or Valkey: redis://, rediss:// or unix://",
    )
    nango_host: str = Field(
        "https://api.nango.dev", validation_alias="NANGO_HOST", description="where Nango answers"
    )
    nango_secret_key: SecretStr | None = Field(
        None, validation_alias="NANGO_SECRET_KEY", description="Nango's environment API key"
    )
    nango_integrations: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        validation_alias="NANGO_INTEGRATIONS",
        description="provider config keys to enrol, with commas; empty: all Microsoft providers",
    )
    home: Path | None = Field(None, description="where the embedded servers keep their data")
    delta_seconds: int = Field(300, ge=1, description="seconds between two delta rounds")
    listing_seconds: int = Field(
        3600, ge=1, description="the same where a tenant has no delta and is listed in full"
    )
    roles_seconds: int = Field(900, ge=1, description="seconds between two reads of the roles")
    roles_filtered_seconds: int = Field(
        3600, ge=1, description="the same where Graph demands a query for each role definition"
    )
    sites_seconds: int = Field(21_600, ge=1, description="seconds between two reads of the sites")
    full_walk_seconds: int = Field(
        604_800, ge=60, description="seconds between two full walks of users and groups"
    )
    first_full_walk_seconds: int = Field(
        86_400, ge=60, description="seconds from a first load to the first full walk after it"
    )
    cursor_days: float = Field(
        6, gt=0, le=7, description="age at which a delta cursor is no longer trusted"
    )
    discovery_seconds: int = Field(180, ge=1, description="seconds between two readings of Nango")
    tick_seconds: float = Field(2, gt=0, description="seconds between two looks at what is due")
    slice_seconds: float = Field(60, gt=0, le=75, description="time budget of one worker task")
    lease_seconds: int = Field(180, ge=5, description="life of a connection's lease")
    call_seconds: float = Field(60, gt=0, description="deadline of one call to Nango")
    retry_seconds: float = Field(20, ge=0, description="longest pause that is waited in place")
    nango_calls_per_minute: int | None = Field(
        None,
        ge=1,
        description="bound on calls to Nango; unset: learnt from Nango's own headers",
    )
    first_load_percent: float = Field(
        25, ge=0, le=100, description="share of Nango's budget that is kept for first loads"
    )
    dispatch_limit: int = Field(200, ge=1, description="connections claimed in one tick")
    first_loads: int = Field(4, ge=1, description="first loads that are under way at once")
    guard_percent: float = Field(
        20, gt=0, le=100, description="share of a resource whose deletion is held for approval"
    )
    guard_rows: int = Field(50, ge=0, description="deletions that are never held for their share")
    purge_days: int = Field(400, ge=1, description="days that deleted rows are kept")
    events_days: int = Field(400, ge=1, description="days that change events are kept")
    events_grace_days: int = Field(
        30, ge=0, description="days more that they are kept for an active sink that lacks them"
    )
    event_prefix: str = Field(
        "tenantmirror",
        pattern=r"^[a-z0-9]+(\.[a-z0-9-]+)*$",
        description="what the types of delivered events begin with, such as com.example",
    )
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="how much")
    log_format: str = Field("json", pattern="^(json|console)$", description="json or console")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, FilesOrEnvironment(settings_cls)

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: SecretStr | None) -> SecretStr | None:
        return _checked(value, _POSTGRES)

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr | None) -> SecretStr | None:
        return _checked(value, _REDIS)

    @field_validator("nango_host")
    @classmethod
    def _http(cls, value: str) -> str:
        if not _is_base_address(value):
            raise ValueError("must look like https://api.nango.dev or http://host:3003/path")
        return value.rstrip("/")

    @field_validator("nango_integrations", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value


def environment_name(field: str) -> str:
    """The environment variable behind a field."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias) if alias else f"{PREFIX}{field.upper()}"


class FilesOrEnvironment(EnvSettingsSource):
    """The environment, where ``X_FILE`` stands for the content of a file."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self.env_vars = {name.lower(): value for name, value in _with_files(os.environ).items()}


def _with_files(environ: Mapping[str, str]) -> dict[str, str]:
    names = {environment_name(field) for field in Settings.model_fields}
    found = {name: environ[name] for name in names if environ.get(name)}
    for name in sorted(names):
        path = environ.get(f"{name}_FILE")
        if not path:
            continue
        if name in found:
            raise Halt(f"{name} and {name}_FILE are both set; keep one of them")
        try:
            found[name] = Path(path).read_text(encoding="utf-8").removesuffix("\n")
        except OSError as fault:
            raise Halt(f"{name}_FILE: cannot read {path}: {fault.strerror}") from None
        except UnicodeDecodeError:
            raise Halt(f"{name}_FILE: {path} is not a text in UTF-8") from None
    return found


def _checked(value: SecretStr | None, schemes: tuple[str, ...]) -> SecretStr | None:
    if value is None:
        return None
    try:
        scheme = urlsplit(value.get_secret_value()).scheme
    except ValueError:
        raise ValueError("is not a URL") from None
    if scheme not in schemes:
        raise ValueError(f"must start with {', '.join(f'{s}://' for s in schemes)}")
    return value


def _is_base_address(value: str) -> bool:
    """Whether paths can be appended: no user, query, fragment, blank or control character."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    odd = any(letter in "@?#\\" or letter.isspace() or not letter.isprintable() for letter in value)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and not odd


def load_settings(**overrides: Any) -> Settings:
    """Read the settings.

    Raises Halt with one line for each mistake; a bad value is named, a secret one never shown.
    """
    try:
        return Settings(**overrides)
    except ValidationError as fault:
        raise Halt("\n".join(_complaint(dict(error)) for error in fault.errors())) from None


def _complaint(error: dict[str, Any]) -> str:
    field = str(error["loc"][0]) if error["loc"] else ""
    name = environment_name(field) if field in Settings.model_fields else field
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {message[:1].lower()}{message[1:]}"
