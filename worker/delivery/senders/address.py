"""Decide which addresses events may be posted to, and connect only to those.

A name is resolved and checked here, and the connection is made to the checked address: a name that
resolves differently a moment later leads to no internal host.
"""

import ipaddress
import ssl
from functools import partial
from typing import Final

from worker.core.errors import RetryLater
from worker.core.net.bounded import BoundedBackend
from worker.core.net.proxy import ProxiedBackend
from worker.core.net.tls import build_ssl_context
from worker.core.net.transport import BoundedTransport, TransportConfig
from worker.core.net.url import HttpProxy, proxy_from_setting
from worker.core.settings import Settings
from worker.delivery.senders.embedded_ipv4 import PREFIX_LENGTHS, extract_ipv4, find_embedded_ipv4

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_GLOBAL_UNICAST_IPV6: Final = ipaddress.IPv6Network("2000::/3")
_IPV4_CARRYING: Final = tuple(
    ipaddress.IPv6Network(network) for network in ("::ffff:0:0/96", "64:ff9b::/96", "2002::/16")
)
"""Forms that reach internet hosts, too: their embedded IPv4 address is checked."""
_TEREDO: Final = ipaddress.IPv6Network("2001::/32")

_CLOUD_NETWORKS: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's services for its machines: a public number
        "100.100.100.200/32",  # metadata of Alibaba Cloud
        "192.0.0.192/32",  # metadata of Oracle Cloud Classic
        "fd00:ec2::/32",  # AWS: metadata, credentials of pods, DNS, time
        "fd20:ce::/48",  # metadata of Google Cloud
        "fd00:c1::a9fe:a9fe/128",  # metadata of Oracle Cloud
        "fd00:42::42/128",  # metadata of Scaleway
        "fd00:a9fe:a9fe::1/128",  # metadata of Akamai
    )
)
"""Addresses of cloud services for their own machines, besides link-local ones."""

_METADATA_IPV4: Final = frozenset(
    ipaddress.IPv4Address(address)
    for address in (
        "169.254.169.254",  # metadata of most clouds
        "169.254.170.2",  # credentials of AWS's containers
        "169.254.170.23",  # credentials of AWS's pods
        "169.254.42.42",  # metadata of Scaleway
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
    )
)
"""Metadata addresses that are refused behind any prefix, as a local translator may use any."""

_MAX_ADDRESSES: Final = 4
"""Addresses of a name that are tried; more would only make an unreachable receiver slower."""


def is_public(address: _Address) -> bool:
    """Whether the address is public; one with an embedded IPv4 address is judged by that.

    https://www.iana.org/assignments/iana-ipv6-special-registry
    """
    if is_forbidden(address):
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global
    if any(address in network for network in _IPV4_CARRYING):
        return all(is_public(inner) for inner in find_embedded_ipv4(address))
    return address in _GLOBAL_UNICAST_IPV6 and address not in _TEREDO and address.is_global


def is_private_host(address: _Address) -> bool:
    """Whether the address can be a receiver's, on the local network or the internet."""
    return not is_forbidden(address)


def is_forbidden(address: _Address) -> bool:
    """Whether the address is never a receiver's: a cloud's metadata service, or no host.

    Link-local addresses and those of metadata services, in every form that leads there.
    """
    if address.is_multicast or address.is_unspecified or address.is_link_local:
        return True
    if any(address in network for network in _CLOUD_NETWORKS):
        return True
    if isinstance(address, ipaddress.IPv4Address):
        return False
    if any(extract_ipv4(address, length) in _METADATA_IPV4 for length in PREFIX_LENGTHS):
        return True
    return any(is_forbidden(inner) for inner in find_embedded_ipv4(address))


def filter_permitted(host: str, addresses: list[str], *, allow_private: bool) -> list[str]:
    """Return those of a host's addresses that may be connected to.

    Raises RetryLater if there is none.
    """
    allowed = is_private_host if allow_private else is_public
    plain = [number.partition("%")[0] for number in addresses]
    good = [number for number in plain if allowed(ipaddress.ip_address(number))]
    if not good:
        raise RetryLater(f"{host} resolves to {', '.join(plain)}, {_explain_rejection(plain)}")
    return good[:_MAX_ADDRESSES]


def _explain_rejection(numbers: list[str]) -> str:
    if all(is_forbidden(ipaddress.ip_address(number)) for number in numbers):
        return (
            "which is link-local, a cloud's metadata service or not a host; events are never sent "
            "there: correct the url of the sink or the DNS records"
        )
    return (
        "which is not on the internet; "
        "the sink's setting allow_private permits delivery to a private network"
    )


def build_transport_config(settings: Settings) -> TransportConfig:
    """Return how receivers are reached, from the settings. Raises ConfigurationError."""
    return TransportConfig(
        build_ssl_context(settings.ca),
        proxy_from_setting(settings.webhook_proxy, "TENANT_MIRROR_WEBHOOK_PROXY"),
        settings.webhook_proxy_resolves == "yes",
    )


class PinnedTransport(BoundedTransport):
    """Connects to permitted addresses only; certificates are still checked for the name.

    A proxy is given the checked address, unless it has to resolve names itself.
    """

    def __init__(
        self,
        *,
        allow_private: bool,
        ssl_context: ssl.SSLContext | None = None,
        proxy: HttpProxy | None = None,
        proxy_resolves: bool = False,
    ) -> None:
        """``ssl_context`` holds private authorities; without it, the public ones apply.

        Raises ConfigurationError.
        """
        judge = partial(filter_permitted, allow_private=allow_private)
        super().__init__(
            BoundedBackend(filter_addresses=judge)
            if proxy is None
            else ProxiedBackend(proxy, filter_addresses=judge, proxy_resolves=proxy_resolves),
            ssl_context=ssl_context,
            max_connections=4,
            keepalive_seconds=30.0,
        )
