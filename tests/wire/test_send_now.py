"""Sending with the lock held: what the kernel takes at once, and never a moment longer."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from blocksmtp.wire import send_now as module
from blocksmtp.wire.send_now import send_now

linux = pytest.mark.skipif(sys.platform != "linux", reason="done on Linux only")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@linux
def test_a_reply_is_sent(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    octets = b"250 2.0.0 \0\r\n"
    assert send_now(ours, octets) == len(octets)
    assert theirs.recv(100) == octets


@linux
def test_who_reads_nothing_is_not_waited_for(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    octets = bytes(range(256)) * 65_536
    taken = send_now(ours, octets)
    assert 0 < taken < len(octets)
    assert send_now(ours, octets[taken:]) == 0
    ours.shutdown(socket.SHUT_WR)
    with theirs.makefile("rb") as received:
        assert received.read() == octets[:taken]


@linux
@pytest.mark.parametrize("end", ["theirs", "ours"])
def test_a_connection_that_is_over_raises_no_signal(
    ends: tuple[socket.socket, socket.socket], end: str
) -> None:
    ours, theirs = ends
    (theirs if end == "theirs" else ours).close()
    assert send_now(ours, b"250 OK\r\n") == 0


def test_it_may_be_impossible(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SEND", None)
    assert send_now(ends[0], b"250 OK\r\n") == 0


@pytest.mark.parametrize(
    "reason",
    [
        "sys.platform = 'darwin'",
        "sys._is_gil_enabled = lambda: False",
        "sys.modules['ctypes'] = None",
    ],
)
def test_where_it_is_not_done(reason: str) -> None:
    code = f"""
import sys
{reason}
from blocksmtp.wire import send_now
assert send_now._SEND is None
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
