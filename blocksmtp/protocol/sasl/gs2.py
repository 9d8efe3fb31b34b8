"""The header that the mechanisms of the GS2 family begin with (RFC 5801, section 4; RFC 5802)."""

from __future__ import annotations

import re
from typing import NamedTuple

from .base import MechanismError, user_name

# gs2-header     = gs2-cbind-flag "," [ "a=" saslname ] ","                   (RFC 5802, 7)
# gs2-cbind-flag = ("p=" cb-name) / "n" / "y"
_HEADER = re.compile(rb"(?:(n|y)|p=([A-Za-z0-9.-]+)),(?:a=([^,\0]+))?,")
_ESCAPE = re.compile(rb"=(..|)", re.DOTALL)
_ESCAPED = {b"2C": b",", b"3D": b"="}


class Header(NamedTuple):
    """A GS2 header."""

    octets: bytes
    """As the client sent it."""
    flag: bytes
    """b"n": the client has no channel binding; b"y": it believes that the server has none; b"p"."""
    binding: bytes
    """The type of channel binding that goes with b"p"."""
    authzid: str
    """Whom the client wants to act for; "" for itself."""


def split_header(message: bytes) -> tuple[Header, bytes]:
    """The header of a client's first message, and the rest. Raises MechanismError."""
    match = _HEADER.match(message)
    if match is None:
        raise MechanismError("Error: Malformed credentials")
    authzid = "" if match[3] is None else user_name(unescaped(match[3]))
    header = Header(match[0], match[1] or b"p", match[2] or b"", authzid)
    return header, message[match.end() :]


def unescaped(saslname: bytes) -> bytes:
    """A name without its escapes: "=2C" for a comma, "=3D" for an equals sign."""
    if any(code not in _ESCAPED for code in _ESCAPE.findall(saslname)):
        raise MechanismError("Error: Malformed user name")
    return _ESCAPE.sub(lambda match: _ESCAPED[match[1]], saslname)
