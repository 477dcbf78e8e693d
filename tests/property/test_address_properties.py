"""Metadata services and link-local addresses are refused in every form that leads there."""

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.core.errors import RetryLater
from worker.delivery.senders.address import (
    filter_permitted,
    is_forbidden,
    is_private_host,
    is_public,
)
from worker.delivery.senders.embedded_ipv4 import PREFIX_LENGTHS, extract_ipv4, find_embedded_ipv4

IPv4 = ipaddress.IPv4Address
IPv6 = ipaddress.IPv6Address

METADATA = ["169.254.169.254", "168.63.129.16", "100.100.100.200", "169.254.170.2", "192.0.0.192"]
METADATA_6 = [
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "fd00:a9fe:a9fe::1",
    "fe80::1",
    "fe80::a9fe:a9fe",
    "fe80::5054:ff:fe12:3456%eth0",
    "febf:ffff::1",
]
SPELLINGS = [
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "::169.254.169.254",
    "::ffff:0:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::169.254.169.254",
    "64:ff9b:1:a9fe:a9:fe00::",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1",
    "2001:0:808:808:0:0:5601:5601",
    "fe80::5efe:169.254.169.254",
    "fd00:1:2:3:0:5efe:169.254.169.254",
    "2a00:1:2:3:200:5efe:169.254.169.254",
    "fd12:3456:789a::169.254.169.254",
    "::ffff:168.63.129.16",
    "64:ff9b::100.100.100.200",
    "2002:a83f:8110::1",
]

link_local = st.integers(0, 0xFFFF).map(lambda low: IPv4(0xA9FE0000 | low))
any_4 = st.integers(0, 0xFFFFFFFF).map(IPv4)
inner = link_local | st.sampled_from([IPv4(text) for text in METADATA])
bits = st.integers(0, 2**128 - 1)


def embedded(prefix: int, length: int, carrying: IPv4) -> IPv6:
    """As RFC 6052 writes it: the octet of the bits 64 to 71 stays zero."""
    kept = prefix >> (128 - length) << (128 - length) & ~(0xFF << 56)
    number = kept
    for index, bit in enumerate(f"{int(carrying):032b}"):
        place = length + index
        place += 8 if length < 96 and place >= 64 else 0
        number = number & ~(1 << (127 - place)) | int(bit) << (127 - place)
    return IPv6(number)


_FORMS: dict[str, Callable[[int, int], int]] = {
    "mapped": lambda carrying, _: 0xFFFF << 32 | carrying,
    "nat64": lambda carrying, _: 0x0064FF9B << 96 | carrying,
    "translated": lambda carrying, _: 0xFFFF << 48 | carrying,
    "compatible": lambda carrying, _: carrying,
    "6to4": lambda carrying, noise: 0x2002 << 112 | carrying << 80 | noise & (2**80 - 1),
    "teredo server": lambda carrying, noise: (
        0x20010000 << 96 | carrying << 64 | noise & (2**64 - 1)
    ),
    "teredo client": lambda carrying, noise: (
        0x20010000 << 96 | 0x08080808 << 64 | (noise & 0xFFFFFFFF) << 32 | carrying ^ 0xFFFFFFFF
    ),
    "isatap": lambda carrying, noise: (
        noise >> 64 << 64 | (noise & 0x0300) << 48 | 0x5EFE << 32 | carrying
    ),
}
_LOCAL_NAT64 = 0x0064FF9B0001 << 80
_LOCAL_LENGTHS = [length for length in PREFIX_LENGTHS if length >= 48]


def leading_to(some: st.SearchStrategy[IPv4]) -> st.SearchStrategy[IPv6]:
    """Addresses in all forms that are known to lead to an IPv4 address."""
    known = st.builds(
        lambda form, carrying, noise: IPv6(form(int(carrying), noise)),
        st.sampled_from(list(_FORMS.values())),
        some,
        bits,
    )
    local = st.builds(
        lambda noise, length, carrying: embedded(
            _LOCAL_NAT64 | noise & (2**80 - 1), length, carrying
        ),
        bits,
        st.sampled_from(_LOCAL_LENGTHS),
        some,
    )
    return known | local


@given(address=leading_to(inner))
@example(address=IPv6("64:ff9b:1::a9fe:a9fe"))
@settings(max_examples=500, deadline=None)
def test_no_form_of_a_metadata_address_is_ever_permitted(address: IPv6) -> None:
    assert is_forbidden(address)
    assert not is_public(address)
    assert not is_private_host(address)
    for allow_private in (False, True):
        with pytest.raises(RetryLater, match="events are never sent there"):
            filter_permitted("hooks.example.com", [str(address)], allow_private=allow_private)


@given(
    prefix=bits,
    length=st.sampled_from(PREFIX_LENGTHS),
    known=st.sampled_from([IPv4(text) for text in METADATA]),
)
@settings(max_examples=300, deadline=None)
def test_no_translator_of_ones_own_leads_to_metadata(prefix: int, length: int, known: IPv4) -> None:
    """Whatever prefix a network's own NAT64 has."""
    address = embedded(prefix, length, known)
    assert extract_ipv4(address, length) == known
    assert not is_private_host(address)
    assert not is_public(address)


@given(address=st.ip_addresses(v=4) | st.ip_addresses(v=6))
@settings(max_examples=500, deadline=None)
def test_what_is_public_is_permitted_with_and_without_private_addresses(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert is_private_host(address) or not is_public(address)
    assert not (is_forbidden(address) and is_private_host(address))


@given(address=leading_to(any_4))
@settings(max_examples=300, deadline=None)
def test_an_address_is_never_judged_milder_than_what_it_carries(address: IPv6) -> None:
    if str(address) in ("::", "::1"):
        return
    inside = find_embedded_ipv4(address)
    assert inside
    if is_private_host(address):
        assert all(is_private_host(one) for one in inside)


@pytest.mark.parametrize("text", [*METADATA, *METADATA_6, *SPELLINGS, "169.254.0.1"])
def test_metadata_services_are_refused_with_and_without_private_addresses(text: str) -> None:
    for allow_private in (False, True):
        with pytest.raises(RetryLater, match="metadata") as refused:
            filter_permitted("hooks.example.com", [text], allow_private=allow_private)
        assert "allow_private" not in refused.value.message


@pytest.mark.parametrize(
    "text", ["10.0.0.7", "fd12:3456:789a::7", "127.0.0.1", "::1", "fd20:cf::254", "100.100.100.201"]
)
def test_ones_own_network_is_reached_where_that_is_allowed(text: str) -> None:
    assert filter_permitted("hooks.example.com", [text], allow_private=True) == [text]
    with pytest.raises(RetryLater, match="allow_private"):
        filter_permitted("hooks.example.com", [text], allow_private=False)


def test_of_several_addresses_only_the_permitted_ones_are_tried() -> None:
    found = ["fe80::1%eth0", "169.254.169.254", "10.0.0.7", "8.8.8.8", "fd00:ec2::254"]
    assert filter_permitted("hooks.example.com", found, allow_private=True) == [
        "10.0.0.7",
        "8.8.8.8",
    ]
    assert filter_permitted("hooks.example.com", found, allow_private=False) == ["8.8.8.8"]
