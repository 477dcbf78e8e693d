"""Variables by which Celery would be set up otherwise than we do. Pure.

Celery lets ``CELERY_BROKER_URL`` and its like win over what an application sets, and its command
line takes every option from a variable (``CELERY_WORKER_POOL``, ``BROKER_URL``) without a word.
"""

from collections.abc import Mapping
from typing import Final

from worker.core.errors import Halt

_OF_CELERY_ITSELF: Final = (
    "CELERY_LOG_FILE",
    "CELERY_LOG_LEVEL",
    "CELERY_LOG_REDIRECT",
    "CELERY_LOG_REDIRECT_LEVEL",
    "CELERY_SKIP_CHECKS",
)
"""Set by Celery for its own child processes."""

_SHORT: Final = {
    "CELERY_BROKER_URL": "BROKER_URL",
    "CELERY_RESULT_BACKEND": "RESULT_BACKEND",
    "CELERY_LOADER": "LOADER",
    "CELERY_CONFIG_MODULE": "CONFIG_MODULE",
}
"""Other variables out of which Celery's command line makes those, and the options that do."""


def refuse_celery_variables(environ: Mapping[str, str]) -> None:
    """Raises Halt, naming them, where variables would win over our settings of Celery."""
    found = sorted(
        _origin(name, environ)
        for name, value in environ.items()
        if name.startswith("CELERY_") and value and name not in _OF_CELERY_ITSELF
    )
    if found:
        raise Halt(
            f"{', '.join(found)} would set up Celery otherwise than Tenant Mirror needs it; unset "
            "it (the broker is REDIS_URL)"
        )


def _origin(name: str, environ: Mapping[str, str]) -> str:
    short = _SHORT.get(name)
    return short if short and environ.get(short) == environ[name] else name
