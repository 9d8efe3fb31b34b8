"""Making foreign text safe to show: in a reply, in a log record, in a header."""

from __future__ import annotations

import re

# C0, DEL, C1, and the two Unicode line ends that some viewers break a line at.
CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def one_line(text: str) -> str:
    """`text` with every run of control characters replaced by a single space."""
    if text.isascii() and text.isprintable():
        return text
    return CONTROL_CHARACTERS.sub(" ", text)


def has_control_characters(text: str) -> bool:
    """Whether `text` holds a C0 or C1 control character, DEL or a Unicode line end."""
    return CONTROL_CHARACTERS.search(text) is not None


def printable(octets: bytes | str) -> str:
    """`octets` as printable ASCII on one line, the rest as escapes: for log records."""
    text = octets.decode("utf-8", "backslashreplace") if isinstance(octets, bytes) else octets
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if " " <= char <= "~" else char.encode("unicode_escape").decode("ascii")
        for char in text.encode("utf-8", "backslashreplace").decode("utf-8")
    )
