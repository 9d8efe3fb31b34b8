"""Paths, parameters, xtext and host names as text: what is taken, what is refused, and how."""

from __future__ import annotations

import importlib
import re
import sys
import unicodedata
from typing import Any

import idna
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from blocksmtp.addresses import is_hostname
from blocksmtp.protocol import grammar
from blocksmtp.protocol.grammar import (
    GrammarError,
    decode_hexchars,
    decode_xtext,
    parse_helo_name,
    parse_path,
)

BAD_SENDER = (501, "5.1.7")
BAD_RECIPIENT = (501, "5.1.3")
BAD_SYNTAX = (501, "5.5.2")
BAD_PARAMETER = (501, "5.5.4")

either_mode = pytest.mark.parametrize("lenient", [False, True], ids=["strict", "lenient"])


def address_of(path: str, *, keyword: str = "FROM", lenient: bool = False) -> str:
    """The address that `path`, given with its brackets, is normalised to."""
    return parse_path(f"{keyword}:{path}", keyword, lenient=lenient).address


def refusal(argument: str, keyword: str = "FROM", *, lenient: bool = False) -> tuple[int, str]:
    """The reply code and enhanced code that `argument` is refused with."""
    with pytest.raises(GrammarError) as caught:
        parse_path(argument, keyword, lenient=lenient)
    return caught.value.code, caught.value.enhanced


# --- errors ------------------------------------------------------------------------------------


def test_an_error_tells_message_and_codes() -> None:
    plain = GrammarError("Error: Odd")
    assert (plain.message, plain.code, plain.enhanced, str(plain)) == (
        "Error: Odd",
        501,
        "5.5.4",
        "Error: Odd",
    )
    special = GrammarError("Error: Odd", 553, "5.6.7")
    assert (special.code, special.enhanced) == (553, "5.6.7")


@pytest.mark.parametrize(
    "argument",
    [
        "secret",
        "secret:<a@b>",
        "FROM:<secret>",
        "FROM:secret",
        "FROM:<secret@->",
        "FROM:<secret@é_>",
        "FROM:<a@[secret]>",
        f"FROM:<{'secret' * 11}@b>",
        f"FROM:<a@secret{'.secret' * 40}>",
        f"FROM:<a@{'secret' * 11}>",
        f"FROM:<{'s' * 60}@secret{'.secret' * 30}>",
        "FROM:<a@b>secret",
        "FROM:<a@b> secret=",
        "FROM:<a@b> secret secret",
    ],
)
def test_a_message_never_shows_what_the_client_sent(argument: str) -> None:
    with pytest.raises(GrammarError) as caught:
        parse_path(argument, "FROM")
    assert "secret" not in caught.value.message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# --- the keyword -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "keyword"),
    [
        ("FROM:<a@b>", "FROM"),
        ("from:<a@b>", "FROM"),
        ("From: <a@b>", "FROM"),
        ("FROM:   <a@b>", "FROM"),
        ("TO:<a@b>", "TO"),
        ("to: <a@b>", "TO"),
    ],
)
@either_mode
def test_the_keyword_in_any_case_and_spaces_after_it(
    argument: str, keyword: str, lenient: bool
) -> None:
    assert parse_path(argument, keyword, lenient=lenient).address == "a@b"


@pytest.mark.parametrize(
    ("argument", "keyword"),
    [
        ("", "FROM"),
        ("FROM", "FROM"),
        ("FROM <a@b>", "FROM"),
        ("FROM :<a@b>", "FROM"),
        (" FROM:<a@b>", "FROM"),
        ("<a@b>", "FROM"),
        (":<a@b>", "FROM"),
        ("TO:<a@b>", "FROM"),
        ("FROM:<a@b>", "TO"),
        ("FROMM:<a@b>", "FROM"),
    ],
)
@either_mode
def test_a_missing_keyword_is_a_syntax_error(argument: str, keyword: str, lenient: bool) -> None:
    assert refusal(argument, keyword, lenient=lenient) == BAD_SYNTAX


# --- addresses: taken --------------------------------------------------------------------------

TAKEN = [
    # Atoms and dots; case is kept on both sides.
    ("a@b", "a@b"),
    ("John.Doe+Tag@Mail.Example.ORG", "John.Doe+Tag@Mail.Example.ORG"),
    ("!#$%&'*+-/=?^_`{|}~@example.org", "!#$%&'*+-/=?^_`{|}~@example.org"),
    ("-@example.org", "-@example.org"),
    ("1@2", "1@2"),
    ("a@x--y.z-1", "a@x--y.z-1"),
    # Quotes: gone where not needed, as few as possible where they are.
    ('"john"@x', "john@x"),
    ('"john.doe"@x', "john.doe@x"),
    (r'"a\b"@x', "ab@x"),
    (r'"\j\o\h\n"@x', "john@x"),
    ('"é"@x', "é@x"),
    ('""@x', '""@x'),
    ('"john doe"@x', '"john doe"@x'),
    (r'"john\ doe"@x', '"john doe"@x'),
    ('".john"@x', '".john"@x'),
    ('"john."@x', '"john."@x'),
    ('"a..b"@x', '"a..b"@x'),
    ('"a@b"@x', '"a@b"@x'),
    ('"a>b"@x', '"a>b"@x'),
    ('"<>"@x', '"<>"@x'),
    (r'"a\"b"@x', r'"a\"b"@x'),
    (r'"a\\b"@x', r'"a\\b"@x'),
    (r'"\a\"\\\ "@x', r'"a\"\\ "@x'),
    ('"[a"@x', '"[a"@x'),
    # Not ASCII: local parts stay, labels of the domain become A-labels, and only those.
    ("jürgen@example.org", "jürgen@example.org"),
    ("用户@例子.公司", "用户@xn--fsqu00a.xn--55qx5d"),
    ("a@bücher.Example.ORG", "a@xn--bcher-kva.Example.ORG"),
    ("a@BÜCHER.example", "a@xn--bcher-kva.example"),
    ("a@straße.example", "a@xn--strae-oqa.example"),
    ("a@bu\u0308cher.example", "a@xn--bcher-kva.example"),
    ("a@\uff45\uff58.org", "a@ex.org"),
    ("a@XN--Bcher-KVA.example", "a@XN--Bcher-KVA.example"),
    # Address literals.
    ("a@[192.0.2.1]", "a@[192.0.2.1]"),
    ("a@[IPv6:2001:DB8:0:0::1]", "a@[IPv6:2001:db8::1]"),
    ("a@[ipv6:2001:db8:0:0:0:0:0:1]", "a@[IPv6:2001:db8::1]"),
    ("a@[IPv6:0:0:0:0:0:0:0:1]", "a@[IPv6:::1]"),
    ("a@[IPv6:2001:db8::192.0.2.1]", "a@[IPv6:2001:db8::c000:201]"),
    ("a@[IPv6:0:0:0:0:0:FFFF:192.0.2.1]", "a@[IPv6:::ffff:192.0.2.1]"),
    ("a@[IPv6:::ffff:c000:201]", "a@[IPv6:::ffff:192.0.2.1]"),
    ("a@[2001:Content]", "a@[2001:Content]"),
    ("a@[Tag-1:Some,content]", "a@[Tag-1:Some,content]"),
    ("a@[--x:a@b>\"<]", "a@[--x:a@b>\"<]"),
    ('"["@[IPv6:::1]', '"["@[IPv6:::1]'),
    # Source routes.
    ("@a:user@c", "user@c"),
    ("@a,@b.example:user@c", "user@c"),
    ('@a,@bücher.example:"u"@c', "u@c"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "address"), TAKEN)
@pytest.mark.parametrize("keyword", ["FROM", "TO"])
@either_mode
def test_an_address_is_normalised(path: str, address: str, keyword: str, lenient: bool) -> None:
    parsed = parse_path(f"{keyword}:<{path}>", keyword, lenient=lenient)
    assert (parsed.address, parsed.raw, parsed.parameters) == (address, path, [])
    assert parsed.internationalised == (not path.isascii())


@either_mode
def test_the_null_sender(lenient: bool) -> None:
    parsed = parse_path("FROM:<> SIZE=1", "FROM", lenient=lenient)
    assert (parsed.address, parsed.raw, parsed.parameters) == ("", "", [("SIZE", "1")])
    assert not parsed.internationalised
    assert refusal("TO:<>", "TO", lenient=lenient) == BAD_RECIPIENT


@pytest.mark.parametrize("name", ["postmaster", "Postmaster", "POSTMASTER"])
@either_mode
def test_postmaster_needs_no_domain_as_a_recipient(name: str, lenient: bool) -> None:
    parsed = parse_path(f"TO:<{name}> X", "TO", lenient=lenient)
    assert (parsed.address, parsed.raw, parsed.parameters) == (name, name, [("X", None)])
    assert refusal(f"FROM:<{name}>", lenient=lenient) == BAD_SENDER
    assert refusal(f"TO:<{name}s>", "TO", lenient=lenient) == BAD_RECIPIENT


# --- addresses: refused ------------------------------------------------------------------------

REFUSED = [
    # No path, or one that does not end.
    "",
    " ",
    "<",
    ">",
    "<a@b",
    "a@b>",
    "<<a@b>>",
    "< a@b>",
    "<a@b >",
    "< >",
    '<"a@b>',
    '<"a\\">@b>',
    "<a@[x:y>",
    # Not both sides of one "@".
    "<a>",
    "<a@>",
    "<@b>",
    "<@>",
    "<a@b@c>",
    "<a@b,c@d>",
    # Local parts.
    "<a b@c>",
    "<a\tb@c>",
    "<(a)@b>",
    "<a\\b@c>",
    "<a,b@c>",
    '<"a"b@c>',
    '<"a".b@c>',
    '<a"b"@c>',
    '<"a\\é"@c>',
    "<a[x]@b>",
    # Domains.
    "<a@.>",
    "<a@-b>",
    "<a@b->",
    "<a@b.-.c>",
    "<a@b_c>",
    "<a@b c>",
    '<a@"b">',
    "<a@é->",
    "<a@é_b>",
    "<a@ab--é>",
    "<a@\u0301a>",
    "<a@\u00ad>",
    "<a@a\u3002b>",
    "<a@é\u3002b>",
    "<a@é\uff0e>",
    "<a@\u2488a>",
    "<a@\u2100>",
    "<a@xn--\u00ad>",
    f"<a@{'é' * 60}>",
    f"<a@{'é' * 64}>",
    f"<a@{'a' * 64}>",
    f"<a@{'a.' * 127}é>",
    # Literals.
    "<a@[]>",
    "<a@[192.0.2.1>",
    "<a@[192.0.2.1].org>",
    "<a@[192.0.2.256]>",
    "<a@[192.0.2]>",
    "<a@[192.0.2.01]>",
    "<a@[192.0.2.1.5]>",
    "<a@[2001:db8::1]>",
    "<a@[IPv6:]>",
    "<a@[IPv6:192.0.2.1]>",
    "<a@[IPv6:2001:db8::g]>",
    "<a@[IPv6:1::2::3]>",
    "<a@[IPv6:fe80::1%eth0]>",
    "<a@[IPv6:::1/64]>",
    "<a@[x]>",
    "<a@[x:]>",
    "<a@[x-:y]>",
    "<a@[:y]>",
    "<a@[x:a b]>",
    "<a@[x:é]>",
    "<a@[x:a\\b]>",
    "<a@\u0661.[1.2.3.4]>",
    "<a@[\u0661.2.3.4]>",
    # Source routes.
    "<@a:>",
    "<@a,b:c@d>",
    "<@a,:c@d>",
    "<@:c@d>",
    "<@a-:c@d>",
    "<@a,@b>",
    "<@[1.2.3.4]:c@d>",
    "<@a:postmaster>",
    "<@a:@b:c@d>",
]


@pytest.mark.parametrize("path", REFUSED)
@either_mode
def test_a_malformed_address_is_refused(path: str, lenient: bool) -> None:
    assert refusal(f"FROM:{path}", "FROM", lenient=lenient)[0] == 501
    if path not in ("a@b>",):  # leniently that is an address, and a bracket too many
        assert refusal(f"FROM:{path}", "FROM", lenient=lenient) == BAD_SENDER
        assert refusal(f"TO:{path}", "TO", lenient=lenient) == BAD_RECIPIENT


INVISIBLE = [
    *(chr(code) for code in (0, 1, 9, 10, 13, 27, 31, 127, 128, 133, 159)),
    *("\u200b", "\u2028", "\u2029", "\u2060", "\ufeff", "\ud800", "\udfff"),
]


@pytest.mark.parametrize("char", INVISIBLE, ids=ascii)
@pytest.mark.parametrize(
    "shape",
    [
        "<a{}b@c>",
        "<{}a@c>",
        '<"a{}b"@c>',
        '<"a\\{}b"@c>',
        "<a@b{}c>",
        "<a@bé{}c>",
        "<a@c{}>",
        "<a@[x:{}y]>",
        "<a@[1.2.3.4{}]>",
        "<@a{}:b@c>",
        "<{}>",
        "{}<a@b>",
    ],
)
@either_mode
def test_control_and_invisible_characters_never(char: str, shape: str, lenient: bool) -> None:
    assert refusal("FROM:" + shape.format(char), lenient=lenient) == BAD_SENDER


@pytest.mark.parametrize("char", INVISIBLE, ids=ascii)
@pytest.mark.parametrize("shape", ["<a@b> X=a{}b", "<a@b> {}X", "<a@b> X{}", "<a@b>{}"])
@either_mode
def test_nor_in_parameters(char: str, shape: str, lenient: bool) -> None:
    assert refusal("FROM:" + shape.format(char), lenient=lenient) == BAD_PARAMETER


@pytest.mark.parametrize("char", ["\u00a0", "\u200a", "\u200c", "\u2027", "\u205f", "\u2061"])
def test_their_neighbours_are_taken(char: str) -> None:
    path = parse_path(f"FROM:<a{char}@b> X={char}", "FROM")
    assert (path.address, path.parameters) == (f"a{char}@b", [("X", char)])


# --- limits ------------------------------------------------------------------------------------

LABELS = ".".join(["d" * 63] * 3)
"""191 octets of domain."""


@pytest.mark.parametrize(
    ("local_part", "strictly", "leniently"),
    [
        ("a" * 64, True, True),
        ("a" * 65, False, True),
        ("é" * 32, True, True),
        ("é" * 32 + "a", False, True),
        (f'"{"a" * 64}"', True, True),  # what counts is what is left of it: no quotes
        (f'"{"a" * 61} "', True, True),
        (f'"{"a" * 62} "', False, True),
        ("\\".join(['"', *"a" * 64]) + '"', True, True),
    ],
)
def test_the_limit_of_a_local_part(local_part: str, strictly: bool, leniently: bool) -> None:
    for lenient, taken in ((False, strictly), (True, leniently)):
        if taken:
            assert address_of(f"<{local_part}@b>", lenient=lenient).endswith("@b")
        else:
            assert refusal(f"FROM:<{local_part}@b>", lenient=lenient) == BAD_SENDER


@either_mode
def test_the_limit_of_an_address(lenient: bool) -> None:
    longest = f"{'a' * 62}@{LABELS}"
    assert len(longest) == 254
    assert address_of(f"<{longest}>", lenient=lenient) == longest
    assert refusal(f"FROM:<a{longest}>", lenient=lenient) == BAD_SENDER
    assert refusal(f"TO:<a{longest}>", "TO", lenient=lenient) == BAD_RECIPIENT
    # Octets, not characters; and without the source route.
    assert refusal(f"FROM:<é{longest[1:]}>", lenient=lenient) == BAD_SENDER
    assert address_of(f"<@a:{longest}>", lenient=lenient) == longest


def test_a_lenient_local_part_has_the_room_that_the_address_leaves() -> None:
    assert len(address_of(f"<{'a' * 252}@b>", lenient=True)) == 254
    assert refusal(f"FROM:<{'a' * 253}@b>", lenient=True) == BAD_SENDER
    assert refusal(f"FROM:{'a' * 253}@b", lenient=True) == BAD_SENDER


@either_mode
def test_the_limits_of_a_domain(lenient: bool) -> None:
    assert address_of(f"<a@{'b' * 63}>", lenient=lenient) == f"a@{'b' * 63}"
    assert refusal(f"FROM:<a@{'b' * 64}>", lenient=lenient) == BAD_SENDER
    with pytest.raises(GrammarError, match="Address over 254"):
        address_of(f"<a@{'b.' * 127}b>", lenient=lenient)
    with pytest.raises(GrammarError, match="Domain over 255"):
        address_of(f"<a@{'b.' * 127}bb>", lenient=lenient)
    # An A-label counts as it will be looked up.
    assert refusal(f"FROM:<a@{'ü' * 63}>", lenient=lenient) == BAD_SENDER
    assert refusal(f"FROM:<a@{'ü.' * 40}b>", lenient=lenient) == BAD_SENDER


# --- lenient -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("<.a@b>", ".a@b"),
        ("<a.@b>", "a.@b"),
        ("<a..b@c>", "a..b@c"),
        ("<..@c>", "..@c"),
        ("<a@.b>", "a@.b"),
        ("<a@b.>", "a@b."),
        ("<a@b..c>", "a@b..c"),
        ("<a@é..c.>", "a@xn--9ca..c."),
        ('<".a"@b>', '".a"@b'),
        ("a@b", "a@b"),
        (" a@b", "a@b"),
        (".a@b.", ".a@b."),
        ('"a b"@c', '"a b"@c'),
        ('"john"@c', "john@c"),
        ("a@[IPv6:0::1]", "a@[IPv6:::1]"),
        ("@a,@b:c@d", "c@d"),
    ],
)
def test_lenient_takes_what_strict_refuses(path: str, address: str) -> None:
    parsed = parse_path(f"FROM:{path} SIZE=3", "FROM", lenient=True)
    assert (parsed.address, parsed.parameters) == (address, [("SIZE", "3")])
    assert parsed.raw == path.strip(" <>")
    if path != '<".a"@b>':
        assert refusal(f"FROM:{path} SIZE=3") == BAD_SENDER


def test_lenient_takes_postmaster_without_brackets() -> None:
    assert address_of("Postmaster", keyword="TO", lenient=True) == "Postmaster"
    assert refusal("TO:Postmaster", "TO") == BAD_RECIPIENT


@pytest.mark.parametrize("path", ["a", "@b", "a@", "a@..", "@", "SIZE=3", "a b@c", "a@b<c"])
def test_lenient_still_needs_an_address(path: str) -> None:
    assert refusal(f"FROM:{path}", lenient=True)[0] == 501
    assert refusal(f"FROM:<{path}>", lenient=True) == BAD_SENDER


# --- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("", []),
        ("   ", []),
        (" SIZE=10", [("SIZE", "10")]),
        ("  size=10   body=8BitMime  ", [("SIZE", "10"), ("BODY", "8BitMime")]),
        (" SMTPUTF8 x-Y-1=a", [("SMTPUTF8", None), ("X-Y-1", "a")]),
        (" 8=!<>~é日", [("8", "!<>~é日")]),
        (" A-", [("A-", None)]),
        (" X=+41", [("X", "+41")]),
    ],
)
@either_mode
def test_parameters(text: str, parameters: list[tuple[str, str | None]], lenient: bool) -> None:
    assert parse_path(f"FROM:<a@b>{text}", "FROM", lenient=lenient).parameters == parameters


@pytest.mark.parametrize(
    "text",
    [
        "SIZE=10",
        ">",
        "\tSIZE=10",
        " SIZE=",
        " =10",
        " =",
        " -A=b",
        " A_B=c",
        " A+B=c",
        " é=c",
        " A=b=c",
        " A==b",
        " SIZE=1\tBODY=7BIT",
        " SIZE=1 size=1",
        " X X",
        " X x=1",
        " <c@d>",
    ],
)
@either_mode
def test_malformed_parameters(text: str, lenient: bool) -> None:
    assert refusal(f"FROM:<a@b>{text}", lenient=lenient) == BAD_PARAMETER
    assert refusal(f"TO:<a@b>{text}", "TO", lenient=lenient) == BAD_PARAMETER


# --- xtext -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "decoded"),
    [
        ("", ""),
        ("<>", "<>"),
        ("plain", "plain"),
        ("a+2Bb", "a+b"),
        ("a+3Db+20c", "a=b c"),
        ("+C3+A9", "é"),
        ("+E9", "é"),
        ("+C3+A9x+E9", "Ã©xé"),
        ("+F0+9F+98+80", "\U0001f600"),
        ("!~", "!~"),
    ],
)
def test_xtext(value: str, decoded: str) -> None:
    assert decode_xtext(value) == decoded
    assert decode_hexchars(value) == decoded


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("+", "+"),
        ("a+", "a+"),
        ("+4", "+4"),
        ("+4G", "+4G"),
        ("+2b", "+2b"),
        ("++41", "+A"),
        ("a=b", "a=b"),
        ("a b", "a b"),
        ("é", "é"),
        ("é+C3+A9", "éé"),
        ("é+E9", "éé"),
    ],
)
def test_what_is_no_xtext(value: str, kept: str) -> None:
    with pytest.raises(GrammarError, match="Malformed xtext") as caught:
        decode_xtext(value)
    assert (caught.value.code, caught.value.enhanced) == BAD_PARAMETER
    assert decode_hexchars(value) == kept


@pytest.mark.parametrize(
    "value", ["+00", "a+0D+0Ab", "+09", "+7F", "+C2+85", "+85", "+E2+80+A8", "+E9+0A"]
)
@pytest.mark.parametrize("decode", [decode_xtext, decode_hexchars])
def test_no_control_character_comes_out(value: str, decode: Any) -> None:
    with pytest.raises(GrammarError, match="Control character") as caught:
        decode(value)
    assert (caught.value.code, caught.value.enhanced) == BAD_PARAMETER


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("localhost", "a.b", "Mail-1.example.ORG", "1.example", "_x.a_b.example", "a" * 63),
        "xn--bcher-kva.example",
        ".".join(["a" * 63] * 3 + ["a" * 61]),
    ],
)
def test_host_names(name: str) -> None:
    assert is_hostname(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "a.", ".a", "a..b", "-a", "a-", "a b", "a\n", "a!", "é.example", "[1.2.3.4]"),
        *("1.2.3.4", "1", "a.1", "a" * 64, "::1", ".".join(["a" * 63] * 3 + ["a" * 62])),
    ],
)
def test_no_host_names(name: str) -> None:
    assert not is_hostname(name)


@pytest.mark.parametrize(
    "name",
    ["mail.example.org", "a_b", "[192.0.2.1]", "[IPv6:::1]", "-", "<>", "a" * 255],
)
def test_helo_names(name: str) -> None:
    assert parse_helo_name(name) == name
    assert parse_helo_name(f"  {name} ") == name


@pytest.mark.parametrize(
    "argument", ["", "  ", "a b", "a\tb", "a\x00", "\x7f", "é", "a\u200b", "a\n", "a" * 256]
)
def test_no_helo_names(argument: str) -> None:
    with pytest.raises(GrammarError) as caught:
        parse_helo_name(argument)
    assert (caught.value.code, caught.value.enhanced) == BAD_PARAMETER


# --- hostile input -----------------------------------------------------------------------------

HUGE = 12_000

HOSTILE = [
    *(f"<{piece * (HUGE // len(piece))}" for piece in ("a", "a.", '"', '"a', "[", "[x]", "@", "<")),
    *(
        f"<a@{piece * (HUGE // len(piece))}>"
        for piece in ("a", "a.", "a-", "-", "é", "é.", "[", "..")
    ),
    *(f"<{piece * (HUGE // len(piece))}@b>" for piece in ("a", ".", "a.", "é", "@a,", "@a:", "\\")),
    f'<"{chr(92) * HUGE}"@b>',
    f'<"{chr(92) * HUGE}',
    f'<"{"a" * HUGE}"@b>',
    f"<@{'a' * HUGE}",
    f"<@{'a-' * (HUGE // 2)}:b@c>",
    f"<@a{',@a' * (HUGE // 3)},:b@c>",
    f"<a@[{'-' * HUGE}]>",
    f"<a@[x:{'a' * HUGE}]>",
    f"<a@[IPv6:{'1:' * (HUGE // 2)}]>",
    f"<a@[IPv6:{':' * HUGE}]>",
    f"<a@[{'1.' * (HUGE // 2)}]>",
    f"<a@b> {'A' * HUGE}=",
    f"<a@b> X={'a' * HUGE}=",
    f"<a@b> {'-' * HUGE}",
    f"<a@b>{' A' * (HUGE // 2)}",
]


@pytest.mark.parametrize("path", HOSTILE, ids=range(len(HOSTILE)))
@either_mode
def test_hostile_input_is_refused(path: str, lenient: bool) -> None:
    """With a pattern that backtracks without bound this would not end."""
    assert refusal(f"FROM:{path}", lenient=lenient)[0] == 501


def test_hostile_values() -> None:
    assert decode_hexchars("+" * HUGE) == "+" * HUGE
    assert decode_hexchars("+41" * HUGE) == "A" * HUGE
    assert decode_xtext("a" * HUGE) == "a" * HUGE
    with pytest.raises(GrammarError):
        decode_xtext("+41" * HUGE + "+4")
    with pytest.raises(GrammarError):
        parse_helo_name("a" * HUGE)
    assert not is_hostname("a-" * HUGE)


def test_idna_sees_little_of_hostile_input(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def encode(label: str, *, uts46: bool) -> bytes:
        assert uts46
        seen.append(label)
        return b"x"

    monkeypatch.setattr(idna, "encode", encode)
    refusal(f"FROM:<a@{'é' * HUGE}>")
    refusal(f"FROM:<a@{'é' * 64}>")
    refusal(f"FROM:<a@{'é.' * HUGE}b>")
    refusal(f"FROM:<@{'é,@' * HUGE}b:a@{'é.' * 128}>")
    assert seen == []
    assert address_of(f"<a@{'é' * 63}.b>") == "a@x.b"
    assert seen == ["é" * 63]


# Every pattern of the module must be deterministic: where a repetition may go on or end, and where
# alternatives meet, the next character alone decides. Backtracking then finds no second way to try,
# whatever the input, and the work is linear. This is the check of an LL(1) grammar, made on the
# pattern as the `re` module has parsed it, over characters that stand for all.

_parser: Any = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")
SAMPLES = frozenset(
    chr(code) for code in (*range(0x180), *range(0x2000, 0x2070), 0xD7FF, 0xFEFF, 0xFF00, 0x10FFFF)
)


def characters(kind: str, argument: Any) -> frozenset[str] | None:
    """Those of SAMPLES that a node for one character matches; None for another node."""
    if kind == "LITERAL":
        return SAMPLES & {chr(argument)}
    if kind == "NOT_LITERAL":
        return SAMPLES - {chr(argument)}
    if kind == "ANY":
        return SAMPLES
    if kind != "IN":
        return None
    found: frozenset[str] = frozenset()
    for item, value in argument:
        if str(item) == "LITERAL":
            found |= {chr(value)}
        elif str(item) == "RANGE":
            found |= {char for char in SAMPLES if value[0] <= ord(char) <= value[1]}
        else:
            assert str(item) == "NEGATE"
    negated = str(argument[0][0]) == "NEGATE"
    return SAMPLES - found if negated else SAMPLES & found


def first(nodes: Any, follow: frozenset[str]) -> frozenset[str]:
    """What `nodes`, followed by one of `follow`, may begin with. Fails where two ways are open."""
    for kind, argument in reversed(list(nodes)):
        own = characters(str(kind), argument)
        if own is not None:
            follow = own
        elif str(kind) == "SUBPATTERN":
            follow = first(argument[-1], follow)
        elif str(kind) == "BRANCH":
            ways = [first(way, follow) for way in argument[1]]
            assert sum(map(len, ways)) == len(frozenset().union(*ways)), "alternatives overlap"
            follow = frozenset().union(*ways)
        else:
            assert str(kind) == "MAX_REPEAT", f"unknown {kind}"
            least, most, body = argument
            begin = first(body, frozenset())
            assert begin, "a repetition of nothing"
            # Inside, the next round or what comes after it may follow.
            first(body, (begin | follow) if most > 1 else follow)
            assert least == most or not begin & follow, "a repetition and what follows overlap"
            follow = begin if least else begin | follow
    return follow


def check_deterministic(pattern: re.Pattern[str]) -> None:
    assert not pattern.flags & re.IGNORECASE
    first(_parser.parse(pattern.pattern, pattern.flags), frozenset())


PATTERNS = {name: value for name, value in vars(grammar).items() if isinstance(value, re.Pattern)}


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_never_needs_to_backtrack(name: str) -> None:
    check_deterministic(PATTERNS[name])


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+", "(?:ac|[ab])*", "a*a", "(?:a?)*", "(?:a+-*)+", "[^b]*a", "(?:a+|ab)", "é?é"],
)
def test_the_check_sees_what_backtracks(pattern: str) -> None:
    with pytest.raises(AssertionError):
        check_deterministic(re.compile(pattern))


# --- properties --------------------------------------------------------------------------------

# Text in which the characters of the grammar come up often.
odd_text = st.text(
    st.one_of(
        st.sampled_from('aZ09.-_@<>[]"\\ ,:;=+%éü日ｅ。\u00ad\u200b\u200d\u0301\x00\n'),
        st.characters(codec="utf-8"),
        st.characters(categories=["Cs"]),
    ),
    max_size=40,
)
# Such as are taken, for the most part.
atoms = st.text("aZ09-_+é日", min_size=1, max_size=5)
labels = st.text("aZ09-éüß日", min_size=1, max_size=5)
likely_addresses = st.builds(
    "{}@{}".format,
    st.one_of(st.lists(atoms, min_size=1, max_size=3).map(".".join), atoms.map('"{} "'.format)),
    st.lists(labels, min_size=1, max_size=3).map(".".join),
)
arguments = st.one_of(
    likely_addresses.map("FROM:<{}>".format),
    st.builds("FROM:{}{}".format, likely_addresses, odd_text),
    st.builds("FROM:<{}>{}".format, likely_addresses, odd_text),
    st.ip_addresses(v=6).map("FROM:<a@[IPv6:{}]>".format),
    odd_text,
    odd_text.map("FROM:{}".format),
    odd_text.map("FROM:<{}>".format),
    st.builds("FROM:<{}@{}>".format, odd_text, odd_text),
    st.builds('FROM:<"{}"@{}>'.format, odd_text, odd_text),
    st.builds("FROM:<{}@[{}]>".format, odd_text, odd_text),
    st.builds("FROM:<{}@[IPv6:{}]>".format, odd_text, odd_text),
    st.builds("FROM:<a@b> {}={}".format, odd_text, odd_text),
)


def parsed_or_none(argument: str, lenient: bool) -> grammar.Path | None:
    try:
        return parse_path(argument, "FROM", lenient=lenient)
    except GrammarError:
        return None


@given(arguments, st.booleans())
def test_whatever_is_sent_is_parsed_or_refused(argument: str, lenient: bool) -> None:
    path = parsed_or_none(argument, lenient)
    if path is None:
        return
    again = parse_path(f"FROM:<{path.address}>", "FROM", lenient=lenient)
    assert again.address == path.address
    assert len(path.address.encode()) <= 254
    assert path.address.rpartition("@")[2].isascii()
    assert path.raw in argument
    everything = path.address + path.raw + "".join(value or "" for _, value in path.parameters)
    assert not set(everything) & set(INVISIBLE)
    assert "Cc" not in map(unicodedata.category, everything)
    assert all(keyword == keyword.upper() for keyword, _ in path.parameters)


plain_addresses = st.from_regex(r"[a.]{1,40}@[a.-]{1,40}", fullmatch=True)


@given(
    st.one_of(arguments, st.builds("FROM:<{}>{}".format, plain_addresses, odd_text)), st.booleans()
)
def test_the_short_cut_leads_to_the_same_path(argument: str, lenient: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grammar, "_PLAIN_PATH", re.compile("(?!)"))
        the_long_way = parsed_or_none(argument, lenient)
    assert parsed_or_none(argument, lenient) == the_long_way


@given(arguments)
def test_lenient_takes_all_that_strict_takes(argument: str) -> None:
    strict = parsed_or_none(argument, lenient=False)
    if strict is not None:
        assert parsed_or_none(argument, lenient=True) == strict


local_parts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(local_parts)
def test_quotes_never_change_what_they_quote(content: str) -> None:
    every_one_escaped = "".join(f"\\{char}" for char in content)
    address = address_of(f'<"{every_one_escaped}"@b>')
    local_part = address.removesuffix("@b")
    if local_part.startswith('"'):
        local_part = local_part[1:-1].replace("\\\\", "\0").replace("\\", "").replace("\0", "\\")
    assert local_part == content


@given(odd_text)
def test_values_and_names_are_taken_or_refused(text: str) -> None:
    for function in (decode_xtext, decode_hexchars, parse_helo_name):
        try:
            result = function(text)
        except GrammarError:
            continue
        assert "Cc" not in map(unicodedata.category, result)
    if is_hostname(text):
        assert parse_helo_name(text) == text


@given(st.text())
def test_what_is_encoded_as_xtext_comes_back(text: str) -> None:
    assume("Cc" not in map(unicodedata.category, text))
    assume(not {"\u2028", "\u2029"} & set(text))
    encoded = "".join(
        chr(octet) if 33 <= octet <= 126 and chr(octet) not in "+=" else f"+{octet:02X}"
        for octet in text.encode()
    )
    assert decode_xtext(encoded) == text
