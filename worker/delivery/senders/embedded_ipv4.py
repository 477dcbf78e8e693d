"""Find IPv4 addresses embedded in IPv6 addresses. No I/O.

A gateway on the way (NAT64, 6to4, Teredo, ISATAP), or the system itself, connects to the embedded
IPv4 address, so that one decides where a connection ends.
"""

import ipaddress
from typing import Final

_MASK_32: Final = (1 << 32) - 1
_BITS_AFTER_U_OCTET: Final = 56
"""Bits after bits 64 to 71, which RFC 6052 leaves out of an embedded address."""

PREFIX_LENGTHS: Final = (32, 40, 48, 56, 64, 96)
"""Prefix lengths, in bits, after which RFC 6052 lets a translator embed an IPv4 address.

https://www.rfc-editor.org/rfc/rfc6052#section-2.2
"""

_IPV4_IN_LAST_32_BITS: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "::ffff:0:0/96",  # IPv4-mapped: the system itself connects by IPv4
        "64:ff9b::/96",  # NAT64
        "::ffff:0:0:0/96",  # IPv4-translated, RFC 2765
        "::/96",  # IPv4-compatible, deprecated
    )
)
_LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
"""For local translators, with any prefix length. https://www.rfc-editor.org/rfc/rfc8215"""
_ISATAP: Final = 0x00005EFE
_ISATAP_FLAGS: Final = 0x03000000
_NOT_COMPATIBLE: Final = frozenset(ipaddress.IPv6Address(own) for own in ("::", "::1"))


def extract_ipv4(address: ipaddress.IPv6Address, length: int) -> ipaddress.IPv4Address:
    """Return the IPv4 address after a translator's prefix of ``length`` bits."""
    number = int(address)
    if length < 96:
        low = number & ((1 << _BITS_AFTER_U_OCTET) - 1)
        number = ((number >> 64) << _BITS_AFTER_U_OCTET | low) >> (
            64 + _BITS_AFTER_U_OCTET - length - 32
        )
    return ipaddress.IPv4Address(number & _MASK_32)


def find_embedded_ipv4(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that an address may lead to; a Teredo address holds two."""
    if (
        any(address in network for network in _IPV4_IN_LAST_32_BITS)
        and address not in _NOT_COMPATIBLE
    ):
        return [extract_ipv4(address, 96)]
    if address in _LOCAL_NAT64:
        return [extract_ipv4(address, length) for length in PREFIX_LENGTHS if length >= 48]
    if address.teredo is not None:
        return list(address.teredo)
    found = [] if address.sixtofour is None else [address.sixtofour]
    if int(address) >> 32 & _MASK_32 & ~_ISATAP_FLAGS == _ISATAP:
        found.append(extract_ipv4(address, 96))
    return found
