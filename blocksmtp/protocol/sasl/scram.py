"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), with tls-exporter (RFC 9266).

The password never crosses the wire: the client proves that it knows it, the server in turn that it
knows as much. With -PLUS both proofs are of this TLS connection, too, so that nobody sits between.
"""

from __future__ import annotations

import base64
import binascii
import functools
import os
import re
from typing import NamedTuple

from ...auth import ScramAuth
from ...saslprep import saslprep
from ...scram import ITERATIONS, ScramProof, ScramVerifier
from .base import (
    CredentialsWrong,
    Exchange,
    MechanismError,
    Surroundings,
    VerifierWanted,
    user_name,
)
from .gs2 import Header, split_header, unescaped

_NONCE_LENGTH = 18

# client-first-message-bare = "n=" saslname "," "r=" c-nonce ["," extensions]        (RFC 5802, 7)
# No mandatory extension ("m=", in front) is known, so that a message with one matches nothing.
_FIRST = re.compile(rb"n=([^,\0]+),r=([!-+\--~]+)(?:,.*)?", re.DOTALL)
# client-final-message = "c=" base64 "," "r=" nonce ["," extensions] "," "p=" base64
_FINAL = re.compile(
    rb"(c=([A-Za-z0-9+/=]+),r=([!-+\--~]+)(?:,(?!p=)[^,]*)*),p=([A-Za-z0-9+/]{43}=)"
)


class _First(NamedTuple):
    """The client's first message."""

    header: Header
    bare: bytes
    username: str
    nonce: bytes


def exchange(
    initial: bytes | None, surroundings: Surroundings, *, method: str, plus: bool
) -> Exchange:
    """The client's first message, the server's, the client's proof, and the server's."""
    first = _read_first((yield b"") if initial is None else initial)
    expected_binding = _expected_binding(first.header, surroundings, plus)
    stored = surroundings.stores_verifiers
    verifier: ScramVerifier | None = None
    if stored:
        verifier = yield VerifierWanted(first.username)
        if verifier is not None:
            surroundings.decoys.look_like(verifier)
    shown = verifier or surroundings.decoys.verifier(first.username)
    salt, iterations = (shown.salt, shown.iterations) if stored else (os.urandom(16), ITERATIONS)
    nonce = first.nonce + base64.b64encode(os.urandom(_NONCE_LENGTH))
    server_first = b"r=%s,s=%s,i=%d" % (nonce, base64.b64encode(salt), iterations)

    final = _FINAL.fullmatch((yield server_first))
    if final is None or final[3] != nonce:
        raise MechanismError("Error: Malformed credentials")
    if _octets(final[2]) != expected_binding:
        raise CredentialsWrong("Error: Channel binding does not match")
    message = b",".join((first.bare, server_first, final[1]))
    proof = ScramProof(salt, iterations, message, _octets(final[4]))
    if stored and not proof.check(shown, known=verifier is not None):
        raise CredentialsWrong("Error: Authentication credentials invalid")

    answer = yield ScramAuth(method, first.username, first.header.authzid, proof)
    if answer.user is not None and proof.server_signature is not None:
        response = yield b"v=" + base64.b64encode(proof.server_signature)
        if response:
            raise MechanismError("Error: Malformed response")


scram_sha_256 = functools.partial(exchange, method="SCRAM-SHA-256", plus=False)
scram_sha_256_plus = functools.partial(exchange, method="SCRAM-SHA-256-PLUS", plus=True)


def _read_first(message: bytes) -> _First:
    header, bare = split_header(message)
    match = _FIRST.fullmatch(bare)
    if match is None:
        raise MechanismError("Error: Malformed credentials")
    try:
        username = saslprep(user_name(unescaped(match[1])))
    except ValueError:
        raise MechanismError("Error: Malformed user name") from None
    if not username:
        raise MechanismError("Error: User name is missing")
    return _First(header, bare, username, match[2])


def _expected_binding(header: Header, surroundings: Surroundings, plus: bool) -> bytes:
    """What the client must send as "c=". Raises MechanismError and CredentialsWrong.

    A client that could have bound the channel, and believes that this server cannot, has been told
    so by somebody in between (RFC 5802, section 6).
    """
    if (header.flag == b"p") is not plus:
        raise MechanismError("Error: Channel binding and mechanism do not go together")
    if header.flag == b"y" and surroundings.binding_offered:
        raise CredentialsWrong("Error: Channel binding is offered here")
    if not plus:
        return header.octets
    if header.binding != b"tls-exporter" or surroundings.channel_binding is None:
        raise CredentialsWrong("Error: Channel binding of this type is not supported")
    return header.octets + surroundings.channel_binding


def _octets(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise MechanismError("Error: Malformed credentials") from None
