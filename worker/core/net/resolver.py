"""Addresses of names, looked up within a time limit.

``getaddrinfo`` takes as long as the system's resolver wants and cannot be interrupted. It runs in a
thread of its own, and who asks waits no longer than the limit. While one lookup of a name is under
way, others for the same name wait for it, so a resolver that hangs holds one thread for each name.
"""

import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from threading import Lock, Thread
from typing import Any, Final

Lookup = Callable[[str, int], Sequence[Any]]
"""Entries as ``socket.getaddrinfo`` has them."""
POLL_SECONDS: Final = 0.25
"""How long is waited at once, before the time that is left is looked at again."""


def _system_lookup(host: str, port: int) -> Sequence[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Resolver:
    """Looks names up. Safe to use from several threads."""

    def __init__(self, lookup: Lookup = _system_lookup) -> None:
        self._lookup = lookup
        self.reset()

    def reset(self) -> None:
        """Drop the lookups under way: after a fork their threads are in the other process."""
        self._lock = Lock()
        self._pending: dict[tuple[str, int], Future[Sequence[Any]]] = {}

    def resolve(self, host: str, port: int, time_left: Callable[[], float]) -> list[str]:
        """The addresses of a host, each once, in the resolver's order.

        ``time_left`` says how many seconds are left, and raises TimeoutError once there are none;
        it is asked again and again. Raises OSError where the name has no address.
        """
        if _is_ip_address(host):
            return [host]
        coming = self._get_or_start_lookup(host, port)
        while not coming.done():
            wait((coming,), timeout=min(POLL_SECONDS, time_left()))
        try:
            found = coming.result()
        except (OSError, UnicodeError) as fault:
            raise OSError(f"{host} has no address; check the name") from fault
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def _get_or_start_lookup(self, host: str, port: int) -> "Future[Sequence[Any]]":
        """The lookup under way, or one that begins now."""
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
        except Exception as fault:  # noqa: BLE001 - raised again where it is waited for
            self._discard_pending(host, port)
            coming.set_exception(fault)
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
"""That of this process: its bound on threads holds for all who look names up."""

os.register_at_fork(after_in_child=RESOLVER.reset)
