"""The decoder of DATA, against a reader that looks at one octet after the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksmtp.wire.dot_stuffing import DotDecoder
from tests.wire.scripted import dot_stuffed, split_at

POLICIES = ("normalize", "reject", "keep")
each_policy = pytest.mark.parametrize("policy", POLICIES)

END = b"\r\n.\r\n"
ALPHABET = (b"\r", b"\n", b".", b"a")

CR, LF, DOT = b"\r", b"\n", b"."


def reference(wire: bytes, policy: str) -> tuple[bytes, bool, bytes]:
    """The message in `wire`, whether it holds a bare CR or LF, and what follows it.

    Straight from the rules of INTERFACE, section 4, and RFC 5321, section 4.5.2.
    """
    # The message counts as preceded by a line end: that of the command.
    text = b"\r\n" + wire
    end = 0
    while text[end : end + 5] != END:
        end += 1
        assert end < len(text), wire
    sent, rest = wire[:end], wire[end + 3 :]

    message, bare = b"", False
    for at in range(len(sent)):
        octet, after = sent[at : at + 1], sent[at + 1 : at + 2]
        before = text[at : at + 2]
        if octet == DOT:
            after_crlf, after_bare_lf = before == b"\r\n", before != b"\r\n" and before[1:] == LF
            begins_line = after_crlf or (after_bare_lf and policy == "normalize")
            alone_before_bare_lf = after == LF
            if begins_line and not (alone_before_bare_lf and policy == "normalize"):
                continue
            message += octet
        elif octet == LF and before[1:] != CR:
            bare = True
            message += b"\r\n" if policy == "normalize" else LF
        else:
            bare = bare or (octet == CR and after != LF)
            message += octet
    return message, bare, rest


def decoded(pieces: Iterable[bytes], policy: str) -> tuple[bytes, bool, bytes]:
    """The same from the decoder; what comes after the call with the end mark is added to `rest`."""
    decoder = DotDecoder(policy)
    message, rest = b"", b""
    for piece in pieces:
        if decoder.ended:
            rest += piece
        else:
            message += decoder.feed(piece)
    assert decoder.ended
    return message, decoder.bare_newline, decoder.rest + rest


def strings(longest: int) -> Iterator[bytes]:
    """Every string over ALPHABET, up to this long."""
    for length in range(longest + 1):
        for octets in itertools.product(ALPHABET, repeat=length):
            yield b"".join(octets)


# --- the rules, one by one -----------------------------------------------------------------------

# What is sent before the end mark, and what the application gets under each policy; None: it is
# noticed, so that nobody gets it.
RULES = {
    "nothing": (b"", b"", b"", b""),
    "an empty line": (b"\r\n", b"\r\n", b"\r\n", b"\r\n"),
    "a dot that was doubled": (b"..\r\n", b".\r\n", b".\r\n", b".\r\n"),
    "two dots that were three": (b"...\r\n", b"..\r\n", b"..\r\n", b"..\r\n"),
    "a dot that was not doubled": (b".a\r\n", b"a\r\n", b"a\r\n", b"a\r\n"),
    "a dot in the second line": (b"a\r\n..b\r\n", b"a\r\n.b\r\n", b"a\r\n.b\r\n", b"a\r\n.b\r\n"),
    "a dot inside a line": (b"a.b\r\n", b"a.b\r\n", b"a.b\r\n", b"a.b\r\n"),
    "a bare LF": (b"a\nb\r\n", b"a\r\nb\r\n", None, b"a\nb\r\n"),
    "two bare LFs": (b"a\n\nb\r\n", b"a\r\n\r\nb\r\n", None, b"a\n\nb\r\n"),
    "a bare LF at the start": (b"\na\r\n", b"\r\na\r\n", None, b"\na\r\n"),
    "a bare CR": (b"a\rb\r\n", b"a\rb\r\n", None, b"a\rb\r\n"),
    "a bare CR before CRLF": (b"a\r\r\n", b"a\r\r\n", None, b"a\r\r\n"),
    "a bare CR at the start": (b"\ra\r\n", b"\ra\r\n", None, b"\ra\r\n"),
    "a bare LF after CRLF": (b"a\r\n\nb\r\n", b"a\r\n\r\nb\r\n", None, b"a\r\n\nb\r\n"),
    "a bare CR after CRLF": (b"a\r\n\rb\r\n", b"a\r\n\rb\r\n", None, b"a\r\n\rb\r\n"),
    "a dot after a bare LF": (b"a\n..b\r\n", b"a\r\n.b\r\n", None, b"a\n..b\r\n"),
    "a single dot after a bare LF": (b"a\n.b\r\n", b"a\r\nb\r\n", None, b"a\n.b\r\n"),
    "a dot after a bare CR": (b"a\r..b\r\n", b"a\r..b\r\n", None, b"a\r..b\r\n"),
    "a dot between bare LFs": (b"a\n.\nb\r\n", b"a\r\n.\r\nb\r\n", None, b"a\n.\nb\r\n"),
    "a dot from CRLF to bare LF": (b"a\r\n.\nb\r\n", b"a\r\n.\r\nb\r\n", None, b"a\r\n\nb\r\n"),
    "a dot from bare LF to CRLF": (b"a\n.\r\nb\r\n", b"a\r\n\r\nb\r\n", None, b"a\n.\r\nb\r\n"),
    "a dot from CRLF to bare CR": (b"a\r\n.\rb\r\n", b"a\r\n\rb\r\n", None, b"a\r\n\rb\r\n"),
    "a dot from bare LF to bare CR": (b"a\n.\rb\r\n", b"a\r\n\rb\r\n", None, b"a\n.\rb\r\n"),
    "two dots before a bare LF": (b"a\n..\nb\r\n", b"a\r\n.\r\nb\r\n", None, b"a\n..\nb\r\n"),
}


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str) -> None:
    sent, *expected = RULES[rule]
    wire = sent + b".\r\n"
    for policy, message in zip(POLICIES, expected, strict=True):
        got, bare, rest = decoded([wire], policy)
        assert bare == (RULES[rule][2] is None)
        assert rest == b""
        if message is not None:
            assert got == message, policy
            assert reference(wire, policy) == (message, bare, b""), "the reference is wrong"


# --- every short string --------------------------------------------------------------------------


@each_policy
def test_every_string_whole(policy: str) -> None:
    for octets in strings(7):
        wire = octets + END + b"RSET\r\n"
        assert decoded([wire], policy) == reference(wire, policy), wire


@pytest.mark.thorough
@each_policy
def test_every_string_at_every_split(policy: str) -> None:
    for octets in strings(7):
        wire = octets + END + b"R"
        expected = reference(wire, policy)
        for cut in range(1, len(wire)):
            assert decoded([wire[:cut], wire[cut:]], policy) == expected, (wire, cut)


@each_policy
def test_every_string_octet_by_octet(policy: str) -> None:
    for octets in strings(6):
        wire = octets + END
        pieces = [wire[at : at + 1] for at in range(len(wire))]
        assert decoded(pieces, policy) == reference(wire, policy), wire


@each_policy
def test_every_string_without_an_end_is_a_beginning(policy: str) -> None:
    # What is handed out early is never taken back, whatever comes after.
    for octets in strings(5):
        if END in b"\r\n" + octets:
            continue
        decoder = DotDecoder(policy)
        early = decoder.feed(octets)
        assert not decoder.ended
        for more in (b"", b"\n", b".\r\n", b".\n", b"a"):
            wire = octets + more + END
            assert reference(wire, policy)[0].startswith(early), (octets, more)


# --- longer ones ---------------------------------------------------------------------------------

_fragments = st.sampled_from(
    [
        *ALPHABET,
        b"\r\n",
        b"\r\n.",
        b"\r\n..",
        b"\n.",
        b"\r.",
        b".\n",
        b".\r",
        b"\0",
        b"\xff",
        b"word",
    ]
)
_texts = st.one_of(st.lists(_fragments, max_size=60).map(b"".join), st.binary(max_size=200))
_cuts = st.lists(st.integers(0, 300), max_size=12)


@each_policy
@given(text=_texts, rest=_texts, cuts=_cuts)
def test_random_text_in_random_pieces(
    policy: str, text: bytes, rest: bytes, cuts: list[int]
) -> None:
    wire = text + END + rest
    assert decoded(split_at(wire, cuts), policy) == reference(wire, policy)


@each_policy
@given(text=st.lists(_fragments, max_size=60).map(b"".join), cuts=_cuts)
def test_what_a_client_stuffs_arrives_as_it_was(policy: str, text: bytes, cuts: list[int]) -> None:
    lines = text.replace(b"\r", b"").split(b"\n")
    message = b"".join(line + b"\r\n" for line in lines)
    pieces = split_at(dot_stuffed(message), cuts)
    assert decoded(pieces, policy) == (message, False, b"")


# --- smuggling -----------------------------------------------------------------------------------

LINE_ENDS = {
    "CRLF": b"\r\n",
    "LF": b"\n",
    "CR": b"\r",
    "LF CR": b"\n\r",
    "CR CR LF": b"\r\r\n",
    "CRLF NUL": b"\r\n\0",
    "NUL CRLF": b"\0\r\n",
    "CR NUL LF": b"\r\0\n",
    "LF NUL": b"\n\0",
    "CR NUL": b"\r\0",
    "NUL": b"\0",
    "space CRLF": b" \r\n",
    "CRLF space": b"\r\n ",
    "NEL": b"\x85",
    "VT": b"\v",
    "FF": b"\f",
    "LINE SEPARATOR": "\u2028".encode(),
}


@each_policy
@pytest.mark.parametrize("before", LINE_ENDS)
def test_a_lone_dot_ends_a_message_only_between_crlfs(policy: str, before: str) -> None:
    smuggled = b"MAIL FROM:<smuggler@client.example>\r\n"
    for after, line_end in LINE_ENDS.items():
        fake_end = LINE_ENDS[before] + b"." + line_end
        is_end = LINE_ENDS[before].endswith(b"\r\n") and line_end.startswith(b"\r\n")
        without_crlf = fake_end.replace(b"\r\n", b"")
        wire = b"first" + fake_end + smuggled + END + b"QUIT\r\n"
        for cut in range(1, len(wire)):
            message, bare, rest = decoded([wire[:cut], wire[cut:]], policy)
            if is_end:
                assert rest.endswith(smuggled + END + b"QUIT\r\n")
            else:
                assert rest == b"QUIT\r\n", after
                assert smuggled in message
                assert bare == (b"\r" in without_crlf or b"\n" in without_crlf), after


# --- octets of every kind, and what is held back -------------------------------------------------


@each_policy
def test_every_octet_passes(policy: str) -> None:
    every = bytes(octet for octet in range(256) if octet not in b"\r\n") * 3 + b"\r\n"
    for size in (1, 2, 3, 7, 1000):
        pieces = [every[at : at + size] for at in range(0, len(every), size)]
        assert decoded([*pieces, b".\r\n"], policy) == (every, False, b"")


@each_policy
@pytest.mark.parametrize("pattern", [b"a", b".", b"\r", b"\n", b"\r\n", b"\r\n..", b"\n.", b"\0"])
def test_little_is_held_back(policy: str, pattern: bytes) -> None:
    decoder = DotDecoder(policy)
    sent = b"a" + pattern * 5_000
    got = b"".join(decoder.feed(sent[at : at + 1000]) for at in range(0, len(sent), 1000))
    last = decoder.feed(END)
    assert decoder.ended
    assert got + last == reference(sent + END, policy)[0]
    # What was held is no more than the beginning of an end mark.
    assert len(last) <= len(END) + 4


def test_rest_is_what_follows_in_the_same_call() -> None:
    decoder = DotDecoder("normalize")
    decoder.feed(b"a\r\n.\r")
    assert not decoder.ended
    assert decoder.feed(b"\n.\r\n\r\n.\r\nNOOP\r\n") == b"\r\n"
    assert decoder.ended
    assert decoder.rest == b".\r\n\r\n.\r\nNOOP\r\n"
