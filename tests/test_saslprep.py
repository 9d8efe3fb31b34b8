"""SASLprep (RFC 4013)."""

from __future__ import annotations

import pytest

from blocksmtp.saslprep import saslprep


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        # RFC 4013, section 3
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        # and more
        ("", ""),
        ("\u00ad", ""),
        ("a b", "a b"),
        ("a\u00a0b", "a b"),
        ("a\u3000b", "a b"),
        ("gr\u00fc\u00dfe", "gr\u00fc\u00dfe"),
        ("u\u0308", "\u00fc"),
        ("\u05d0\u05d1", "\u05d0\u05d1"),
        ("\u05d01\u05d1", "\u05d01\u05d1"),
    ],
)
def test_prepared(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared
    assert saslprep(prepared) == prepared


@pytest.mark.parametrize(
    "text",
    [
        *("\u0007", "\u06271", "a\n", "\x7f", "\x85", "\u2028", "\ud800", "\ue000", "\ufffd"),
        *("\u2ff0", "\U000e0001", "\ufdd0", "\u0221", "\u05d0a\u05d1", "a\u05d0"),
    ],
    ids=ascii,
)
def test_forbidden(text: str) -> None:
    with pytest.raises(ValueError, match="text"):
        saslprep(text)
