"""The PROXY protocol, versions 1 and 2: who the client behind a proxy is.

The reference is HAProxy's document "The PROXY protocol" (proxy-protocol.txt); sections are its.

The header is followed at once by what the client says, which may be a TLS handshake that OpenSSL
reads from the descriptor itself. So not one octet beyond the header may be taken. The length of a
version 1 header shows only at its end: `read_header` looks at what has arrived, without taking it,
and takes what is known to belong to the header.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from dataclasses import dataclass, field, replace
from typing import Protocol

from ..addresses import normalise_address
from ..errors import ProxyHeaderBroken
from ..session import ProxyInfo
from ..text import printable
from .proxy_tlvs import parse_tlvs, proxy_info

_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_SIGNATURES = (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN", _V2_SIGNATURE)

_V1_LONGEST = 107  # with its CRLF: section 2.1
_V2_FIXED = 16  # the octets before the addresses: section 2.2
_V2_LONGEST = 4096  # ours: the field would allow 65551, and no sender comes near

_LOCAL, _PROXY = 0, 1  # commands
_UNSPECIFIED = 0  # of the address family or the transport
_INET, _INET6, _UNIX = 1, 2, 3  # address families
_STREAM, _DATAGRAM = 1, 2  # transports
_ADDRESSES = {_INET: struct.Struct("!4s4sHH"), _INET6: struct.Struct("!16s16sHH")}
_ADDRESSES_LENGTH = {_INET: 12, _INET6: 36, _UNIX: 216}

_TLV_HEAD_LENGTH = 3
_TYPE_CRC32C = 0x03

_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")

_SHOWN = 40  # octets of a broken header in a message


class Source(Protocol):
    """Where the octets of a connection come from. Both methods may raise a ConnectionError."""

    def peek(self, size: int) -> bytes:
        """Wait for at least one octet and return up to `size`, which stay; b"" at end of file."""
        ...

    def take(self, size: int) -> bytes:
        """Return and consume up to `size` octets; b"" at end of file."""
        ...


@dataclass(frozen=True)
class ProxyHeader:
    """What a proxy told of a connection.

    `source` is the client's address and port, `destination` those that it connected to, the
    addresses normalised. Both are None where the addresses of the connection itself hold: for a
    connection of the proxy's own (`local`) and for one that is not over TCP or not known to be.
    `info` is the rest.
    """

    source: tuple[str, int] | None
    destination: tuple[str, int] | None
    local: bool
    info: ProxyInfo = field(default=ProxyInfo(version=1), compare=False)


def read_header(source: Source) -> ProxyHeader | None:
    """Take a PROXY header from `source`, and nothing of what follows it.

    Returns None when the connection ends before the first octet, as that of a health check does.
    Raises ProxyHeaderBroken for anything else that is no header, as soon as that is certain; what
    `source` raises passes through.
    """
    header = bytearray()
    length: int | None = None
    while length is None or len(header) < length:
        arrived = source.peek((length or _V1_LONGEST) - len(header))
        if length is None:
            length = _header_length(bytes(header) + arrived)
        belongs = len(arrived) if length is None else min(len(arrived), length - len(header))
        taken = source.take(belongs) if arrived else b""
        if not taken:
            if not header:
                return None
            raise ProxyHeaderBroken(f"the connection ended within a PROXY header: {_show(header)}")
        header += taken
    if header.startswith(_V2_SIGNATURE):
        return _parse_v2(bytes(header))
    return _parse_v1(bytes(header))


def _header_length(octets: bytes) -> int | None:
    """The length of the header that begins with `octets`; None while more are needed to tell.

    While it is None, all of `octets` belong to the header. Raises ProxyHeaderBroken if no header
    begins so.
    """
    if not any(signature.startswith(octets[: len(signature)]) for signature in _SIGNATURES):
        raise ProxyHeaderBroken(f"no PROXY header: {_show(octets)}")
    if octets.startswith(b"\r"):
        return _v2_length(octets)
    return _v1_length(octets)


def _show(octets: bytes | bytearray) -> str:
    shown = printable(bytes(octets[:_SHOWN]))
    return f"'{shown}'" + ("..." if len(octets) > _SHOWN else "")


# --- version 1: section 2.1 --------------------------------------------------------------------


def _v1_length(octets: bytes) -> int | None:
    end = octets.find(b"\r\n")
    # A CR that is the last octet so far may be half of the line's end.
    line = octets[:end] if end >= 0 else octets.removesuffix(b"\r")
    if b"\r" in line or b"\n" in line:
        # Some take either for the end of a line, and then for the client's what we called header.
        raise ProxyHeaderBroken(f"bare CR or LF in a PROXY header: {_show(octets)}")
    if end >= 0:
        return end + 2
    if len(octets) >= _V1_LONGEST:
        raise ProxyHeaderBroken(f"no CRLF in {_V1_LONGEST} octets of PROXY header: {_show(octets)}")
    return None


def _parse_v1(header: bytes) -> ProxyHeader:
    fields = header.removesuffix(b"\r\n").split(b" ")
    if fields[1] == b"UNKNOWN":
        # What else the line holds is to be ignored.
        return ProxyHeader(None, None, local=False)
    if len(fields) != 6:
        raise ProxyHeaderBroken(f"wrong number of fields in a PROXY header: {_show(header)}")
    family, source, destination, source_port, destination_port = fields[1:]
    return ProxyHeader(
        (_v1_address(family, source), _v1_port(source_port)),
        (_v1_address(family, destination), _v1_port(destination_port)),
        local=False,
    )


def _v1_address(family: bytes, octets: bytes) -> str:
    text = octets.decode("ascii", "backslashreplace")
    try:
        if family == b"TCP4":
            return str(ipaddress.IPv4Address(text))
        # A zone id means something only on the machine that wrote it, and has no place here.
        if family == b"TCP6" and "%" not in text:
            return normalise_address(str(ipaddress.IPv6Address(text)))
    except ValueError:
        pass
    raise ProxyHeaderBroken(f"no {printable(family)} address in a PROXY header: {_show(octets)}")


def _v1_port(octets: bytes) -> int:
    if _PORT.fullmatch(octets) is None or int(octets) > 65535:
        raise ProxyHeaderBroken(f"no port in a PROXY header: {_show(octets)}")
    return int(octets)


# --- version 2: section 2.2 --------------------------------------------------------------------


def _v2_length(octets: bytes) -> int | None:
    if len(octets) > 12:
        version, command = divmod(octets[12], 16)
        if version != 2 or command not in (_LOCAL, _PROXY):
            raise ProxyHeaderBroken(
                f"unknown version or command in a PROXY header: 0x{octets[12]:02x}"
            )
        # With LOCAL, address family and transport are ignored whatever they are.
        if command == _PROXY and len(octets) > 13:
            family, transport = divmod(octets[13], 16)
            if family > _UNIX or transport > _DATAGRAM:
                raise ProxyHeaderBroken(
                    f"unknown address family or transport in a PROXY header: 0x{octets[13]:02x}"
                )
    if len(octets) < _V2_FIXED:
        return None
    length = _V2_FIXED + int.from_bytes(octets[14:16], "big")
    if length > _V2_LONGEST:
        raise ProxyHeaderBroken(f"a PROXY header of {length} octets; at most {_V2_LONGEST} may be")
    return length


def _parse_v2(header: bytes) -> ProxyHeader:
    command = header[12] & 0x0F
    family, transport = divmod(header[13], 16)
    block = header[_V2_FIXED:]
    skip = _ADDRESSES_LENGTH.get(family, 0)
    if command == _LOCAL or _UNSPECIFIED in (family, transport):
        # The block is to be discarded, and need not be what the other octets make of it. Where it
        # reads as TLVs nevertheless, a checksum among them counts.
        skip = skip if len(block) >= skip else 0
        try:
            tlvs = parse_tlvs(block[skip:])
        except ProxyHeaderBroken:
            tlvs = []
        _check_crc32c(header, _V2_FIXED + skip, tlvs)
        try:
            info = proxy_info(tlvs)
        except ProxyHeaderBroken:
            info = ProxyInfo(version=2)
        local = command == _LOCAL
        return ProxyHeader(None, None, local=local, info=replace(info, local=local))
    if len(block) < skip:
        raise ProxyHeaderBroken(f"{len(block)} octets of addresses in a PROXY header, not {skip}")
    tlvs = parse_tlvs(block[skip:])
    _check_crc32c(header, _V2_FIXED + skip, tlvs)
    info = proxy_info(tlvs)
    if family == _UNIX or transport == _DATAGRAM:
        return ProxyHeader(None, None, local=False, info=info)
    source, destination, source_port, destination_port = _ADDRESSES[family].unpack(block[:skip])
    return ProxyHeader(
        (_v2_address(source), source_port),
        (_v2_address(destination), destination_port),
        local=False,
        info=info,
    )


def _v2_address(packed: bytes) -> str:
    return normalise_address(str(ipaddress.ip_address(packed)))


def _check_crc32c(header: bytes, offset: int, tlvs: list[tuple[int, bytes]]) -> None:
    """Raise ProxyHeaderBroken unless the checksum is right, or none is there: section 2.2.3.

    `tlvs` are those that begin at `offset` of `header`.
    """
    begins = None
    expected = b""
    for kind, value in tlvs:
        offset += _TLV_HEAD_LENGTH
        if kind == _TYPE_CRC32C:
            if begins is not None:
                raise ProxyHeaderBroken("more than one checksum in a PROXY header")
            if len(value) != 4:
                raise ProxyHeaderBroken(f"a checksum of {len(value)} octets in a PROXY header")
            begins, expected = offset, value
        offset += len(value)
    if begins is None:
        return
    checked = header[:begins] + bytes(4) + header[begins + 4 :]
    if crc32c(checked) != int.from_bytes(expected, "big"):
        raise ProxyHeaderBroken("wrong checksum in a PROXY header")


# --- the checksum ------------------------------------------------------------------------------


def _crc32c_of_octet(octet: int) -> int:
    for _ in range(8):
        # 0x82F63B78 is the generator polynomial 0x1EDC6F41 with its bits in reverse order.
        octet = octet >> 1 ^ (0x82F63B78 if octet & 1 else 0)
    return octet


_CRC32C = tuple(_crc32c_of_octet(octet) for octet in range(256))


def crc32c(octets: bytes) -> int:
    """The CRC32c checksum of `octets` (Castagnoli's polynomial; RFC 9260, appendix A)."""
    checksum = 0xFFFFFFFF
    for octet in octets:
        checksum = checksum >> 8 ^ _CRC32C[(checksum ^ octet) & 0xFF]
    return checksum ^ 0xFFFFFFFF
