"""XOAUTH2 (Google's SASL mechanism for OAuth 2.0)."""

from __future__ import annotations

import re

from ...auth import XOAuth2Auth
from .base import Exchange, MechanismError, Surroundings, error_challenge, user_name

_RESPONSE = re.compile(rb"user=([^\x01]*)\x01auth=Bearer ([!-~]+)\x01\x01", re.IGNORECASE)


def exchange(initial: bytes | None, _surroundings: Surroundings) -> Exchange:
    """On refusal the client may get a challenge that tells why, to which it answers emptily."""
    match = _RESPONSE.fullmatch((yield b"") if initial is None else initial)
    if match is None:
        raise MechanismError("Error: Malformed credentials")
    answer = yield XOAuth2Auth(
        method="XOAUTH2",
        username=user_name(match[1]),
        access_token=match[2].decode("ascii"),
    )
    challenge = error_challenge(answer)
    if challenge is not None:
        yield challenge
