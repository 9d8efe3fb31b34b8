"""Replies on the wire: RFC 5321, 4.2; RFC 2034; RFC 6531, 3.7.4."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksmtp.errors import SMTPError
from blocksmtp.protocol.replies import (
    DEFECT,
    LONGEST_TEXT,
    Next,
    Reply,
    bad,
    closing,
    refusal,
    reply,
    usual_status,
)


def test_one_line() -> None:
    assert Reply(250, ("OK",), "2.0.0").encode() == b"250 2.0.0 OK\r\n"


def test_lines_repeat_code_and_status() -> None:
    assert Reply(250, ("one", "two", "three"), "2.0.0").encode() == (
        b"250-2.0.0 one\r\n250-2.0.0 two\r\n250 2.0.0 three\r\n"
    )


def test_status_where_there_is_none_or_it_is_hidden() -> None:
    assert Reply(220, ("mx ESMTP",)).encode() == b"220 mx ESMTP\r\n"
    assert Reply(250, ("OK", "OK"), "2.0.0").encode(enhanced=False) == b"250-OK\r\n250 OK\r\n"


def test_empty_text_keeps_its_space() -> None:
    """RFC 4954, section 4: an empty challenge is "334 "."""
    assert Reply(334, ("",)).encode() == b"334 \r\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\r\n250 two", "one 250 two"),
        ("one\n\n\ntwo", "one two"),
        ("tab\tnul\0escape\x1bdel\x7f", "tab nul escape del "),
        ("nel\x85csi\x9bend", "nel csi end"),
        ("line\u2028paragraph\u2029end", "line paragraph end"),
    ],
)
def test_control_characters_become_spaces(text: str, shown: str) -> None:
    assert Reply(250, (text,), utf8=True).encode() == f"250 {shown}\r\n".encode()


def test_not_ascii_is_a_question_mark() -> None:
    assert Reply(550, ("Grüße 😀",)).encode() == b"550 Gr??e ?\r\n"


def test_not_ascii_is_utf8_where_wanted() -> None:
    assert Reply(550, ("Grüße 😀",), utf8=True).encode() == "550 Grüße 😀\r\n".encode()


def test_lone_surrogate_breaks_nothing() -> None:
    """It may come from an application that decoded with "surrogateescape"."""
    assert Reply(550, ("a\udc80b",), utf8=True).encode() == b"550 a?b\r\n"


def test_a_line_has_512_octets_at_the_most() -> None:
    assert Reply(250, ("x" * 506,)).encode() == b"250 " + b"x" * 506 + b"\r\n"
    assert Reply(250, ("x" * 507,)).encode() == b"250-" + b"x" * 506 + b"\r\n250 x\r\n"


def test_break_at_a_space() -> None:
    text = "a" * 500 + " " + "b" * 20
    assert Reply(250, (text,)).encode() == (
        b"250-" + b"a" * 500 + b"\r\n250 " + b"b" * 20 + b"\r\n"
    )


def test_the_space_may_be_just_beyond() -> None:
    """506 octets, and the break where the 507th is a space."""
    assert Reply(250, ("a" * 506 + " b",)).encode() == b"250-" + b"a" * 506 + b"\r\n250 b\r\n"


def test_a_leading_space_is_no_place_to_break() -> None:
    """It would make a line of nothing, and the next no shorter."""
    lines = Reply(250, (" " + "a" * 600,)).encode().split(b"\r\n")
    assert [len(line) for line in lines] == [510, 4 + 601 - 506, 0]


def test_characters_are_not_broken() -> None:
    """506 octets of room do not divide by 3, nor by 4."""
    for text in ("€" * 400, "x" + "😀" * 300, "ü" * 506):
        encoded = Reply(250, (text,), utf8=True).encode()
        lines = encoded.split(b"\r\n")[:-1]
        assert len(lines) > 1
        assert "".join(line[4:].decode() for line in lines) == text


@given(
    st.lists(st.text(max_size=700), min_size=1, max_size=3),
    st.sampled_from([None, "5.7.1", "5.999.999"]),
    st.booleans(),
)
def test_no_text_can_break_a_reply(lines: list[str], enhanced: str | None, utf8: bool) -> None:
    encoded = Reply(550, tuple(lines), enhanced, utf8=utf8).encode()
    *sent, rest = encoded.split(b"\r\n")
    assert rest == b""
    status = f"{enhanced} ".encode() if enhanced else b""
    for number, line in enumerate(sent, 1):
        mark = b" " if number == len(sent) else b"-"
        assert line.startswith(b"550" + mark + status)
        assert len(line) <= 510
        assert not set(line) & {*range(0x20), 0x7F}
        line.decode("utf-8" if utf8 else "ascii")


def test_a_challenge_is_one_line() -> None:
    """RFC 4954, section 4: up to 12288 octets; it cannot be continued."""
    text = "QUJD" * 3000
    assert Reply(334, (text,)).encode() == f"334 {text}\r\n".encode()


def test_what_comes_next() -> None:
    assert reply(250, "OK").then is Next.COMMAND
    assert reply(421, "bye").then is Next.CLOSE
    assert closing("bye", "4.7.0") == Reply(421, ("bye",), "4.7.0", Next.CLOSE)
    assert bad(500, "what").bad
    assert not reply(500, "what").bad
    assert DEFECT.code == 451
    assert DEFECT.enhanced == "4.3.0"


def test_status_of_every_code_has_its_class() -> None:
    for code in (*range(200, 300), *range(400, 600)):
        assert usual_status(code).startswith(f"{code // 100}.")
    assert usual_status(599) == "5.0.0"


@pytest.mark.parametrize(
    ("error", "code", "enhanced"),
    [
        (SMTPError("no"), 550, "5.1.1"),
        (SMTPError("no", 550), 550, "5.1.1"),
        (SMTPError("no", 554), 554, "5.7.1"),
        (SMTPError("no", 450), 450, "4.2.0"),
        (SMTPError("no", 499), 499, "4.0.0"),
        (SMTPError("no", None, "5.7.26"), 550, "5.7.26"),
        (SMTPError("no", None, "4.7.1"), 451, "4.7.1"),
        (SMTPError("no", 421), 421, "4.3.2"),
        (SMTPError("no", 552, "5.2.2"), 552, "5.2.2"),
    ],
)
def test_refusal(error: SMTPError, code: int, enhanced: str) -> None:
    answer = refusal(error, 550, "5.1.1")
    assert (answer.code, answer.enhanced, answer.lines) == (code, enhanced, ("no",))
    assert not answer.bad, "what the application refuses is no fault of the client's"
    assert answer.then is (Next.CLOSE if code == 421 else Next.COMMAND)


def test_refusal_for_good_where_for_now_is_the_default() -> None:
    """`on_data` refuses with 450 by default, but "5.7.1" is no temporary failure."""
    answer = refusal(SMTPError("no", None, "5.7.1"), 450, "4.3.0")
    assert (answer.code, answer.enhanced) == (550, "5.7.1")


def test_refusal_without_a_status_of_its_own() -> None:
    assert refusal(SMTPError("no"), 535).enhanced == "5.7.8"


def test_a_text_without_end_is_cut() -> None:
    encoded = Reply(550, ("word " * 1_000_000,)).encode()
    assert LONGEST_TEXT < len(encoded) < 1.1 * LONGEST_TEXT
    assert encoded.endswith(b"\r\n")
