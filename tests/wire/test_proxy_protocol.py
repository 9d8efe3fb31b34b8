"""The PROXY protocol: what is a header, what it says, and that nothing behind it is touched."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blocksmtp.errors import ClientTooSlow, ProxyHeaderBroken
from blocksmtp.session import ProxyInfo, ProxySSL
from blocksmtp.wire.proxy_protocol import ProxyHeader, crc32c, read_header
from blocksmtp.wire.proxy_tlvs import parse_tlvs

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
V4 = (
    socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.25") + struct.pack("!HH", 5000, 25)
)
V6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::25")
    + struct.pack("!HH", 5000, 25)
)
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")

ENDPOINTS_V4 = ProxyHeader(("192.0.2.7", 5000), ("198.51.100.25", 25), local=False)
ENDPOINTS_V6 = ProxyHeader(("2001:db8::7", 5000), ("2001:db8::25", 25), local=False)
UNTOLD = ProxyHeader(None, None, local=False)
LOCAL = ProxyHeader(None, None, local=True)


class Pieces:
    """A connection on which `pieces` arrive, each after all before it was taken.

    It also holds the reader to the rules: a second look without taking what the first one showed
    would spin on a socket, and nobody takes what was not looked at.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.coming = [piece for piece in pieces if piece]
        self.shown = 0

    def peek(self, size: int) -> bytes:
        assert size > 0
        assert self.shown == 0, "looked twice at the same octets"
        octets = self.coming[0][:size] if self.coming else b""
        self.shown = len(octets)
        return octets

    def take(self, size: int) -> bytes:
        assert 0 < size <= self.shown
        octets, rest = self.coming[0][:size], self.coming[0][size:]
        self.coming[:1] = [rest] if rest else []
        self.shown = 0
        return octets

    def rest(self) -> bytes:
        return b"".join(self.coming)


def read(octets: bytes) -> ProxyHeader | None:
    return read_header(Pieces([octets]))


def v2(
    block: bytes, *, command: int = 0x21, family: int = 0x11, length: int | None = None
) -> bytes:
    length = len(block) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, length) + block


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def with_checksum(before: bytes, after: bytes = b"", **fields: int) -> bytes:
    """A header whose block is `before`, the TLV of the right checksum, and `after`."""
    header = v2(before + tlv(3, bytes(4)) + after, **fields)
    begins = 16 + len(before) + 3
    return header[:begins] + crc32c(header).to_bytes(4, "big") + header[begins + 4 :]


# --- version 1 ---------------------------------------------------------------------------------

HEADERS_V1 = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.25 5000 25\r\n", ENDPOINTS_V4),
    (b"PROXY TCP6 2001:db8::7 2001:db8::25 5000 25\r\n", ENDPOINTS_V6),
    (b"PROXY TCP6 2001:0DB8:0:0:0:0:0:7 2001:DB8::25 5000 25\r\n", ENDPOINTS_V6),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:c633:6419 5000 25\r\n", ENDPOINTS_V4),
    (
        b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
        ProxyHeader(("0.0.0.0", 0), ("255.255.255.255", 65535), local=False),
    ),
    (
        b"PROXY TCP6 %b %b 65535 65535\r\n" % ((b":".join([b"ffff"] * 8),) * 2),
        ProxyHeader((":".join(["ffff"] * 8), 65535), (":".join(["ffff"] * 8), 65535), local=False),
    ),
    (b"PROXY UNKNOWN\r\n", UNTOLD),
    (b"PROXY UNKNOWN 192.0.2.7 198.51.100.25 5000 25\r\n", UNTOLD),
    (b"PROXY UNKNOWN \xff\x00 what  ever\r\n", UNTOLD),
    (b"PROXY UNKNOWN".ljust(105, b" ") + b"\r\n", UNTOLD),
]


@pytest.mark.parametrize(("octets", "header"), HEADERS_V1)
def test_version_1(octets: bytes, header: ProxyHeader) -> None:
    assert read(octets) == header


@pytest.mark.parametrize(
    "fields",
    [
        "TCP4 192.0.2.7 198.51.100.25 5000 025",
        "TCP4 192.0.2.7 198.51.100.25 05000 25",
        "TCP4 192.0.2.7 198.51.100.25 5000 65536",
        "TCP4 192.0.2.7 198.51.100.25 5000 100000",
        "TCP4 192.0.2.7 198.51.100.25 5000 -1",
        "TCP4 192.0.2.7 198.51.100.25 5000 +25",
        "TCP4 192.0.2.7 198.51.100.25 5000 \u0662\u0665",
        "TCP4 192.0.2.7 198.51.100.25 5000 smtp",
        "TCP4 192.0.2.7 198.51.100.25 5000 ",
        "TCP4 192.0.2.7 198.51.100.25 5000",
        "TCP4 192.0.2.7 198.51.100.25 5000 25 ",
        "TCP4 192.0.2.7 198.51.100.25 5000 25 more",
        "TCP4  192.0.2.7 198.51.100.25 5000 25",
        "TCP4 192.0.2.7  198.51.100.25 5000 25",
        "TCP4\t192.0.2.7 198.51.100.25 5000 25",
        "TCP4 192.0.2.07 198.51.100.25 5000 25",
        "TCP4 192.0.2.256 198.51.100.25 5000 25",
        "TCP4 192.0.2 198.51.100.25 5000 25",
        "TCP4 192.0.2.7/32 198.51.100.25 5000 25",
        "TCP4 192.0.2.7 mail.example.org 5000 25",
        "TCP4 192.0.2.\u0667 198.51.100.25 5000 25",
        "TCP4 2001:db8::7 2001:db8::25 5000 25",
        "TCP4 192.0.2.7 2001:db8::25 5000 25",
        "TCP6 192.0.2.7 198.51.100.25 5000 25",
        "TCP6 2001:db8::7 198.51.100.25 5000 25",
        "TCP6 2001:db8::7%eth0 2001:db8::25 5000 25",
        "TCP6 2001:db8::7 ::25::1 5000 25",
        "TCP6 2001:db8::7 [2001:db8::25] 5000 25",
        "TCP4 ",
        "TCP4",
        "TCP5 192.0.2.7 198.51.100.25 5000 25",
        "tcp4 192.0.2.7 198.51.100.25 5000 25",
        "UDP4 192.0.2.7 198.51.100.25 5000 25",
        "UNKNOWNS",
        "UNKNOWNX ::1 ::2 1 2",
        "UNKNOWN4 192.0.2.7 198.51.100.25 5000 25",
        "",
    ],
)
def test_version_1_with_bad_fields(fields: str) -> None:
    with pytest.raises(ProxyHeaderBroken):
        read(b"PROXY " + fields.encode() + b"\r\n")


@pytest.mark.parametrize(
    "octets",
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.25 5000 25\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.25 5000 25\r",
        b"PROXY TCP4 192.0.2.7 198.51.100.25 5000 25\r\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.25 5000 25\n\r\n",
        b"PROXY UNKNOWN\nEHLO there\r\n",
        b"PROXY UNKNOWN\rEHLO there\r\n",
    ],
)
def test_version_1_ends_in_nothing_but_crlf(octets: bytes) -> None:
    with pytest.raises(ProxyHeaderBroken):
        read(octets)


def test_version_1_is_not_longer_than_107_octets() -> None:
    longest = b"PROXY UNKNOWN".ljust(105)
    assert read(longest + b"\r\n") == UNTOLD
    with pytest.raises(ProxyHeaderBroken, match="no CRLF in 107 octets"):
        read(longest + b" \r\n")


def test_version_1_without_end_is_given_up_at_once() -> None:
    source = Pieces([b"PROXY UNKNOWN ", b"x" * 92, b"x", b"never looked at"])
    with pytest.raises(ProxyHeaderBroken, match="no CRLF in 107 octets"):
        read_header(source)
    assert source.rest().endswith(b"never looked at")


# --- version 2 ---------------------------------------------------------------------------------

HEADERS_V2 = [
    (v2(V4), ENDPOINTS_V4),
    (v2(V6, family=0x21), ENDPOINTS_V6),
    (
        v2(
            ipaddress.ip_address("::ffff:192.0.2.7").packed
            + ipaddress.ip_address("::ffff:198.51.100.25").packed
            + struct.pack("!HH", 5000, 25),
            family=0x21,
        ),
        ENDPOINTS_V4,
    ),
    (v2(V4 + tlv(2, b"mail.example.org") + tlv(4, b"")), ENDPOINTS_V4),
    (with_checksum(V4), ENDPOINTS_V4),
    (with_checksum(V4 + tlv(4, b"before"), tlv(5, b"after")), ENDPOINTS_V4),
    (with_checksum(V6, tlv(5, b"after"), family=0x21), ENDPOINTS_V6),
    (v2(V4 + tlv(4, bytes(4096 - 16 - 12 - 3))), ENDPOINTS_V4),
    # Not over TCP, or not known to be.
    (v2(V4, family=0x12), UNTOLD),
    (v2(V6, family=0x22), UNTOLD),
    (v2(UNIX, family=0x31), UNTOLD),
    (v2(UNIX, family=0x32), UNTOLD),
    (with_checksum(UNIX, family=0x31), UNTOLD),
    (v2(b"", family=0x00), UNTOLD),
    (v2(b"whatever this is", family=0x00), UNTOLD),
    (v2(tlv(4, b"padding"), family=0x00), UNTOLD),
    (with_checksum(b"", family=0x00), UNTOLD),
    (v2(V4, family=0x01), UNTOLD),
    (v2(V4, family=0x10), UNTOLD),
    (v2(b"", family=0x10), UNTOLD),
    # The proxy's own, whatever the rest says.
    (v2(b"", command=0x20, family=0x00), LOCAL),
    (v2(b"", command=0x20), LOCAL),
    (v2(V4, command=0x20), LOCAL),
    (v2(b"\1\2\3", command=0x20), LOCAL),
    (v2(V4, command=0x20, family=0xFF), LOCAL),
    (with_checksum(b"", command=0x20, family=0x00), LOCAL),
    (with_checksum(V4, command=0x20), LOCAL),
]


@pytest.mark.parametrize(("octets", "header"), HEADERS_V2)
def test_version_2(octets: bytes, header: ProxyHeader) -> None:
    assert read(octets) == header


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        (v2(V4, command=0x11), "unknown version or command in a PROXY header: 0x11"),
        (v2(V4, command=0x31), "unknown version or command"),
        (v2(V4, command=0x22), "unknown version or command"),
        (v2(V4, command=0x2F), "unknown version or command"),
        (v2(V4, command=0x01), "unknown version or command"),
        (v2(V4, family=0x41), "unknown address family or transport in a PROXY header: 0x41"),
        (v2(V4, family=0x13), "unknown address family or transport"),
        (v2(V4, family=0x03), "unknown address family or transport"),
        (v2(V4[:-1]), "11 octets of addresses in a PROXY header, not 12"),
        (v2(b""), "0 octets of addresses"),
        (v2(V4, family=0x21), "12 octets of addresses in a PROXY header, not 36"),
        (v2(V6[:-1], family=0x22), "35 octets of addresses"),
        (v2(UNIX[:-1], family=0x31), "215 octets of addresses in a PROXY header, not 216"),
        (v2(V4 + b"\4"), "within the head of a TLV"),
        (v2(V4 + b"\4\0"), "within the head of a TLV"),
        (v2(V4 + b"\4\0\1"), "within a TLV of type 0x04"),
        (v2(V4 + tlv(4, b"") + b"\2\xff\xffx"), "within a TLV of type 0x02"),
        (v2(V4 + b"\4", family=0x12), "within the head of a TLV"),
        (v2(V4 + tlv(3, bytes(4))), "wrong checksum"),
        (v2(V4 + tlv(3, b"")), "a checksum of 0 octets"),
        (v2(V4 + tlv(3, bytes(5))), "a checksum of 5 octets"),
        (with_checksum(V4, tlv(3, bytes(4))), "more than one checksum"),
        (v2(UNIX + tlv(3, bytes(4)), family=0x31), "wrong checksum"),
        (v2(tlv(3, bytes(4)), family=0x00), "wrong checksum"),
        (v2(tlv(3, bytes(4)), command=0x20, family=0x00), "wrong checksum"),
        (v2(V4 + tlv(3, bytes(4)), command=0x20), "wrong checksum"),
        (v2(tlv(3, bytes(4)), command=0x20), "wrong checksum"),
        (v2(V4 + tlv(4, bytes(4096 - 16 - 12 - 3 + 1))), "of 4097 octets; at most 4096"),
        (v2(b"", length=0xFFFF), "of 65551 octets"),
        (v2(b"", command=0x20, length=0xFFFF), "of 65551 octets"),
    ],
)
def test_version_2_that_is_broken(octets: bytes, message: str) -> None:
    with pytest.raises(ProxyHeaderBroken, match=message):
        read(octets)


def test_the_checksum_notices_every_flipped_bit() -> None:
    header = with_checksum(V4, tlv(5, b"id"))
    type_of_checksum = 16 + len(V4)  # another type, and there is no checksum
    for position in set(range(16, len(header))) - {type_of_checksum}:
        for bit in range(8):
            flipped = bytearray(header)
            flipped[position] ^= 1 << bit
            with pytest.raises(ProxyHeaderBroken):
                read(bytes(flipped))


def test_what_cannot_be_a_version_2_header_is_given_up_before_its_end() -> None:
    for begins in (SIGNATURE + b"\x31", SIGNATURE + b"\x21\x41", SIGNATURE + b"\x21\x11\x10\x00"):
        source = Pieces([bytes([octet]) for octet in begins] + [b"never looked at"])
        with pytest.raises(ProxyHeaderBroken):
            read_header(source)
        assert source.rest().endswith(b"never looked at")


@pytest.mark.parametrize(
    ("octets", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),  # the check value of the CRC catalogues
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4, as the next three
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_crc32c(octets: bytes, checksum: int) -> None:
    assert crc32c(octets) == checksum


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=5))
def test_tlvs_are_found_as_they_were_written(tlvs: list[tuple[int, bytes]]) -> None:
    octets = b"".join(tlv(kind, value) for kind, value in tlvs)
    assert parse_tlvs(octets) == tlvs
    ends = [sum(3 + len(value) for _, value in tlvs[:count]) for count in range(len(tlvs) + 1)]
    for end in set(range(len(octets))) - set(ends):
        with pytest.raises(ProxyHeaderBroken):
            parse_tlvs(octets[:end])


# --- both --------------------------------------------------------------------------------------

HEADERS = [*HEADERS_V1, *HEADERS_V2]


def test_a_connection_that_ends_at_once_has_no_header() -> None:
    assert read(b"") is None


@pytest.mark.parametrize("octets", [HEADERS_V1[0][0], HEADERS_V2[0][0]])
def test_a_header_that_breaks_off_is_broken(octets: bytes) -> None:
    for end in range(1, len(octets)):
        with pytest.raises(ProxyHeaderBroken, match="ended within a PROXY header"):
            read(octets[:end])


@pytest.mark.parametrize(
    "octets",
    [
        b"E",
        b"p",
        b"\n",
        b"\0",
        b"\x16",  # a TLS handshake
        b"\xff",
        b"PROXI",
        b"PROXY\t",
        b"PROXY X",
        b"PROXY TCP5",
        b"\r\r",
        b"\r\nE",
        *(SIGNATURE[:end] + bytes([SIGNATURE[end] ^ 1]) for end in range(12)),
    ],
)
def test_a_wrong_signature_is_told_at_its_first_wrong_octet(octets: bytes) -> None:
    source = Pieces([*(bytes([octet]) for octet in octets), b"never looked at"])
    with pytest.raises(ProxyHeaderBroken, match="no PROXY header"):
        read_header(source)
    assert source.rest().endswith(b"never looked at")


def test_what_the_client_sent_is_shown_short_and_printable() -> None:
    with pytest.raises(ProxyHeaderBroken) as caught:
        read(b"EHLO \r\n\x1b[31m\x80\xe2\x80\xa8" + b"x" * 90)
    text = str(caught.value)
    assert text.startswith("no PROXY header: 'EHLO ")
    assert text.endswith("x'...")
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 120


def test_errors_of_the_source_pass_through() -> None:
    class Slow(Pieces):
        def peek(self, size: int) -> bytes:
            if not self.coming:
                raise ClientTooSlow("no progress")
            return super().peek(size)

    with pytest.raises(ClientTooSlow):
        read_header(Slow([b"PROXY TCP4"]))


def test_a_source_that_gives_less_than_it_showed() -> None:
    """Which a `take` may, as a `recv` may; what it did not give is looked at again."""

    class Stingy(Pieces):
        def take(self, size: int) -> bytes:
            return super().take(1)

    for octets, header in HEADERS:
        source = Stingy([octets + b"EHLO"])
        assert read_header(source) == header
        assert source.rest() == b"EHLO"


def test_a_source_that_ends_between_peek_and_take() -> None:
    class Gone(Pieces):
        def take(self, size: int) -> bytes:
            return b""

    assert read_header(Gone([b"PROXY TCP4"])) is None


@st.composite
def cut(draw: st.DrawFn, octets: bytes) -> Sequence[bytes]:
    """`octets` in pieces, in one of the ways in which they may arrive."""
    if not octets:
        return []
    cuts = draw(st.lists(st.integers(0, len(octets)), max_size=12).map(sorted))
    return [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]


@given(st.sampled_from(HEADERS), st.binary(max_size=200), st.data())
def test_what_follows_a_header_is_left(
    pair: tuple[bytes, ProxyHeader], rest: bytes, data: st.DataObject
) -> None:
    octets, header = pair
    source = Pieces(data.draw(cut(octets + rest)))
    assert read_header(source) == header
    assert source.rest() == rest


def test_octet_by_octet() -> None:
    for octets, header in HEADERS:
        source = Pieces([bytes([octet]) for octet in octets + b"\r\nEHLO"])
        assert read_header(source) == header
        assert source.rest() == b"\r\nEHLO"


@st.composite
def nearly_headers(draw: st.DrawFn) -> bytes:
    """Headers with a few octets changed, removed or added."""
    octets = bytearray(draw(st.sampled_from(HEADERS))[0] + draw(st.binary(max_size=8)))
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, len(octets) - 1))
        octets[position : position + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
        octets += b"."
    return bytes(octets)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """Version 1 from likely fields."""
    address = st.one_of(
        st.ip_addresses().map(lambda address: str(address).encode()), st.binary(max_size=4)
    )
    port = st.one_of(st.integers(0, 99999).map(lambda port: b"%d" % port), st.binary(max_size=2))
    family = draw(st.sampled_from([b"TCP4", b"TCP6", b"UNKNOWN"]))
    fields = [family, draw(address), draw(address), draw(port), draw(port)]
    return b"PROXY " + b" ".join(fields) + draw(st.sampled_from([b"\r\n", b"\n", b" \r\n"]))


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """Version 2 with likely nibbles and any block."""
    nibble = st.one_of(st.integers(0, 3), st.integers(0, 15))
    family = draw(nibble) << 4 | draw(nibble)
    block = draw(st.sampled_from([b"", V4, V6, UNIX])) + draw(st.binary(max_size=40))
    return v2(block, command=draw(st.sampled_from([0x20, 0x21])), family=family)


def outcome(pieces: Sequence[bytes]) -> tuple[object, bytes | None]:
    """The header and what is left; for a broken header only that it is."""
    source = Pieces(pieces)
    try:
        return read_header(source), source.rest()
    except ProxyHeaderBroken as broken:
        message = str(broken)
    assert message.isascii()
    assert message.isprintable()
    return ProxyHeaderBroken, None


@given(st.one_of(st.binary(max_size=150), nearly_headers(), lines(), blocks()), st.data())
@example(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n", None)
def test_however_it_arrives_it_is_the_same(octets: bytes, data: st.DataObject | None) -> None:
    pieces = [bytes([octet]) for octet in octets] if data is None else data.draw(cut(octets))
    header, rest = outcome([octets])
    assert outcome(pieces) == (header, rest)
    if isinstance(header, ProxyHeader):
        for endpoint in (header.source, header.destination):
            if endpoint is not None:
                ipaddress.ip_address(endpoint[0])
                assert 0 <= endpoint[1] <= 65535


# --- what else a header tells --------------------------------------------------------------------


def version_2(*tlvs: bytes, command: int = 0x21, family: int = 0x11, block: bytes = V4) -> bytes:
    payload = block + b"".join(tlvs)
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(payload)) + payload


def info_of(header: bytes) -> ProxyInfo:
    """What the header tells, however it is cut, and with trailing data."""
    told = set()
    for pieces in ([header], [bytes([octet]) for octet in header], [header + b"EHLO a\r\n"]):
        read = read_header(Pieces(pieces))
        assert read is not None
        told.add(read.info)
    [info] = told
    return info


def test_version_1_tells_no_more() -> None:
    assert info_of(b"PROXY TCP4 192.0.2.7 198.51.100.25 5000 25\r\n") == ProxyInfo(version=1)
    assert info_of(b"PROXY UNKNOWN\r\n") == ProxyInfo(version=1)


def test_version_2_without_tlvs() -> None:
    assert info_of(version_2()) == ProxyInfo(version=2)


def test_all_that_a_header_may_tell() -> None:
    ssl = struct.pack("!BI", 0x07, 0) + b"".join(
        tlv(kind, value)
        for kind, value in (
            (0x21, b"TLSv1.3"),
            (0x22, "j\u00fcrgen".encode()),
            (0x23, b"TLS_AES_256_GCM_SHA384"),
            (0x24, b"SHA256"),
            (0x25, b"RSA2048"),
            (0x26, b"x25519"),
        )
    )
    tlvs = [
        (0x01, b"smtp"),
        (0x02, b"mx.example.org"),
        (0x05, b"\0id\xff"),
        (0x20, ssl),
        (0xE0, b""),
    ]
    assert info_of(version_2(*(tlv(*each) for each in tlvs))) == ProxyInfo(
        version=2,
        authority="mx.example.org",
        alpn="smtp",
        unique_id=b"\0id\xff",
        ssl=ProxySSL(
            client_ssl=True,
            client_cert_connection=True,
            client_cert_session=True,
            verified=True,
            version="TLSv1.3",
            common_name="j\u00fcrgen",
            cipher="TLS_AES_256_GCM_SHA384",
            signature_algorithm="SHA256",
            key_algorithm="RSA2048",
        ),
        tlvs=tuple(tlvs),
    )


@pytest.mark.parametrize(
    ("client", "verify", "expected"),
    [
        (0x00, 0, (False, False, False, False)),
        (0x01, 0, (True, False, False, False)),
        (0x03, 0, (True, True, False, True)),
        (0x05, 0, (True, False, True, True)),
        (0x03, 1, (True, True, False, False)),
        (0x01, 1, (True, False, False, False)),
        (0xF8, 0, (False, False, False, False)),
    ],
)
def test_whose_certificate_was_good(
    client: int, verify: int, expected: tuple[bool, bool, bool, bool]
) -> None:
    ssl = info_of(version_2(tlv(0x20, struct.pack("!BI", client, verify)))).ssl
    assert ssl is not None
    shown = ssl.client_ssl, ssl.client_cert_connection, ssl.client_cert_session, ssl.verified
    assert shown == expected
    assert ssl.common_name is None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (0x01, b"\xff"),
        (0x01, b"sm\r\ntp"),
        (0x02, b"\xff"),
        (0x02, b"two words"),
        (0x02, b"a\nb"),
        (0x02, b""),
    ],
)
def test_a_text_that_is_none(kind: int, value: bytes) -> None:
    info = info_of(version_2(tlv(kind, value)))
    assert info == ProxyInfo(version=2, tlvs=((kind, value),))


def test_of_two_the_first_counts() -> None:
    info = info_of(version_2(tlv(0x02, b"one.example"), tlv(0x04, b""), tlv(0x02, b"two.example")))
    assert info.authority == "one.example"
    assert len(info.tlvs) == 3


BROKEN_TLVS = [
    tlv(0x05, bytes(129)),
    tlv(0x20, b""),
    tlv(0x20, b"\1\0\0\0"),
    tlv(0x20, b"\1\0\0\0\0\x21"),
    tlv(0x20, b"\1\0\0\0\0\x21\0\5TLS"),
]


@pytest.mark.parametrize("broken", BROKEN_TLVS)
def test_a_tlv_that_is_broken_breaks_the_header(broken: bytes) -> None:
    for family, block in ((0x11, V4), (0x21, V6), (0x12, V4), (0x31, UNIX)):
        with pytest.raises(ProxyHeaderBroken):
            read_header(Pieces([version_2(broken, family=family, block=block)]))


@pytest.mark.parametrize("broken", BROKEN_TLVS)
def test_what_a_connection_of_the_proxy_s_own_tells_need_not_be_right(broken: bytes) -> None:
    assert info_of(version_2(broken, command=0x20)) == ProxyInfo(version=2, local=True)


def test_a_connection_of_the_proxy_s_own_may_tell_something() -> None:
    header = version_2(tlv(0x05, b"id"), command=0x20, family=0x00, block=b"")
    expected = ProxyInfo(version=2, local=True, unique_id=b"id", tlvs=((0x05, b"id"),))
    assert info_of(header) == expected


@pytest.mark.parametrize("broken", BROKEN_TLVS)
@pytest.mark.parametrize(("command", "family"), [(0x20, 0x11), (0x21, 0x00)])
def test_a_checksum_counts_whatever_stands_beside_it(
    broken: bytes, command: int, family: int
) -> None:
    addresses = V4 if family else b""
    right = with_checksum(addresses + broken, command=command, family=family)
    assert read_header(Pieces([right])) is not None
    wrong = right[:-1] + bytes([right[-1] ^ 1])
    with pytest.raises(ProxyHeaderBroken, match="checksum"):
        read_header(Pieces([wrong]))
