"""Mutates tenants on a timer."""

from random import Random
from threading import Event, Thread
from types import TracebackType
from typing import Self

from sandbox.tenant.directory.tenant import Tenant
from sandbox.tenant.nango.service import Nango


class Ticker:
    """Mutates one random connection's tenant every so many seconds.

    A context manager; its thread ends with it.
    """

    def __init__(self, nango: Nango, every: float, n: int = 1, seed: int = 1) -> None:
        self._nango, self._every, self._n = nango, every, n
        self._rng = Random(seed)
        self._stop = Event()
        self._thread = Thread(target=self._run, name="sandbox-ticker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            connections = list(self._nango.connections)
            if connections:
                self._mutate(self._rng.choice(connections).tenant)

    def _mutate(self, tenant: Tenant) -> None:
        """Change the tenant and save it, without answering requests in between."""
        with self._nango.lock:
            tenant.mutate(self._n, self._rng)
            self._nango.on_change()
