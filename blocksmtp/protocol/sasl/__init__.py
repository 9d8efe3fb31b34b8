"""The SASL mechanisms, one small module each (RFC 4422; RFC 4954).

A mechanism is a generator function. It yields challenges and is sent the client's responses, both
without base64; it yields an `Auth` once it knows what the client presents and is sent the
application's answer, and may yield a `VerifierWanted` before. When it returns, the exchange is
over. It raises `MechanismError` for a response that makes no sense, and `CredentialsWrong` for one
that tells that the client is somebody else.

The initial response is None where the client sent none, which differs from an empty one.
"""

from __future__ import annotations

from . import cram_md5, external, login, oauthbearer, plain, scram, xoauth2
from .base import (
    CredentialsWrong,
    Exchange,
    Mechanism,
    MechanismError,
    Surroundings,
    VerifierWanted,
)

MECHANISMS: dict[str, Mechanism] = {
    "PLAIN": plain.exchange,
    "LOGIN": login.exchange,
    "CRAM-MD5": cram_md5.exchange,
    "XOAUTH2": xoauth2.exchange,
    "OAUTHBEARER": oauthbearer.exchange,
    "SCRAM-SHA-256": scram.scram_sha_256,
    "SCRAM-SHA-256-PLUS": scram.scram_sha_256_plus,
    "EXTERNAL": external.exchange,
}

__all__ = [
    "MECHANISMS",
    "CredentialsWrong",
    "Exchange",
    "Mechanism",
    "MechanismError",
    "Surroundings",
    "VerifierWanted",
]
