"""Where a request comes from. Nothing of it is believed unless a listed proxy says so."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Headers = Sequence[tuple[bytes, bytes]]

_FORWARDED_HEADERS: Final = (b"forwarded", b"x-real-ip")
_FORWARDED_PREFIX: Final = b"x-forwarded-"


class RequestOrigin(NamedTuple):
    """Who sent a request."""

    address: str
    is_local: bool
    """Whether it was sent on this host, and not through a proxy on this host."""
    is_encrypted: bool


def parse_networks(networks: Iterable[str]) -> tuple[Network, ...]:
    return tuple(ip_network(one) for one in networks)


def identify_client(
    peer: str, headers: Headers, proxies: Sequence[Network], *, is_encrypted: bool
) -> RequestOrigin:
    """Return the client of a request, whose connection comes from ``peer``. Pure.

    Behind listed proxies it is the nearest address in X-Forwarded-For that is not one of them. A
    request with such a header that no listed proxy sent is not local: a proxy on this host would
    otherwise lend its address to the world.
    """
    nearest = _parse(peer)
    if nearest is None or not _is_in(nearest, proxies):
        forwarded = any(_is_forwarded(name) for name, _ in headers)
        is_local = nearest is not None and nearest.is_loopback and not forwarded
        return RequestOrigin(peer, is_local, is_encrypted)
    schemes = _list_values(headers, b"x-forwarded-proto")
    chain = _list_values(headers, b"x-forwarded-for")
    for one in reversed(chain):
        address = _parse(one)
        if address is None:
            break
        nearest = address
        if not _is_in(address, proxies):
            break
    return RequestOrigin(str(nearest), is_local=False, is_encrypted=schemes[-1:] == ["https"])


def is_loopback(address: str) -> bool:
    parsed = _parse(address)
    return parsed is not None and parsed.is_loopback


def _parse(text: str) -> Address | None:
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _is_forwarded(name: bytes) -> bool:
    return name in _FORWARDED_HEADERS or name.startswith(_FORWARDED_PREFIX)


def _list_values(headers: Headers, wanted: bytes) -> list[str]:
    """Return the values of all headers of this name; the nearest proxy wrote the last one."""
    joined = ",".join(value.decode("latin-1") for name, value in headers if name == wanted)
    return [one.strip() for one in joined.split(",")]
