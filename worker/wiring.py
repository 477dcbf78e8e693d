"""What each process is built from. Nothing is opened before the fork: call these after it."""

import gc
import sys

from worker.core.errors import Halt
from worker.core.log import logger
from worker.core.memory import give_back_what_is_freed
from worker.core.settings import Settings
from worker.core.transport import Way
from worker.core.trust import trusted
from worker.core.url import is_read_on_the_way, proxy_of
from worker.nango.client import NangoClient, Patience
from worker.nango.gate import open_gate
from worker.store.engine import Database
from worker.sync.run import Kit


def open_database(settings: Settings, *, pool_size: int = 1) -> Database:
    """The mirror's database. Raises Halt where no address is set."""
    if settings.database_url is None:
        raise Halt("DATABASE_URL is not set; it names the Postgres database of the mirror")
    return Database(settings.database_url.get_secret_value(), pool_size=pool_size)


def open_nango(settings: Settings) -> NangoClient:
    """The way to Nango. Raises Halt where no key is set."""
    if settings.nango_secret_key is None:
        raise Halt("NANGO_SECRET_KEY is not set; it is the API key of your Nango environment")
    key = settings.nango_secret_key.get_secret_value()
    if is_read_on_the_way(settings.nango_host):
        logger().warning(
            "the way to Nango is not encrypted: others on it can read the key and all data; "
            "let NANGO_HOST begin with https://",
            nango_host=settings.nango_host,
        )
    return NangoClient(
        settings.nango_host,
        key,
        patience=Patience(settings.call_seconds, settings.retry_seconds),
        gate=open_gate(settings, key),
        way=Way(trusted(settings.ca), proxy_of(settings.nango_proxy, "TENANT_MIRROR_NANGO_PROXY")),
    )


COLLECT_AFTER = 10_000
"""Objects made until Python looks for garbage in circles; a page makes thousands and no circle."""

SWITCH_SECONDS = 0.0002
"""How long the interpreter lets a thread run on while another wants to.

Decoding keeps the processor busy beside the loader, which comes back from Postgres dozens of times
a page; with Python's default of 5 ms it would wait that long each time (measured: a fifth of a
first load).
"""


def open_kit(settings: Settings) -> Kit:
    """Everything that a sync needs."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(COLLECT_AFTER)
    give_back_what_is_freed()
    return Kit(open_database(settings), open_nango(settings), settings)


def close_kit(kit: Kit) -> None:
    kit.nango.close()
    kit.database.close()
