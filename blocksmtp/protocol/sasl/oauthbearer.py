"""OAUTHBEARER (RFC 7628)."""

from __future__ import annotations

import re

from ...auth import OAuthBearerAuth
from .base import Exchange, MechanismError, Surroundings, error_challenge
from .gs2 import split_header

# client-resp = (gs2-header kvsep *kvpair kvsep) / kvsep                     (RFC 7628, 3.1)
# kvpair      = key "=" value kvsep
# kvsep       = %x01
_PAIR = re.compile(rb"([A-Za-z]+)=([\t\n\r -~]*)")
_BEARER = re.compile(rb"Bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


def exchange(initial: bytes | None, _surroundings: Surroundings) -> Exchange:
    """On refusal the client may get a challenge that tells why, to which it answers with ^A."""
    header, rest = split_header((yield b"") if initial is None else initial)
    if header.flag == b"p":
        raise MechanismError("Error: This mechanism has no channel binding")
    token = _BEARER.fullmatch(_pairs(rest).get(b"auth", b""))
    if token is None:
        raise MechanismError("Error: Malformed credentials")
    answer = yield OAuthBearerAuth(
        method="OAUTHBEARER",
        username=header.authzid,
        access_token=token[1].decode("ascii"),
    )
    challenge = error_challenge(answer)
    if challenge is not None:
        yield challenge


def _pairs(octets: bytes) -> dict[bytes, bytes]:
    """The values by key, in lower case. Raises MechanismError."""
    begin, *pairs = octets.split(b"\1")
    if begin or pairs[-2:] != [b"", b""]:
        raise MechanismError("Error: Malformed credentials")
    found: dict[bytes, bytes] = {}
    for pair in pairs[:-2]:
        match = _PAIR.fullmatch(pair)
        if match is None or match[1].lower() in found:
            raise MechanismError("Error: Malformed credentials")
        found[match[1].lower()] = match[2]
    return found
