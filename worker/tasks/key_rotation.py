"""Changes to another key of Nango while the service runs, once its file holds one.

Between two tasks a process has no request under way, so none is lost. The maintenance processes
try the key first: one that Nango refuses changes nothing. Slices change over once discovery has
applied Nango's list with it, as it may be of another environment that has none of the connections.
"""

import time
from typing import Final

from msgspec import structs

from worker.core.errors import MirrorError
from worker.core.key_file import KeyFile
from worker.core.log import get_logger
from worker.core.secret import SecretStr
from worker.nango.client import NangoClient
from worker.store.service.facts import get_key_accepted_at
from worker.sync.runtime import Runtime
from worker.wiring import open_nango

RETRY_SECONDS: Final = 15.0
"""Seconds until a key that could not be used is tried again."""
WAIT_SECONDS: Final = 1.0
"""Seconds between two looks whether discovery has accepted the key."""


class KeyRotation:
    """Follows the file of the key for one process."""

    def __init__(self) -> None:
        self._file = KeyFile()
        self._candidate: SecretStr | None = None
        self._next_try = 0.0

    def follow(self, runtime: Runtime, *, after_discovery: bool) -> Runtime:
        """Return the runtime with the key of the file, or as it was.

        ``after_discovery`` waits until a discovery was made with it. The former client is closed.
        """
        found = self._file.read_if_changed()
        if found is not None:
            self._candidate = None if found == runtime.settings.nango_secret_key else found
            self._next_try = 0.0
        if self._candidate is None or time.monotonic() < self._next_try:
            return runtime
        self._next_try = time.monotonic() + (WAIT_SECONDS if after_discovery else RETRY_SECONDS)
        settings = structs.replace(runtime.settings, nango_secret_key=self._candidate)
        try:
            nango = open_nango(settings)
        except MirrorError as error:
            self._candidate = None
            get_logger().error("new key of Nango not used", reason=str(error))
            return runtime
        is_usable = _is_discovered(runtime, nango) if after_discovery else _is_accepted(nango)
        if not is_usable:
            nango.close()
            return runtime
        self._candidate = None
        nango.counts.add_all(runtime.nango.counts.take())
        runtime.nango.close()
        get_logger().info("key of Nango replaced")
        return Runtime(runtime.database, nango, settings)


def _is_accepted(nango: NangoClient) -> bool:
    error = nango.breaker.check_nango()
    if error is not None:
        get_logger().error(
            "new key of Nango not used; the former one stays in use", reason=str(error)
        )
    return error is None


def _is_discovered(runtime: Runtime, nango: NangoClient) -> bool:
    with runtime.database.open_transaction() as db:
        return get_key_accepted_at(db, nango.limiter.fingerprint) is not None
