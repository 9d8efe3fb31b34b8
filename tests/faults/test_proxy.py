"""The proxy itself: each fault is what it says."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.client import TIMEOUT

from .proxy import NONE, Fault, Link, Proxy, Then

OCTETS = bytes(range(100))


@contextmanager
def linked(
    to_server: Fault = NONE, to_client: Fault = NONE
) -> Iterator[tuple[Link, socket.socket]]:
    """A connection through the proxy, and the server's end of it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Proxy(listener.getsockname()) as proxy,
        proxy.connect(to_server, to_client) as link,
        listener.accept()[0] as server,
    ):
        server.settimeout(TIMEOUT)
        yield link, server


def received(sock: socket.socket, octets: int) -> bytes:
    found = b""
    while len(found) < octets:
        more = sock.recv(octets - len(found))
        assert more, "the stream has ended"
        found += more
    return found


def test_nothing_but_passing() -> None:
    with linked() as (link, server):
        link.client.send(OCTETS)
        assert received(server, 100) == OCTETS
        server.sendall(OCTETS[::-1])
        assert received(link.client.sock, 100) == OCTETS[::-1]
        server.shutdown(socket.SHUT_WR)
        assert link.client.rest() == b""
        link.client.send(b"still heard")
        assert received(server, 11) == b"still heard"
        link.client.close()
        assert server.recv(1) == b""
    assert link.to_server.passed == OCTETS + b"still heard"
    assert link.to_client.passed == OCTETS[::-1]


def test_pieces() -> None:
    with linked(Fault(piece=30, delay=0.001)) as (link, server):
        link.client.send(OCTETS)
        assert received(server, 100) == OCTETS
        assert link.to_server.segments == [30, 30, 30, 10]


def test_merging() -> None:
    """What is held goes on after the pause, or with the end."""
    with linked(Fault(hold=TIMEOUT)) as (link, server):
        for octet in OCTETS:
            link.client.send(bytes([octet]))
        link.client.sock.shutdown(socket.SHUT_WR)
        assert received(server, 100) == OCTETS
        assert server.recv(1) == b""
        assert link.to_server.segments == [100]
    with linked(Fault(hold=0.01)) as (link, server):
        link.client.send(OCTETS)
        assert received(server, 100) == OCTETS


def test_the_rest_after_a_pause() -> None:
    with linked(Fault(after=60, then=Then.PAUSE)) as (link, server):
        for _ in range(2):
            link.client.send(OCTETS)
            assert received(server, 100) == OCTETS
        assert link.to_server.segments[:2] == [60, 40]


@pytest.mark.parametrize("octets", [0, 1, 60, 100])
def test_the_end_of_one_direction(octets: int) -> None:
    with linked(Fault(after=octets, then=Then.END)) as (link, server):
        link.client.send(OCTETS)
        assert received(server, octets) == OCTETS[:octets]
        assert server.recv(1) == b""
        server.sendall(b"answer")
        assert received(link.client.sock, 6) == b"answer"
    assert link.to_server.passed == OCTETS[:octets]


@pytest.mark.parametrize("octets", [0, 60])
def test_the_end_of_both(octets: int) -> None:
    with linked(Fault(after=octets, then=Then.CLOSE)) as (link, server):
        link.client.send(OCTETS)
        assert received(server, octets) == OCTETS[:octets]
        assert server.recv(1) == b""
        assert link.client.sock.recv(1) == b""


@pytest.mark.parametrize("octets", [0, 60])
def test_a_reset(octets: int) -> None:
    with linked(to_client=Fault(after=octets, then=Then.RESET)) as (link, server):
        if octets:
            server.sendall(OCTETS)
        for end in (link.client.sock, server):
            with pytest.raises(ConnectionResetError):
                received(end, 100)


def test_a_reset_by_one_end_reaches_the_other() -> None:
    with linked() as (link, server):
        link.client.reset()
        with pytest.raises(ConnectionResetError):
            server.recv(1)


def test_a_stall() -> None:
    with linked(Fault(after=60, then=Then.STALL)) as (link, server):
        link.client.send(OCTETS)
        assert received(server, 60) == OCTETS[:60]
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.recv(1)
        server.close()
        assert link.client.rest() == b""


def test_a_spoilt_octet() -> None:
    with linked(Fault(after=60, then=Then.CORRUPT)) as (link, server):
        link.client.send(OCTETS[:50])
        link.client.send(OCTETS[50:])
        spoilt = received(server, 100)
        assert [place for place in range(100) if spoilt[place] != OCTETS[place]] == [60]


def test_a_server_that_does_not_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.faults.proxy.TIMEOUT", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Proxy(listener.getsockname()) as proxy,
    ):
        link = proxy.connect()
        with listener.accept()[0], pytest.raises(AssertionError, match="goes on"):
            link.close()


def test_the_clients_are_told_apart() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Proxy(listener.getsockname()) as proxy,
        proxy.connect() as first,
        listener.accept()[0] as of_first,
        proxy.connect() as second,
        listener.accept()[0] as of_second,
    ):
        assert of_first.getpeername()[1] == first.port
        assert of_second.getpeername()[1] == second.port
