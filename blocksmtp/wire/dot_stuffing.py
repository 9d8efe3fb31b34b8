r"""The transparency of DATA (RFC 5321, section 4.5.2) and its end mark, in bulk.

Only <CRLF>.<CRLF> ends a message. A client that is taken in by another mark, together with a server
that is not, is how one message is smuggled inside another; so what to do with a bare CR or LF is a
policy:

    normalize   a bare LF becomes CRLF; a dot that begins a line, also after a bare LF, is removed
                unless it stands alone before a bare LF; a bare CR is text
    reject      a bare CR or LF is noticed (`bare_newline`), and the message refused by the caller
    keep        both are kept, and so is a dot after a bare LF

The decoder takes octets as they come and never looks at single lines. The message counts as
preceded by CRLF, so that a dot at its very start needs no case of its own.
"""

from __future__ import annotations

import io
import re

# Patterns, since `bytes.find` takes longer for what begins like every line end.
_END = re.compile(rb"\r\n\.\r\n")
_DOT_AFTER_CRLF = re.compile(rb"\r\n\.")
_PARTS_OF_END = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")

# The dot that begins a line, after either kind of line end, unless it is alone before a bare LF.
_DOT_AT_LINE_START = re.compile(rb"\n\.(?!\n)")


class DotDecoder:
    """Turns the octets of DATA into those of the message."""

    def __init__(self, policy: str) -> None:
        """`policy` is a value of the option `bare_newline`."""
        self._normalize = policy == "normalize"
        # What only the octets to come can decide: it may be the beginning of the end mark.
        self._held = b"\r\n"
        self._virtual = True
        # Tells which kinds of line ends it saw, across calls, at several GB a second. It notices a
        # CR at the end of a call only with the next, but no message ends in one.
        self._line_ends = io.IncrementalNewlineDecoder(None, translate=False)
        self.ended = False
        """Whether the end mark has come."""
        self.rest = b""
        """What came after the end mark, in the same call."""

    @property
    def bare_newline(self) -> bool:
        """Whether a bare CR or LF has been seen."""
        return self._line_ends.newlines not in (None, "\r\n")

    def feed(self, octets: bytes) -> bytes:
        """The octets of the message that are settled by these; not after the end."""
        if self._held:
            octets = self._held + octets
        # One pass over what has no dot where it would mean something.
        dot = _DOT_AFTER_CRLF.search(octets) if octets.find(b".") >= 0 else None
        end = _END.search(octets, dot.start()) if dot is not None else None
        if end is not None:
            self.ended = True
            self.rest = octets[end.end() :]
            self._held = b""
            piece = octets[: end.start() + 2]
        else:
            cut = len(octets) - self._undecided(octets)
            piece, self._held = octets[:cut], octets[cut:]
        if not piece:
            return b""
        self._line_ends.decode(piece.decode("latin-1"))
        # An LF that is held is a bare one, and a dot just before it may stand alone.
        held_lf = self._held[:1] == b"\n"
        if self._normalize and (held_lf or self.bare_newline):
            piece = _normalized(piece + b"\n")[:-2] if held_lf else _normalized(piece)
        elif dot is not None and dot.end() <= len(piece):
            # Not by the pattern: that would make an object of each line, a stranger's to number.
            piece = piece.replace(b"\r\n.", b"\r\n")
        if self._virtual:
            self._virtual = False
            return piece[2:]
        return piece

    def _undecided(self, octets: bytes) -> int:
        """How many octets at the end must wait for more."""
        for part in _PARTS_OF_END:
            if octets.endswith(part):
                return len(part)
        if self._normalize:
            # Whether a dot after a bare LF stands alone; "\n.\r" is settled, but holds a CR back.
            if octets.endswith(b"\n."):
                return 2
            if octets.endswith(b"\n"):
                return 1
        return 0


def _normalized(piece: bytes) -> bytes:
    # The dots first: afterwards a bare LF looks like any other line end.
    piece = _DOT_AT_LINE_START.sub(b"\n", piece)
    return piece.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
