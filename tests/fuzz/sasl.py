"""Target `sasl`: AUTH with every mechanism, and what becomes of the secrets.

A line of the client's that begins with `AUTH` is sent with its initial response in base64, one that
begins with `!` as it is without that, and every other one in base64. The same conversation with
other letters in the credentials must look the same in every reply and in the log.
"""

from __future__ import annotations

import base64
import re
import string

from blocksmtp.options import COMMANDS
from tests.fuzz.conversation import Conversation
from tests.fuzz.dialogue import Reading, check_log
from tests.fuzz.inputs import read_plan

_HELLO = b"EHLO client.example\r\n"

# Up to the initial response, or to the end; one line, whatever the mechanism is said to be.
_AUTH = re.compile(rb"AUTH [^ \n]*(?: |$(?!\n))", re.IGNORECASE)

# What a mechanism needs to see as it is.
_FIXED = re.compile(rb"(user=|auth=Bearer )", re.IGNORECASE)

# Each letter becomes another one, of the same case; a digit of CRAM-MD5's digest remains one.
_KINDS = ("abcdef", string.ascii_lowercase[6:], "ABCDEF", string.ascii_uppercase[6:])
_OTHERS = bytes.maketrans(
    "".join(_KINDS).encode(), "".join(kind[1:] + kind[0] for kind in _KINDS).encode()
)


def sasl_target(octets: bytes) -> None:
    """A plan, and the lines of the exchanges before base64."""
    plan = read_plan(octets)
    lines = plan.octets.split(b"\r\n")
    sent = [_sent(line) for line in lines]
    whole = _converse(plan.letters, sent, ())
    pieces = _converse(plan.letters, sent, plan.lengths or (5,))
    assert pieces[0] == whole[0], "it matters how it is cut"
    other = [_sent_with_others(line) for line in lines]
    if not any(_may_be_shown(line) for line in (*sent, *other)):
        assert _converse(plan.letters, other, ()) == whole, "the secrets show"


def _converse(
    letters: frozenset[str], lines: list[bytes], lengths: tuple[int, ...]
) -> tuple[list[bytes], list[str]]:
    """The replies, and the log of them, without what is never the same twice."""
    octets = _HELLO + b"".join(line + b"\r\n" for line in lines)
    conversation = Conversation(letters, octets, lengths, logged=not lengths)
    check_log(conversation)
    reading = Reading(conversation)
    reading.check()
    # Challenges are of random length, and the log is compared for what the client is in it.
    log = [line for line in conversation.log if "S: 334" not in line]
    return reading.outcome(), log


def _parts(line: bytes) -> tuple[bytes, bytes]:
    """What of a line is sent as it is, and what in base64."""
    if line.startswith(b"!"):
        return line[1:], b""
    command = _AUTH.match(line)
    start = command.end() if command else 0
    return line[:start], line[start:]


def _sent(line: bytes) -> bytes:
    plain, secret = _parts(line)
    return plain + base64.b64encode(secret)


def _sent_with_others(line: bytes) -> bytes:
    """As `_sent`, with other letters in the credentials."""
    plain, secret = _parts(line)
    parts = _FIXED.split(secret)
    parts[::2] = [part.translate(_OTHERS) for part in parts[::2]]
    return plain + base64.b64encode(b"".join(parts))


def _may_be_shown(line: bytes) -> bool:
    """Whether it looks like a command by chance: such a line is in the log where it is one."""
    return line.upper().decode("latin-1") in COMMANDS
