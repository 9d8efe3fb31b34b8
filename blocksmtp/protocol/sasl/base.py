"""What the mechanisms share."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from ...auth import Auth
from ...text import has_control_characters

Exchange = Generator["bytes | Auth", Any, None]
Mechanism = Callable[["bytes | None", str], Exchange]
"""Called with the initial response and the server's name."""


class MechanismError(Exception):
    """A response that the mechanism cannot read; `args[0]` may be shown to the client."""


def decoded(octets: bytes) -> str:
    """`octets` as text. Raises MechanismError for what is not UTF-8."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        # Without the cause: it would hold the octets, a password among them.
        raise MechanismError("Error: Credentials must be UTF-8") from None


def user_name(octets: bytes) -> str:
    """A user name. Raises MechanismError for one that is empty or holds control characters."""
    name = decoded(octets)
    if not name:
        raise MechanismError("Error: User name is missing")
    if has_control_characters(name):
        raise MechanismError("Error: User name must not hold control characters")
    return name
