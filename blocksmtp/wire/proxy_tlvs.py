"""What else than addresses a PROXY header of version 2 may tell: type, length, value.

Sections are those of HAProxy's document "The PROXY protocol".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ..addresses import is_hostname
from ..errors import ProxyHeaderBroken
from ..session import ProxyInfo, ProxySSL
from ..text import has_control_characters

TLV = tuple[int, bytes]

_HEAD = struct.Struct("!BH")
_SSL = struct.Struct("!BI")

# Section 2.2, and the fields of the SSL TLV in 2.2.5.
_ALPN, _AUTHORITY, _UNIQUE_ID, _SSL_TYPE = 0x01, 0x02, 0x05, 0x20
_VERSION, _COMMON_NAME, _CIPHER, _SIGNATURE, _KEY = 0x21, 0x22, 0x23, 0x24, 0x25
_CLIENT_SSL, _CERT_CONNECTION, _CERT_SESSION = 0x01, 0x02, 0x04

_LONGEST_UNIQUE_ID = 128


def parse_tlvs(octets: bytes) -> list[TLV]:
    """The types and values of the TLVs that follow the addresses of a version 2 header.

    Raises ProxyHeaderBroken unless `octets` end where a TLV ends. See section 2.2, end.
    """
    tlvs = []
    offset = 0
    while offset < len(octets):
        value_begins = offset + _HEAD.size
        if value_begins > len(octets):
            raise ProxyHeaderBroken("a PROXY header ends within the head of a TLV")
        kind, length = _HEAD.unpack_from(octets, offset)
        offset = value_begins + length
        if offset > len(octets):
            raise ProxyHeaderBroken(f"a PROXY header ends within a TLV of type 0x{kind:02x}")
        tlvs.append((kind, octets[value_begins:offset]))
    return tlvs


def proxy_info(tlvs: Sequence[TLV]) -> ProxyInfo:
    """What these TLVs say; of a type that comes twice, the first. Raises ProxyHeaderBroken."""
    values = dict(reversed(tlvs))
    unique_id = values.get(_UNIQUE_ID)
    if unique_id is not None and len(unique_id) > _LONGEST_UNIQUE_ID:
        raise ProxyHeaderBroken(f"a unique id of {len(unique_id)} octets in a PROXY header")
    authority = _text(values.get(_AUTHORITY))
    ssl = values.get(_SSL_TYPE)
    return ProxyInfo(
        version=2,
        authority=authority if authority is not None and is_hostname(authority) else None,
        alpn=_text(values.get(_ALPN)),
        unique_id=unique_id,
        ssl=None if ssl is None else _ssl(ssl),
        tlvs=tuple(tlvs),
    )


def _ssl(octets: bytes) -> ProxySSL:
    if len(octets) < _SSL.size:
        raise ProxyHeaderBroken(f"an SSL TLV of {len(octets)} octets in a PROXY header")
    client, verify = _SSL.unpack_from(octets)
    values = dict(reversed(parse_tlvs(octets[_SSL.size :])))
    return ProxySSL(
        client_ssl=bool(client & _CLIENT_SSL),
        client_cert_connection=bool(client & _CERT_CONNECTION),
        client_cert_session=bool(client & _CERT_SESSION),
        # Without a certificate there is nothing that could have failed, either.
        verified=verify == 0 and bool(client & (_CERT_CONNECTION | _CERT_SESSION)),
        version=_text(values.get(_VERSION)),
        common_name=_text(values.get(_COMMON_NAME)),
        cipher=_text(values.get(_CIPHER)),
        signature_algorithm=_text(values.get(_SIGNATURE)),
        key_algorithm=_text(values.get(_KEY)),
    )


def _text(octets: bytes | None) -> str | None:
    """`octets` as text, None for what is none: some of it comes from clients."""
    if octets is None:
        return None
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if has_control_characters(text) else text
