"""LOGIN (draft-murchison-sasl-login): obsolete, and spoken by everyone."""

from __future__ import annotations

from ...auth import LoginAuth
from .base import Exchange, Surroundings, decoded, user_name


def exchange(initial: bytes | None, _surroundings: Surroundings) -> Exchange:
    """The name, then the password; the prompts are the ones that clients look for."""
    name = user_name((yield b"Username:") if initial is None else initial)
    password = yield b"Password:"
    yield LoginAuth(method="LOGIN", username=name, password=decoded(password))
