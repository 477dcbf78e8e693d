"""Detects variables in a shell that come from the ``env`` file of an earlier start.

People source it to look at a running mirror, and type ``make run`` in the same shell the next day.
Those values name servers that this start brings up itself, not servers to use instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from msgspec.structs import replace

from worker.core.secret import SecretStr
from worker.core.settings import SETTINGS, Settings

SANDBOX_URL: Final = "TENANT_MIRROR_SANDBOX_URL"
SANDBOX_KEY: Final = "TENANT_MIRROR_SANDBOX_KEY"

DEMO_INTERVALS: Final = {
    "TENANT_MIRROR_DELTA_SECONDS": "5",
    "TENANT_MIRROR_ROLES_SECONDS": "15",
    "TENANT_MIRROR_SITES_SECONDS": "30",
    "TENANT_MIRROR_APP_ROLES_SECONDS": "30",
    "TENANT_MIRROR_TICK_SECONDS": "1",
}
"""Intervals for the simulated customers, short enough to watch; real ones keep the defaults."""


@dataclass(frozen=True)
class GeneratedSecrets:
    """Secrets that the home directory generated; None if not yet made. They identify our values."""

    postgres: str | None
    valkey: str | None
    sandbox: str | None


@dataclass(frozen=True)
class GivenSettings:
    """The settings that a person really gave."""

    settings: Settings
    ignored_variables: tuple[str, ...]
    """Variables of the environment that came from our ``env`` file."""


def drop_own_values(
    settings: Settings, environ: Mapping[str, str], own: GeneratedSecrets
) -> GivenSettings:
    """Return the settings without those from this home's ``env`` file. Pure."""
    ignored: list[str] = []
    if own.postgres is not None and _password_from_url(settings.database_url) == own.postgres:
        ignored.append("DATABASE_URL")
        settings = replace(settings, database_url=None)
    if own.valkey is not None and _password_from_url(settings.redis_url) == own.valkey:
        ignored.append("REDIS_URL")
        settings = replace(settings, redis_url=None)
    key = settings.nango_secret_key
    if key is not None and key.get_secret_value() == own.sandbox:
        ignored.append("NANGO_SECRET_KEY")
        settings = replace(settings, nango_secret_key=None)
    if own.sandbox is not None and environ.get(SANDBOX_KEY) == own.sandbox:
        if environ.get("NANGO_HOST") == environ.get(SANDBOX_URL, ""):
            ignored.append("NANGO_HOST")
            settings = replace(settings, nango_host=SETTINGS["nango_host"].default)
        ignored += [name for name, value in DEMO_INTERVALS.items() if environ.get(name) == value]
    return GivenSettings(settings, tuple(ignored))


def _password_from_url(address: SecretStr | None) -> str | None:
    if address is None:
        return None
    try:
        password = urlsplit(address.get_secret_value()).password
    except ValueError:
        return None
    return None if password is None else unquote(password)


def render_notice(ignored: tuple[str, ...], place: object) -> str | None:
    """Return the notice about ignored servers, or None; intervals alone are not worth one."""
    names = [name for name in ignored if name not in DEMO_INTERVALS]
    if not names:
        return None
    return (
        f"{', '.join(names)} in this shell come from {place}: they name the servers that are "
        "started here, and are ignored"
    )
