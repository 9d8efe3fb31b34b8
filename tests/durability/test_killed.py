"""SIGKILL at random moments. The other failures are in tests/delivery and tests/interop."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from .killing import kill_servers, kill_workers
from .senders import message
from .store import assert_nothing_is_lost, stored

SEED = 20


@pytest.mark.thorough
def test_workers_killed_a_hundred_times(tmp_path: Path) -> None:
    assert kill_workers(tmp_path, 100, SEED) > 100


@pytest.mark.thorough
def test_servers_killed(tmp_path: Path) -> None:
    assert kill_servers(tmp_path, 8, SEED) > 100


# --- the judge -----------------------------------------------------------------------------------


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    (tmp_path / "new").mkdir()
    for name in ("1-1", "1-2"):
        content = b"Return-Path: <a@client.example>\nReceived: x\n" + message(name, 3)
        (tmp_path / "new" / name).write_bytes(content.replace(b"\r\n", b"\n"))
    return tmp_path


def test_what_is_there_is_found(maildir: Path) -> None:
    assert stored(maildir) == Counter({"1-1": 1, "1-2": 1})
    assert_nothing_is_lost(maildir, {"1-1"})


def test_what_is_lost_is_seen(maildir: Path) -> None:
    with pytest.raises(AssertionError, match=r"lost: .'1-3'"):
        assert_nothing_is_lost(maildir, {"1-1", "1-3"})


def test_what_is_there_twice_is_seen(maildir: Path) -> None:
    (maildir / "new" / "again").write_bytes((maildir / "new" / "1-1").read_bytes())
    with pytest.raises(AssertionError, match="more than once"):
        assert_nothing_is_lost(maildir, {"1-1"})


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_what_is_not_whole_is_seen(maildir: Path, cut: int) -> None:
    content = (maildir / "new" / "1-1").read_bytes()
    (maildir / "new" / "1-1").write_bytes(content[:-cut])
    with pytest.raises(AssertionError, match=r"is not whole|X-Lines|Return-Path"):
        assert_nothing_is_lost(maildir, {"1-2"})
