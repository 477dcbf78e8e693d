"""DNS lookups with a time limit.

``getaddrinfo`` takes as long as the system's resolver wants and cannot be interrupted. It runs in
its own thread, and the caller waits no longer than the limit. Concurrent lookups of one name share
a thread, so a resolver that hangs holds one thread for each name.
"""

import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from threading import Lock, Thread
from typing import Any, Final

Lookup = Callable[[str, int], Sequence[Any]]
"""Returns entries like ``socket.getaddrinfo``."""
POLL_SECONDS: Final = 0.25
"""Seconds between two checks of the time that is left."""


def _system_lookup(host: str, port: int) -> Sequence[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Resolver:
    """Resolves host names. Safe to use from several threads."""

    def __init__(self, lookup: Lookup = _system_lookup) -> None:
        self._lookup = lookup
        self.reset()

    def reset(self) -> None:
        """Drop the lookups under way: after a fork their threads exist in the parent only."""
        self._lock = Lock()
        self._pending: dict[tuple[str, int], Future[Sequence[Any]]] = {}

    def resolve(self, host: str, port: int, time_left: Callable[[], float]) -> list[str]:
        """Return the addresses of a host, each once, in the resolver's order.

        ``time_left`` is polled: it returns the seconds that are left, and raises TimeoutError once
        there are none. Raises OSError if the name has no address.
        """
        if _is_ip_address(host):
            return [host]
        coming = self._get_or_start_lookup(host, port)
        while not coming.done():
            wait((coming,), timeout=min(POLL_SECONDS, time_left()))
        try:
            found = coming.result()
        except (OSError, UnicodeError) as error:
            raise OSError(f"{host} has no address; check the name") from error
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def _get_or_start_lookup(self, host: str, port: int) -> "Future[Sequence[Any]]":
        """Return the lookup under way, or start one."""
        with self._lock:
            coming = self._pending.get((host, port))
            if coming is None:
                coming = self._pending[(host, port)] = Future()
                arguments = (host, port, coming)
                Thread(
                    target=self._run_lookup, args=arguments, name="resolver", daemon=True
                ).start()
        return coming

    def _run_lookup(self, host: str, port: int, coming: "Future[Sequence[Any]]") -> None:
        try:
            found = self._lookup(host, port)
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            self._discard_pending(host, port)
            coming.set_exception(error)
        else:
            self._discard_pending(host, port)
            coming.set_result(found)

    def _discard_pending(self, host: str, port: int) -> None:
        with self._lock:
            self._pending.pop((host, port), None)


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


RESOLVER: Final = Resolver()
"""The resolver of this process; shared, so that the limit on threads holds for all lookups."""

os.register_at_fork(after_in_child=RESOLVER.reset)
