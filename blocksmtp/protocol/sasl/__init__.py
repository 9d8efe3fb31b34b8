"""The SASL mechanisms, one small module each (RFC 4422; RFC 4954).

A mechanism is a generator function. It yields challenges and is sent the client's responses, both
without base64; it yields an `Auth` once it knows what the client presents and is sent the
application's answer. When it returns, the exchange is over. It raises `MechanismError` for a
response that makes no sense.

The initial response is None where the client sent none, which differs from an empty one.
"""

from __future__ import annotations

from . import cram_md5, login, plain, xoauth2
from .base import Exchange, Mechanism, MechanismError

MECHANISMS: dict[str, Mechanism] = {
    "PLAIN": plain.exchange,
    "LOGIN": login.exchange,
    "CRAM-MD5": cram_md5.exchange,
    "XOAUTH2": xoauth2.exchange,
}

__all__ = ["MECHANISMS", "Exchange", "Mechanism", "MechanismError"]
