"""Target `proxy`: the header of the PROXY protocol, against a second, slower reading of it."""

from __future__ import annotations

import ipaddress
import re
import socket

from blocksmtp.errors import ProxyHeaderBroken
from blocksmtp.wire.proxy_protocol import ProxyHeader, crc32c, read_header
from blocksmtp.wire.proxy_tlvs import parse_tlvs
from tests.fuzz.inputs import cut
from tests.wire.test_proxy_protocol import Pieces

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = 16

_PORT = rb"(0|[1-9][0-9]{0,4})"
_VERSION_1 = re.compile(rb"PROXY (TCP4|TCP6) ([^ ]*) ([^ ]*) %b %b\r\n" % (_PORT, _PORT))

# Everything up to this many octets also comes one octet at a time.
_SHORT = 256


def proxy_target(octets: bytes) -> None:
    """A connection that begins with `octets`."""
    _read_every_way(octets)
    repaired = _with_right_checksum(octets)
    if repaired is not None:
        _read_every_way(repaired)


def _read_every_way(octets: bytes) -> None:
    header, rest = _read([octets])
    for lengths in ((1,), (2,), (5, 1), (16,), (60, 200)):
        if len(octets) <= _SHORT or min(lengths) > 2:
            assert _read(cut(octets, lengths)) == (header, rest), "it matters how it is cut"
    if isinstance(header, str):
        return
    assert octets.endswith(rest)
    taken = octets[: len(octets) - len(rest)]
    if header is None:
        assert not octets, "octets passed over without a word"
    elif taken.startswith(_SIGNATURE):
        _check_version_2(taken, header)
    else:
        _check_version_1(taken, header)


def _read(pieces: list[bytes]) -> tuple[ProxyHeader | str | None, bytes]:
    """The header, or why it is none, and what is left."""
    source = Pieces(pieces)
    try:
        header = read_header(source)
    except ProxyHeaderBroken as error:
        text = str(error)
        assert re.fullmatch(r"[ -~]{1,300}", text), text
        return "broken", b""
    for address in () if header is None else (header.source, header.destination):
        if address is not None:
            _check_address(*address)
    return header, source.rest()


def _check_address(address: str, port: int) -> None:
    parsed = ipaddress.ip_address(address)
    assert str(parsed) == address, address
    assert not (isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped), address
    assert "%" not in address
    assert 0 <= port <= 65535


# --- version 1 ---------------------------------------------------------------------------------


def _check_version_1(taken: bytes, header: ProxyHeader) -> None:
    assert taken.index(b"\r\n") == len(taken) - 2
    assert len(taken) <= 107
    assert not header.local
    if re.match(rb"PROXY UNKNOWN[ \r]", taken):
        assert header == ProxyHeader(None, None, local=False)
        return
    fields = _VERSION_1.fullmatch(taken)
    assert fields is not None, taken
    family = socket.AF_INET if fields[1] == b"TCP4" else socket.AF_INET6
    expected = [
        (_presented(socket.inet_pton(family, fields[at].decode())), int(fields[at + 2]))
        for at in (2, 3)
    ]
    assert [header.source, header.destination] == expected


def _presented(packed: bytes) -> str:
    """An address in the spelling of the package, made without the package."""
    if packed[:12] == bytes(10) + b"\xff\xff":
        packed = packed[12:]
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    # The C library writes some others with an IPv4 address at their end.
    return str(ipaddress.IPv6Address(packed))


# --- version 2 ---------------------------------------------------------------------------------


def _check_version_2(taken: bytes, header: ProxyHeader) -> None:
    assert taken[12] in (0x20, 0x21)
    assert len(taken) == _FIXED + int.from_bytes(taken[14:16], "big") <= 4096
    assert header.local is (taken[12] == 0x20)
    assert _with_right_checksum(taken) in (None, taken), "a wrong checksum"
    _check_info(taken, header)
    size = {0x11: 4, 0x21: 16}.get(taken[13])
    if header.local or size is None:
        assert (header.source, header.destination) == (None, None)
        return
    block = taken[_FIXED:]
    ports = [int.from_bytes(block[2 * size + at : 2 * size + at + 2], "big") for at in (0, 2)]
    assert header.source == (_presented(block[:size]), ports[0])
    assert header.destination == (_presented(block[size : 2 * size]), ports[1])


def _check_info(taken: bytes, header: ProxyHeader) -> None:
    info = header.info
    assert (info.version, info.local) == (2, header.local)
    for _, value in info.tlvs:
        assert value in taken
    ssl = info.ssl
    texts = [info.authority, info.alpn]
    if ssl is not None:
        texts += [ssl.version, ssl.common_name, ssl.cipher]
        texts += [ssl.signature_algorithm, ssl.key_algorithm]
        assert not ssl.verified or ssl.client_cert_connection or ssl.client_cert_session
    for text in filter(None, texts):
        assert text.encode() in taken
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", text), text
    assert info.unique_id is None or (len(info.unique_id) <= 128 and info.unique_id in taken)


def _with_right_checksum(octets: bytes) -> bytes | None:
    """A version 2 header whose checksum, which no mutation would hit, is made right."""
    if not octets.startswith(_SIGNATURE) or len(octets) < _FIXED:
        return None
    length = _FIXED + int.from_bytes(octets[14:16], "big")
    header = octets[:length]
    start = _FIXED + {1: 12, 2: 36, 3: 216}.get(octets[13] >> 4, 0)
    if not start < len(header) == length <= 4096:
        return None
    try:
        tlvs = parse_tlvs(header[start:])
    except ProxyHeaderBroken:
        return None
    for kind, value in tlvs:
        start += 3
        if kind == 3 and len(value) == 4:
            blank = header[:start] + bytes(4) + header[start + 4 :]
            checksum = crc32c(blank).to_bytes(4, "big")
            return header[:start] + checksum + header[start + 4 :] + octets[length:]
        start += len(value)
    return None
