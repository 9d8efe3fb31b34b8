"""BDAT: messages in chunks of octets (RFC 3030).

The octets of a chunk follow its command whatever the server makes of that. So those of a chunk that
is refused are read away before the answer: taken for commands they would let a message say what its
sender may not. Where the line does not tell how many they are, there is nothing to read away.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from .grammar import GrammarError
from .replies import Chunk, Next, Reply, bad, usual_status

if TYPE_CHECKING:
    from .machine import Machine

LARGEST_CHUNK = 2**31
"""In octets; nobody would read more away."""

# chunk-size = 1*DIGIT; end-marker = "LAST"                                  (RFC 3030, 2)
_CHUNK = re.compile(r"([0-9]+)(?:[ \t]+(.*))?", re.DOTALL)

_TOO_LARGE = Reply(552, ("Error: chunk is too large",), "5.3.4", Next.CLOSE)


def bdat(machine: Machine, argument: str) -> Reply:
    """BDAT (RFC 3030, section 2). The reply is due when the chunk has come, unless it is the last:
    that one is answered for the message.
    """
    parts = _CHUNK.fullmatch(argument)
    if parts is None or (parts[2] is not None and parts[2].upper() != "LAST"):
        raise GrammarError("Error: Syntax: BDAT octets [LAST]")
    if not machine.session.envelope.rcpt_to:
        return bad(503, "Error: need RCPT command")
    size = _number(parts[1])
    if size > LARGEST_CHUNK:
        return _TOO_LARGE
    chunk = Chunk(size, last=parts[2] is not None)
    text = f"{size} octets received"
    return Reply(250, (text,), usual_status(250), Next.BODY, chunk=chunk)


def refused(refusal: Reply, argument: str) -> Reply:
    """`refusal` of a BDAT, and what is to be read away before it is said."""
    parts = _CHUNK.fullmatch(argument)
    if parts is None or refusal.then is Next.CLOSE:
        return refusal
    size = _number(parts[1])
    if size > LARGEST_CHUNK:
        return _TOO_LARGE
    return dataclasses.replace(refusal, then=Next.DISCARD, chunk=Chunk(size, last=False))


def _number(digits: str) -> int:
    # One of a thousand digits is too large in any case, and costly to read.
    return int(digits) if len(digits) <= 20 else LARGEST_CHUNK + 1
