"""What the targets make of octets: a first line that says how, and what the client writes.

    LK:1<LF>EHLO client<CR><LF>...

The letters before the colon choose among options and callbacks, each target's own; those it does
not know are passed over. What stands after the colon says how the client's octets are cut: a digit
is a piece of so many octets (0 stands for 10), any other octet one of as many as its value, over
and over again. Where nothing stands there they are not cut at all.

Every input means something, so that a mutation is never wasted, and most can be read.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

# More than one read of the server's takes in; a client's write may be that long.
_LONGEST_PIECE = 8192


class Plan(NamedTuple):
    """The two halves of an input."""

    letters: frozenset[str]
    lengths: tuple[int, ...]
    """Of the pieces, over and over again; empty: as large as they may be."""
    octets: bytes

    def pieces(self) -> list[bytes]:
        """The octets, cut as the plan says."""
        return cut(self.octets, self.lengths)


def read_plan(octets: bytes) -> Plan:
    """The plan that `octets` are: every string is one."""
    line, _, rest = octets.partition(b"\n")
    letters, _, lengths = line.partition(b":")
    return Plan(
        frozenset(letters.decode("latin-1").strip()),
        tuple(_length(octet) for octet in lengths.removesuffix(b"\r")),
        rest,
    )


def _length(octet: int) -> int:
    digit = octet - ord("0")
    return (digit or 10) if 0 <= digit <= 9 else max(octet, 1)


def cut(octets: bytes, lengths: tuple[int, ...] = ()) -> list[bytes]:
    """`octets` in pieces of these lengths, over and over again; no piece is empty."""
    pieces: list[bytes] = []
    start = 0
    for length in itertools.cycle(lengths or (_LONGEST_PIECE,)):
        if start >= len(octets):
            return pieces
        pieces.append(octets[start : start + length])
        start += length
    return pieces
