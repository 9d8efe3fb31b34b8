"""Replies: code, enhanced code and text, and how they stand on the wire.

RFC 5321, section 4.2 (replies), RFC 2034 and RFC 3463 (enhanced codes), RFC 6531, section 3.7.4
(text that is not ASCII).
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import SMTPError
from ..text import one_line

# A reply line with its CRLF (RFC 5321, section 4.5.3.1.5).
LONGEST_LINE = 512
# Ours, in characters: who has more to say than any client reads means something else.
LONGEST_TEXT = 65_536
# No line of a text that is no longer needs to be broken.
_SHORT = LONGEST_LINE - len("250 5.123.123 \r\n")
# A line of an AUTH exchange, either way, which cannot be continued (RFC 4954, section 4).
LONGEST_SASL_LINE = 12288


class Next(enum.Enum):
    """What comes after a reply."""

    COMMAND = enum.auto()
    """The client's next command or SASL response."""
    BODY = enum.auto()
    """The message, up to its end mark; or a chunk of it, where the reply has one."""
    DISCARD = enum.auto()
    """First, even before this reply: the octets of a chunk, which nobody wants."""
    ABORT = enum.auto()
    """Not a reply at all: the message being received is given up. See `Machine.resume`."""
    TLS = enum.auto()
    """The TLS handshake."""
    CLOSE = enum.auto()
    """Nothing: the connection ends."""


class Chunk(NamedTuple):
    """The octets that follow a BDAT command (RFC 3030, section 2)."""

    size: int
    """How many they are."""
    last: bool
    """Whether the message ends with them."""


@dataclass(frozen=True)
class Reply:
    """A reply to one command.

    `lines` is the text, one element a line. `enhanced` is the status code of RFC 3463, None where
    RFC 2034 wants none (greetings, EHLO, 3yz). `bad` tells that the command was unknown, malformed
    or out of order, so that it counts against the client. `utf8` lets text go out in UTF-8.
    `chunk` is what follows a BDAT command. What is `secret` is for no log.
    """

    code: int
    lines: tuple[str, ...]
    enhanced: str | None = None
    then: Next = Next.COMMAND
    bad: bool = False
    utf8: bool = False
    chunk: Chunk | None = None
    secret: bool = False

    def encode(self, *, enhanced: bool = True) -> bytes:
        """The reply as octets, with its status code if `enhanced`.

        No text can break a line: control characters become spaces, and what is too long for one
        line goes on in the next, up to LONGEST_TEXT. Without `utf8` what is not ASCII becomes "?".
        """
        return self._with_status if enhanced else self._without_status

    # Most replies are the same few objects all the time, and made octets of only once.

    @functools.cached_property
    def _with_status(self) -> bytes:
        return self._encode(f"{self.enhanced} " if self.enhanced else "")

    @functools.cached_property
    def _without_status(self) -> bytes:
        return self._encode("")

    def in_utf8(self) -> Reply:
        """The same reply, but its text may go out in UTF-8."""
        return dataclasses.replace(self, utf8=True)

    def _encode(self, status: str) -> bytes:
        text = "".join(self.lines)
        if text.isascii() and text.isprintable() and len(text) <= _SHORT:
            *others, last = self.lines
            continued = "".join([f"{self.code}-{status}{line}\r\n" for line in others])
            return f"{continued}{self.code} {status}{last}\r\n".encode("ascii")
        charset = "utf-8" if self.utf8 else "ascii"
        longest = LONGEST_SASL_LINE if self.code == 334 else LONGEST_LINE
        room = longest - len(f"{self.code} {status}\r\n")
        texts = [
            piece
            for line in self.lines
            for piece in _pieces(one_line(line[:LONGEST_TEXT]).encode(charset, "replace"), room)
        ]
        prefixes = [f"{self.code}-{status}".encode()] * (len(texts) - 1)
        prefixes.append(f"{self.code} {status}".encode())
        return b"".join(
            prefix + text + b"\r\n" for prefix, text in zip(prefixes, texts, strict=True)
        )


def _pieces(text: bytes, room: int) -> list[bytes]:
    """`text` in pieces of at most `room` octets, broken at spaces, never inside a character."""
    if len(text) <= room:
        return [text]
    pieces = []
    start = 0
    while len(text) - start > room:
        end = text.rfind(b" ", start + 1, start + room + 1)
        if end < 0:
            end = start + room
            while text[end] & 0xC0 == 0x80:
                end -= 1
        pieces.append(text[start:end])
        start = end + text.startswith(b" ", end)
    return [*pieces, text[start:]]


# The status code that goes with a reply code where nothing better is known.
_USUAL_STATUS = {
    214: "2.0.0",
    220: "2.0.0",
    221: "2.0.0",
    235: "2.7.0",
    250: "2.0.0",
    252: "2.5.0",
    421: "4.3.2",
    450: "4.2.0",
    451: "4.3.0",
    452: "4.5.3",
    454: "4.7.0",
    500: "5.5.2",
    501: "5.5.4",
    502: "5.5.1",
    503: "5.5.1",
    504: "5.5.4",
    521: "5.3.2",
    530: "5.7.0",
    534: "5.7.9",
    535: "5.7.8",
    538: "5.7.11",
    550: "5.7.1",
    551: "5.1.6",
    552: "5.3.4",
    553: "5.1.3",
    554: "5.7.1",
    555: "5.5.4",
    556: "5.1.10",
}


def usual_status(code: int) -> str:
    """The status code for a reply `code` about which nothing more is known (RFC 3463)."""
    return _USUAL_STATUS.get(code, f"{code // 100}.0.0")


def reply(code: int, text: str, enhanced: str | None = None) -> Reply:
    """A reply after which the next command is read; after 421 the connection closes."""
    then = Next.CLOSE if code == 421 else Next.COMMAND
    return Reply(code, (text,), enhanced or usual_status(code), then)


def bad(code: int, text: str, enhanced: str | None = None) -> Reply:
    """The refusal of an unknown, malformed or out-of-order command."""
    return Reply(code, (text,), enhanced or usual_status(code), bad=True)


def closing(text: str, enhanced: str) -> Reply:
    """421: the connection ends (RFC 5321, section 3.8)."""
    return Reply(421, (text,), enhanced, Next.CLOSE)


def refusal(error: SMTPError, default_code: int, default_enhanced: str | None = None) -> Reply:
    """The reply that a callback asked for by raising `error`.

    Without a code of its own the error takes `default_code`, unless its enhanced code tells that
    the failure is a temporary one.
    """
    code = error.response_code
    enhanced = error.enhanced_code
    if code is None:
        code = default_code
        if enhanced is not None and enhanced[0] != str(code)[0]:
            code = 451 if enhanced[0] == "4" else 550
    if enhanced is None and code == default_code:
        enhanced = default_enhanced
    return reply(code, error.message, enhanced)


DEFECT = reply(451, "Error: internal server error, try again later", "4.3.0")
"""The answer where the application failed: nothing of the failure is shown."""
