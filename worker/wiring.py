"""Open the database, Nango client and runtime of a process. Call these only after a fork."""

import gc
import sys

from worker.core.errors import ConfigurationError, MirrorError
from worker.core.log import get_logger
from worker.core.net.tls import build_ssl_context
from worker.core.net.transport import TransportConfig
from worker.core.net.url import is_unencrypted, proxy_from_setting
from worker.core.process.tuning import GC_THRESHOLD, SWITCH_INTERVAL_SECONDS, tune_malloc
from worker.core.settings import Settings
from worker.graph.throttle import GraphThrottle
from worker.nango.client import NangoClient, RetryPolicy
from worker.nango.limiter import open_limiter
from worker.store.counters import flush_counts
from worker.store.engine import Database
from worker.sync.runtime import Runtime


def open_database(settings: Settings, *, pool_size: int = 1) -> Database:
    """Return the mirror's database. Raises ConfigurationError if ``DATABASE_URL`` is not set."""
    if settings.database_url is None:
        raise ConfigurationError(
            "DATABASE_URL is not set; it names the Postgres database of the mirror"
        )
    return Database(settings.database_url.get_secret_value(), pool_size=pool_size)


def open_nango(settings: Settings) -> NangoClient:
    """Return the Nango client. Raises ConfigurationError if ``NANGO_SECRET_KEY`` is not set."""
    if settings.nango_secret_key is None:
        raise ConfigurationError(
            "NANGO_SECRET_KEY is not set; it is the API key of your Nango environment"
        )
    key = settings.nango_secret_key.get_secret_value()
    if is_unencrypted(settings.nango_host):
        get_logger().warning(
            "unencrypted connection to Nango: the API key and all data can be read on the way",
            nango_host=settings.nango_host,
            hint="set NANGO_HOST to an address that begins with https://",
        )
    return NangoClient(
        settings.nango_host,
        key,
        throttle=GraphThrottle(),
        retry_policy=RetryPolicy(settings.call_seconds, settings.retry_seconds),
        limiter=open_limiter(settings, key),
        way=TransportConfig(
            build_ssl_context(settings.ca),
            proxy_from_setting(settings.nango_proxy, "TENANT_MIRROR_NANGO_PROXY"),
        ),
    )


def open_runtime(settings: Settings) -> Runtime:
    """Tune the interpreter and return everything that a sync needs."""
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    gc.set_threshold(GC_THRESHOLD)
    tune_malloc()
    return Runtime(open_database(settings), open_nango(settings), settings)


def close_runtime(runtime: Runtime) -> None:
    """Store what was counted and not stored yet, and close everything."""
    try:
        flush_counts(runtime.database, runtime.nango.counts)
    except MirrorError as error:
        get_logger().warning("counts of this process not stored", reason=str(error))
    runtime.nango.close()
    runtime.database.close()
