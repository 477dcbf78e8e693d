"""Which addresses events may be posted to, and connections that go nowhere else.

A name is resolved here, judged, and the connection made to the very address that was judged: a
name that answers differently a moment later leads nobody inside.
"""

import ipaddress
import ssl
from functools import partial
from typing import Final

from worker.core.bounded_net import BoundedBackend
from worker.core.errors import Later
from worker.core.transport import BoundedTransport

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_UNICAST_6: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_TEREDO: Final = ipaddress.IPv6Network("2001::/32")
_PLATFORM: Final = ipaddress.IPv4Address("168.63.129.16")
"""Azure's own service for its machines: a public number that leads inside."""

_TRIES: Final = 4
"""Addresses of a name that are tried; more only make a dead receiver slower."""


def is_public(address: _Address) -> bool:
    """Whether anybody on the internet could be there; what carries an IPv4 address is judged by it.

    https://www.iana.org/assignments/iana-ipv6-special-registry
    """
    inner = _carried(address)
    if inner is not None:
        return is_public(inner)
    if isinstance(address, ipaddress.IPv6Address):
        return address in _UNICAST_6 and address not in _TEREDO and address.is_global
    return address.is_global and not address.is_multicast and address != _PLATFORM


def is_private_host(address: _Address) -> bool:
    """Whether a receiver on one's own network could be there.

    Never link-local: that is where clouds keep the keys of their machines.
    """
    inner = _carried(address)
    if inner is not None:
        return is_private_host(inner)
    nobody = address.is_multicast or address.is_unspecified or address.is_link_local
    return not nobody and address != _PLATFORM


def _carried(address: _Address) -> ipaddress.IPv4Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def permitted(host: str, numbers: list[str], *, allow_private: bool) -> list[str]:
    """Those of a host's addresses that may be connected to. Raises Later where there is none."""
    allowed = is_private_host if allow_private else is_public
    plain = [number.partition("%")[0] for number in numbers]
    good = [number for number in plain if allowed(ipaddress.ip_address(number))]
    if not good:
        raise Later(
            f"{host} leads to {', '.join(plain)}, which is not on the internet; "
            "only the sink's setting allow_private lets events go to one's own network"
        )
    return good[:_TRIES]


class PinnedTransport(BoundedTransport):
    """Connects to permitted addresses only; certificates are still those of the name."""

    def __init__(self, *, allow_private: bool, trust: ssl.SSLContext | None = None) -> None:
        """``trust`` has authorities of one's own; else it is those that browsers know."""
        super().__init__(
            BoundedBackend(permitted=partial(permitted, allow_private=allow_private)),
            trust=trust,
            max_connections=4,
            keepalive_seconds=30.0,
        )
