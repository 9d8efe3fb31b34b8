"""PLAIN (RFC 4616)."""

from __future__ import annotations

from ...auth import PlainAuth
from .base import Exchange, MechanismError, Surroundings, decoded, user_name


def exchange(initial: bytes | None, _surroundings: Surroundings) -> Exchange:
    """message = [authzid] NUL authcid NUL passwd"""
    message = (yield b"") if initial is None else initial
    parts = message.split(b"\0")
    if len(parts) != 3:
        raise MechanismError("Error: Malformed credentials")
    authzid, authcid, password = parts
    yield PlainAuth(
        method="PLAIN",
        username=user_name(authcid or authzid),
        password=decoded(password),
        authzid=user_name(authzid) if authzid else "",
        authcid=decoded(authcid),
    )
