"""Mutations of seeds, by a given source of chance: of Hypothesis, or of the long run's seed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

# What the grammar, the end of a message and the decoders hang on; also a dictionary for libFuzzer.
FRAGMENTS = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b".",
        b"\r\n.\r\n",
        b"\n.\n",
        b"\r\n.\n",
        b"\r\n..",
        b"\0",
        b" ",
        b"\t",
    ),
    *(b"\x85", b"\xff", b"\xc3\xa9", b"\xe2\x80\xa8", b"\xef\xbc\x8e", b"\xed\xa0\x80", b"\x1b[2J"),
    *(b"<", b">", b"@", b'"', b"\\", b":", b"=", b"+0A", b"+2B", b"[IPv6:", b"]", b"%", b"*"),
    *(b"<handshake>\r\n", b"EHLO c\r\n", b"LHLO c\r\n", b"STARTTLS\r\n", b"QUIT\r\n", b"RSET\r\n"),
    *(b"MAIL FROM:<a@x>\r\n", b"RCPT TO:<b@x>\r\n", b"RCPT TO:<nobody@x>\r\n", b"DATA\r\n"),
    *(b" SMTPUTF8", b" SIZE=99", b" BODY=8BITMIME", b" NOTIFY=NEVER", b" ORCPT=utf-8;"),
    *(b"BDAT 6 LAST\r\n", b"BDAT 6\r\nQUIT\r\n", b"BDAT 0 LAST\r\n", b"BDAT 3", b" LAST"),
    *(
        b" BODY=BINARYMIME",
        b"AUTH SCRAM-SHA-256 ",
        b"biwsbj1hbGljZSxyPWFiYw==",
        b"AUTH OAUTHBEARER ",
    ),
    *(
        b"AUTH PLAIN ",
        b"AUTH LOGIN\r\n",
        b"AUTH CRAM-MD5\r\n",
        b"AUTH XOAUTH2 ",
        b"AGEAYg==",
        b"\x01",
    ),
    *(
        b"XCLIENT ADDR=192.0.2.9\r\n",
        b"XFORWARD NAME=x\r\n",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"PROXY TCP6 ",
    ),
)

_LONG = (64, 255, 512, 4096)


def mutated(chance: Random, pool: Sequence[bytes], longest: int) -> bytes:
    """One of the pool, changed in a few places."""
    octets = chance.choice(pool)
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        octets = chance.choice(_MUTATIONS)(chance, octets, pool)
    return octets[:longest]


def _place(chance: Random, octets: bytes) -> int:
    return chance.randint(0, len(octets))


def _insert(chance: Random, octets: bytes, _pool: Sequence[bytes]) -> bytes:
    place = _place(chance, octets)
    return octets[:place] + chance.choice(FRAGMENTS) + octets[place:]


def _insert_a_run(chance: Random, octets: bytes, _pool: Sequence[bytes]) -> bytes:
    place = _place(chance, octets)
    run = chance.choice(FRAGMENTS)
    times = chance.choice(_LONG) // len(run) + 1
    return octets[:place] + run * times + octets[place:]


def _delete(chance: Random, octets: bytes, _pool: Sequence[bytes]) -> bytes:
    place = _place(chance, octets)
    return octets[:place] + octets[place + chance.choice((1, 2, 5, 20)) :]


def _replace(chance: Random, octets: bytes, _pool: Sequence[bytes]) -> bytes:
    place = _place(chance, octets)
    return octets[:place] + bytes([chance.randint(0, 255)]) + octets[place + 1 :]


def _splice(chance: Random, octets: bytes, pool: Sequence[bytes]) -> bytes:
    other = chance.choice(pool)
    return octets[: _place(chance, octets)] + other[_place(chance, other) :]


def _repeat(chance: Random, octets: bytes, _pool: Sequence[bytes]) -> bytes:
    start, end = sorted((_place(chance, octets), _place(chance, octets)))
    return octets[:end] + octets[start:]


def _plan_otherwise(chance: Random, octets: bytes, _pool: Sequence[bytes]) -> bytes:
    """Another option, callback or cut, where the first line is a plan."""
    return chance.choice(_LETTERS).encode() + octets


_LETTERS = "LAIURKZXNBVMTFHYDSabczpsklniefqgwot"

_MUTATIONS = (
    *(_insert, _insert, _insert_a_run, _delete, _replace, _splice, _splice, _repeat),
    _plan_otherwise,
)
