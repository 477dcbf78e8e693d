"""Which addresses events may be posted to, and connections that go nowhere else.

A name is resolved here, judged, and the connection made to the very address that was judged: a
name that answers differently a moment later leads nobody inside.
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
"""Forms in which the internet's hosts are reached, too: they are judged by what they carry."""
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
"""Where clouds answer their own machines, beside link-local addresses."""

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
"""Looked for behind any prefix: a translator of one's own may have any."""

_MAX_ADDRESSES: Final = 4
"""Addresses of a name that are tried; more only make a dead receiver slower."""


def is_public(address: _Address) -> bool:
    """Whether anybody on the internet could be there; what carries an IPv4 address is judged by it.

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
    """Whether a receiver on one's own network, or on the internet, could be there."""
    return not is_forbidden(address)


def is_forbidden(address: _Address) -> bool:
    """Whether no receiver is ever there: where clouds keep the keys of their machines, and no host.

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
    """Those of a host's addresses that may be connected to.

    Raises RetryLater where there is none.
    """
    allowed = is_private_host if allow_private else is_public
    plain = [number.partition("%")[0] for number in addresses]
    good = [number for number in plain if allowed(ipaddress.ip_address(number))]
    if not good:
        raise RetryLater(f"{host} leads to {', '.join(plain)}, {_explain_rejection(plain)}")
    return good[:_MAX_ADDRESSES]


def _explain_rejection(numbers: list[str]) -> str:
    if all(is_forbidden(ipaddress.ip_address(number)) for number in numbers):
        return (
            "which is link-local, a cloud's metadata service or no host at all; "
            "events are never sent there, so correct the url of the sink or the name's addresses"
        )
    return (
        "which is not on the internet; "
        "only the sink's setting allow_private lets events go to one's own network"
    )


def build_transport_config(settings: Settings) -> TransportConfig:
    """How receivers are reached as it is set. Raises ConfigurationError."""
    return TransportConfig(
        build_ssl_context(settings.ca),
        proxy_from_setting(settings.webhook_proxy, "TENANT_MIRROR_WEBHOOK_PROXY"),
        settings.webhook_proxy_resolves == "yes",
    )


class PinnedTransport(BoundedTransport):
    """Connects to permitted addresses only; certificates are still those of the name.

    A proxy is asked for the address that was judged, unless it has to look names up itself.
    """

    def __init__(
        self,
        *,
        allow_private: bool,
        ssl_context: ssl.SSLContext | None = None,
        proxy: HttpProxy | None = None,
        proxy_resolves: bool = False,
    ) -> None:
        """``ssl_context`` has authorities of one's own.

        Else it is the public ones. Raises ConfigurationError.
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
