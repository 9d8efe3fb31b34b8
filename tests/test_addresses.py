"""IP addresses as text."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksmtp.addresses import client_network, is_trusted, normalise_address, shown_address
from blocksmtp.options import Network


@pytest.mark.parametrize(
    ("address", "normalised"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:0DB8:0000:0000:0000:0000:0000:0001", "2001:db8::1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),  # one group is no run: RFC 5952, 4.2.2
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:C000:0201", "192.0.2.1"),
        ("::ffff:192.0.2.1%eth0", "192.0.2.1"),
        ("::1", "::1"),
        # What is no address stays as it is.
        ("", ""),
        ("mail.example.org", "mail.example.org"),
        ("192.0.2.01", "192.0.2.01"),
        ("192.0.2.1%eth0", "192.0.2.1%eth0"),
        ("[2001:DB8::1]", "[2001:DB8::1]"),
        ("/run/SMTP", "/run/SMTP"),
    ],
)
def test_one_spelling_for_each_address(address: str, normalised: str) -> None:
    assert normalise_address(address) == normalised


@given(st.ip_addresses())
def test_it_is_the_same_address(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    normalised = normalise_address(address.exploded)
    parsed = ipaddress.ip_address(normalised)
    assert parsed in (address, getattr(address, "ipv4_mapped", None))
    assert normalise_address(normalised) == normalised


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("::1", "::/64"),
        ("", ""),
    ],
)
def test_a_client_may_have_many_addresses(address: str, network: str) -> None:
    assert client_network(address) == network


def networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "", "no address"])
def test_true_trusts_all_and_false_none(address: str) -> None:
    assert is_trusted(address, True)
    assert not is_trusted(address, False)
    assert not is_trusted(address, ())


@pytest.mark.parametrize(
    ("address", "trusted", "expected"),
    [
        ("192.0.2.1", networks("192.0.2.1"), True),
        ("192.0.2.2", networks("192.0.2.1"), False),
        ("192.0.2.255", networks("10.0.0.0/8", "192.0.2.0/24"), True),
        ("192.0.3.0", networks("10.0.0.0/8", "192.0.2.0/24"), False),
        ("2001:db8::9", networks("192.0.2.0/24", "2001:db8::/32"), True),
        ("2001:db9::9", networks("192.0.2.0/24", "2001:db8::/32"), False),
        ("fe80::1%eth0", networks("fe80::/10"), True),
        # A dual-stack socket shows IPv4 clients so, and some write it so into their options.
        ("::ffff:192.0.2.1", networks("192.0.2.0/24"), True),
        ("::ffff:192.0.3.1", networks("192.0.2.0/24"), False),
        ("192.0.2.1", networks("::ffff:192.0.2.1"), True),
        ("192.0.2.9", networks("::ffff:192.0.2.0/120"), True),
        ("192.0.3.9", networks("::ffff:192.0.2.0/120"), False),
        ("192.0.2.9", networks("::ffff:0:0/96"), True),
        ("192.0.2.9", networks("::fffe:0:0/95"), False),
        ("192.0.2.1", networks("::192.0.2.1"), False),
        ("192.0.2.1", networks("::/0"), False),
        ("0.0.0.1", networks("::1"), False),
        ("", networks("0.0.0.0/0", "::/0"), False),
        ("localhost", networks("0.0.0.0/0", "::/0"), False),
    ],
)
def test_networks_trust_what_is_in_them(
    address: str, trusted: tuple[Network, ...], expected: bool
) -> None:
    assert is_trusted(address, trusted) is expected


def test_places_as_they_are_shown() -> None:
    assert shown_address("::1", 25) == "[::1]:25"
    assert shown_address("127.0.0.1", 25) == "127.0.0.1:25"
