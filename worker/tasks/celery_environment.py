"""Refuse environment variables that would override Tenant Mirror's Celery settings. Pure.

Celery lets ``CELERY_BROKER_URL`` and similar ones override an application's settings, and its
command line silently reads every option from a variable (``CELERY_WORKER_POOL``, ``BROKER_URL``).
"""

from collections.abc import Mapping
from typing import Final

from worker.core.errors import ConfigurationError

_SET_BY_CELERY: Final = (
    "CELERY_LOG_FILE",
    "CELERY_LOG_LEVEL",
    "CELERY_LOG_REDIRECT",
    "CELERY_LOG_REDIRECT_LEVEL",
    "CELERY_SKIP_CHECKS",
)
"""Set by Celery for its own child processes."""

_CLICK_ALIASES: Final = {
    "CELERY_BROKER_URL": "BROKER_URL",
    "CELERY_RESULT_BACKEND": "RESULT_BACKEND",
    "CELERY_LOADER": "LOADER",
    "CELERY_CONFIG_MODULE": "CONFIG_MODULE",
}
"""Variables that Celery's command line sets, and the variable of the option behind each."""


def refuse_celery_variables(environ: Mapping[str, str]) -> None:
    """Refuse variables that would override Tenant Mirror's Celery settings.

    Raises ConfigurationError, which names them.
    """
    found = sorted(
        _find_source_variable(name, environ)
        for name, value in environ.items()
        if name.startswith("CELERY_") and value and name not in _SET_BY_CELERY
    )
    if found:
        raise ConfigurationError(
            f"{', '.join(found)} would override Tenant Mirror's configuration of Celery; unset "
            "it (the broker is REDIS_URL)"
        )


def _find_source_variable(name: str, environ: Mapping[str, str]) -> str:
    short = _CLICK_ALIASES.get(name)
    return short if short and environ.get(short) == environ[name] else name
