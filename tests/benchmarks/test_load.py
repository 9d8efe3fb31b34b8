"""The load: a client that takes no refusal for an answer, and who does how much."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from benchmarks.errors import MeasurementError
from benchmarks.load.client import Session
from benchmarks.workloads.bulk import lines
from benchmarks.workloads.calibration import amount_for


@pytest.fixture
def ends() -> Iterator[tuple[Session, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    with ours, theirs:
        yield Session(ours), theirs


def test_replies_are_counted_lines_are_not(ends: tuple[Session, socket.socket]) -> None:
    session, server = ends
    server.sendall(b"250-mx.example\r\n250 SIZE\r\n354 go on\r\n")
    session.read(2)


@pytest.mark.parametrize(
    ("octets", "replies", "complaint"),
    [
        (b"250 ok\r\n450 no\r\n", 2, "450 no"),
        (b"554 no\r\n", 1, "554 no"),
        (b"250 one\r\n250 two\r\n", 1, "2 replies instead of 1"),
    ],
)
def test_what_is_no_acceptance_is_no_figure(
    ends: tuple[Session, socket.socket], octets: bytes, replies: int, complaint: str
) -> None:
    session, server = ends
    server.sendall(octets)
    with pytest.raises(MeasurementError, match=complaint):
        session.read(replies)


def test_nor_is_the_end(ends: tuple[Session, socket.socket]) -> None:
    session, server = ends
    server.sendall(b"250-mx.example\r\n")
    server.close()
    with pytest.raises(MeasurementError, match="closed the connection"):
        session.read()


@pytest.mark.parametrize(
    ("name", "line"), [("bulk-998", 1000), ("bulk-70", 72), ("bulk-dotted", 73), ("bulk-tls", 1000)]
)
def test_lines_have_their_length_on_the_wire(name: str, line: int) -> None:
    octets = lines(name, 10_000)
    assert 10_000 - line < len(octets) <= 10_000
    assert {len(each) for each in octets.splitlines(keepends=True)} == {line}
    assert octets.startswith(b"..") == (name == "bulk-dotted")


def test_the_amount_is_found_by_trying() -> None:
    tried: list[int] = []

    def duration(amount: int) -> float:
        tried.append(amount)
        return amount / 1000

    assert amount_for(1.0, 10, duration) == 1000
    assert tried == [10, 80, 640]


def test_noise_does_not_stop_the_search() -> None:
    """A difference of two times may be less than nothing."""
    times = iter([-0.5, 0.0, 1.0])
    assert amount_for(1.0, 10, lambda amount: next(times)) == 640
