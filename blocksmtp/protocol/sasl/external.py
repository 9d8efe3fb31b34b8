"""EXTERNAL (RFC 4422, appendix A): TLS has shown already who the client is."""

from __future__ import annotations

from ...auth import ExternalAuth
from .base import Exchange, Surroundings, user_name


def exchange(initial: bytes | None, surroundings: Surroundings) -> Exchange:
    """The client says at most for whom it wants to act."""
    authzid = (yield b"") if initial is None else initial
    yield ExternalAuth(
        method="EXTERNAL",
        username=user_name(authzid) if authzid else "",
        certificate=surroundings.client_certificate,
    )
