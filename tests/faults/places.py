"""Where in a dialogue to put a fault: lists of numbers of octets that pass before it."""

from __future__ import annotations

import itertools

from .dialogue import LONG

_HANDSHAKE = b"\x16\x03"  # how a TLS record with a part of the handshake begins: RFC 8446, 5.1
CIPHERTEXT = b"\x17\x03\x03"
"""How one begins whose octets are all protected (in TLS 1.3)."""

_SAMPLES = 25
_DULL = 200
"""In the midst of a record of more ciphertext than this one octet is like the other."""


def records(octets: bytes) -> list[int]:
    """Where TLS records begin and end in what one side sent, maybe after words in clear."""
    begin = octets.find(_HANDSHAKE)
    borders = []
    while 0 <= begin < len(octets):
        borders.append(begin)
        begin += 5 + int.from_bytes(octets[begin + 3 : begin + 5], "big")
    assert begin in (-1, len(octets)), "the dialogue ended in the midst of a record"
    return [*borders, len(octets)]


def end_of_speech(octets: bytes) -> int:
    """Where the last words end; TLS's own good-bye, of which nobody need take notice, follows."""
    return records(octets)[-2 if _HANDSHAKE in octets else -1]


def typical(octets: bytes) -> list[int]:
    """In clear nearly everywhere, in TLS around the borders of records, and some more."""
    if _HANDSHAKE not in octets:
        before, line, _ = octets.partition(LONG)
        # In the midst of a long line one place is like the other.
        alike = range(len(before) + 1, len(before) + len(line))
        return [place for place in range(len(octets) + 1) if place not in alike or place % 100 == 0]
    near = {border + step for border in records(octets) for step in (-1, 0, 1)}
    everywhere = range(len(octets) + 1)
    return sorted({*near, *everywhere[:: max(1, len(octets) // _SAMPLES)]} & {*everywhere})


def thoroughly(octets: bytes) -> list[int]:
    """In TLS, nearly everywhere."""
    borders = records(octets)
    dull = [
        range(begin + 32, end - 32)
        for begin, end in itertools.pairwise(borders)
        if end - begin > _DULL and octets[begin] != _HANDSHAKE[0]
    ]
    return [
        place
        for place in range(len(octets) + 1)
        if place % 50 == 0 or not any(place in midst for midst in dull)
    ]


def of_the_upgrade(octets: bytes) -> range:
    """From STARTTLS to the end of the handshake, and a little more: every third octet."""
    begin = octets.find(_HANDSHAKE)
    return range(begin - 12, records(octets)[6], 3)
