"""What the mechanisms share."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...auth import Auth, AuthResponse
from ...scram import ScramDecoys
from ...text import has_control_characters


class VerifierWanted(NamedTuple):
    """Yielded for the ScramVerifier of a user; None comes back where there is none."""

    username: str


@dataclass(frozen=True)
class Surroundings:
    """What a mechanism may know beside the client's responses."""

    server_name: str
    channel_binding: bytes | None = None
    """Those of type tls-exporter (RFC 9266); None without TLS, or where it cannot have them."""
    binding_offered: bool = False
    """Whether a mechanism that uses them is offered."""
    client_certificate: Any = None
    """The client's certificate, which TLS has verified; None where there is none."""
    stores_verifiers: bool = False
    """Whether the application answers to `VerifierWanted`."""
    decoys: ScramDecoys = field(default_factory=ScramDecoys)


Exchange = Generator["bytes | Auth | VerifierWanted", Any, None]
Mechanism = Callable[["bytes | None", Surroundings], Exchange]
"""Called with the initial response."""


class CredentialsWrong(Exception):
    """The mechanism itself has found that the client is not who it claims to be."""


class MechanismError(Exception):
    """A response that the mechanism cannot read; `args[0]` may be shown to the client."""


def decoded(octets: bytes) -> str:
    """`octets` as text. Raises MechanismError for what is not UTF-8."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        # Without the cause: it would hold the octets, a password among them.
        raise MechanismError("Error: Credentials must be UTF-8") from None


def error_challenge(answer: AuthResponse) -> bytes | None:
    """What a mechanism of OAuth tells of a refusal, None for nothing (RFC 7628, section 3.2.2)."""
    if answer.user is not None or answer.data is None:
        return None
    return json.dumps(dict(answer.data)).encode()


def user_name(octets: bytes) -> str:
    """A user name. Raises MechanismError for one that is empty or holds control characters."""
    name = decoded(octets)
    if not name:
        raise MechanismError("Error: User name is missing")
    if has_control_characters(name):
        raise MechanismError("Error: User name must not hold control characters")
    return name
