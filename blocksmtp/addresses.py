"""IP addresses and host names as text: one spelling for each, who is trusted, what is a name."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .options import Network

_IPV4_MAPPED_PREFIX = 96  # ::ffff:0:0/96 (RFC 4291, section 2.5.5.2)
_IPV6_CLIENT_PREFIX = 64

# Of a name's 255 octets (RFC 1035, section 2.3.4) one is the length of its first label, and one
# that of the root.
_LONGEST_HOSTNAME = 253
# Letters, digits and hyphens (RFC 1123, section 2.1); underscores are in use against the rules.
_HOST_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def is_hostname(text: str) -> bool:
    """Whether `text` is a host name (RFC 1123, section 2.1), underscores allowed.

    No trailing dot. What ends in a number could be mistaken for an IPv4 address: it is no name.
    """
    if len(text) > _LONGEST_HOSTNAME:
        return False
    labels = text.split(".")
    return not labels[-1].isdigit() and all(map(_HOST_LABEL.fullmatch, labels))


def shown_address(host: str, port: int) -> str:
    """A place as people write it, "127.0.0.1:2525" or "[::1]:2525"."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def normalise_address(address: str) -> str:
    """`address` as it is spelled everywhere in the package.

    IPv6 is in its shortest form (RFC 5952) without a zone id, an IPv4-mapped IPv6 address, which
    is what a dual-stack socket shows for an IPv4 client, is the IPv4 address. Text that is no IP
    address is returned unchanged.
    """
    parsed = _parse(address)
    return address if parsed is None else str(parsed)


def client_network(address: str) -> str:
    """What stands for the client at `address` where clients are counted.

    A client of IPv6 commonly has a whole /64 to choose its address from (RFC 6177): that counts as
    one. Text that is no IP address stands for itself, as an IPv4 address does.
    """
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((parsed, _IPV6_CLIENT_PREFIX), strict=False))
    return address


def is_trusted(address: str, trusted: bool | tuple[Network, ...]) -> bool:
    """Whether `address` is among `trusted`: an option such as `use_proxy`, as it was checked.

    True trusts every address, also the empty one of a Unix socket, False none. Networks trust the
    addresses in them; an IPv4-mapped IPv6 network stands for its IPv4 network.
    """
    if isinstance(trusted, bool):
        return trusted
    parsed = _parse(address)
    if parsed is None:
        return False
    return any(parsed in _without_mapping(network) for network in trusted)


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv4Address):
        return parsed
    # Made anew from its number, which leaves the zone id behind.
    return parsed.ipv4_mapped or ipaddress.IPv6Address(int(parsed))


def _without_mapping(network: Network) -> Network:
    if isinstance(network, ipaddress.IPv4Network):
        return network
    mapped = network.network_address.ipv4_mapped
    if mapped is None:
        return network
    # A shorter prefix would have left zeros in the address that make it no mapped one.
    return ipaddress.IPv4Network((mapped, network.prefixlen - _IPV4_MAPPED_PREFIX))
