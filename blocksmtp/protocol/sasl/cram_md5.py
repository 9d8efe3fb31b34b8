"""CRAM-MD5 (RFC 2195)."""

from __future__ import annotations

import os
import re
import time

from ...auth import CramMD5Auth
from .base import Exchange, MechanismError, Surroundings, user_name

_DIGEST = re.compile(rb"[0-9A-Fa-f]{32}")


def exchange(initial: bytes | None, surroundings: Surroundings) -> Exchange:
    """The server speaks first, so an initial response is an error (RFC 4954, section 4)."""
    if initial is not None:
        raise MechanismError("Error: CRAM-MD5 takes no initial response")
    number = int.from_bytes(os.urandom(8), "big")
    challenge = f"<{number}.{int(time.time())}@{surroundings.server_name}>"
    response = yield challenge.encode()
    name, _, digest = response.rpartition(b" ")
    if _DIGEST.fullmatch(digest) is None:
        raise MechanismError("Error: Malformed credentials")
    yield CramMD5Auth(
        method="CRAM-MD5",
        username=user_name(name),
        challenge=challenge,
        challenge_response=digest.decode("ascii"),
    )
