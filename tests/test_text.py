"""Foreign text, made safe to show."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksmtp.text import has_control_characters, one_line, printable

LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"

anything = st.text() | st.text(alphabet=st.sampled_from("a \r\n\0\t\x1b\x7f\x85\u2028é\\\ud800"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain", "plain"),
        ("two\r\nlines", "two lines"),
        ("a\0b\tc\x1bd\x7fe", "a b c d e"),
        ("nel\x85ls\u2028ps\u2029end", "nel ls ps end"),
        ("\r\n\r\n", " "),
        ("größer als 1", "größer als 1"),
    ],
)
def test_one_line(text: str, shown: str) -> None:
    assert one_line(text) == shown


@pytest.mark.parametrize("end", LINE_ENDS)
def test_every_line_end_is_a_control_character(end: str) -> None:
    assert has_control_characters(f"a{end}b")
    assert one_line(f"a{end}b") == "a b"


@given(anything)
def test_one_line_is_one_line(text: str) -> None:
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert not has_control_characters(shown)
    assert not any(unicodedata.category(char) == "Cc" for char in shown)
    assert one_line(shown) == shown


@given(anything)
def test_text_without_control_characters_is_left_as_it_is(text: str) -> None:
    assert (one_line(text) == text) is not has_control_characters(text)


@pytest.mark.parametrize(
    ("octets", "shown"),
    [
        (b"", ""),
        (b"NOOP", "NOOP"),
        ("größer", "gr\\xf6\\xdfer"),
        ("größer".encode(), "gr\\xf6\\xdfer"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"a\r\nb\0c\x1b[2Jd", "a\\r\\nb\\x00c\\x1b[2Jd"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
        ("\U0001f600", "\\U0001f600"),
        (b"a\\b", "a\\b"),
    ],
)
def test_printable(octets: bytes | str, shown: str) -> None:
    assert printable(octets) == shown


@given(anything | st.binary())
def test_printable_is_printable_ascii(octets: bytes | str) -> None:
    assert all(" " <= char <= "~" for char in printable(octets))


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_printable_ascii_is_left_as_it_is(text: str) -> None:
    assert printable(text) == printable(text.encode()) == text
