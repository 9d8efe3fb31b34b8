"""What is in a Maildir: which messages, how often, and whether they are whole."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from .senders import message


def stored(maildir: Path) -> Counter[str]:
    """How often each message is there. Raises AssertionError for one that is not whole."""
    found: Counter[str] = Counter()
    for file in (maildir / "new").iterdir():
        content = file.read_bytes()
        match = re.search(rb"\nSubject: (.+)\nX-Lines: (\d+)\n", content)
        assert match is not None, f"{file}: {content[:200]!r}"
        identifier, lines = match[1].decode(), int(match[2])
        expected = message(identifier, lines).replace(b"\r\n", b"\n")
        assert content.endswith(b"\n" + expected), f"{file} is not whole"
        assert content.startswith(b"Return-Path: <a@client.example>\n")
        assert content.count(b"Subject: ") == 1
        found[identifier] += 1
    return found


def assert_nothing_is_lost(maildir: Path, acknowledged: set[str]) -> None:
    """Every acknowledged message is there, whole, once; and no other more than once."""
    found = stored(maildir)
    lost = acknowledged - found.keys()
    assert not lost, f"lost: {sorted(lost)[:10]}, {len(lost)} in all"
    assert set(found.values()) <= {1}, f"more than once: {found.most_common(5)}"
