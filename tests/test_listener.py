"""The accept loop: one client cannot end it, and no shortage makes it spin."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from typing import Any

import pytest

from blocksmtp import SMTPSession
from blocksmtp.connection import Connection
from blocksmtp.listener import Listener
from tests.client import TIMEOUT, connect, serving, trusting, wait_until_idle


def test_it_is_a_threading_tcp_server() -> None:
    assert issubclass(Listener, socketserver.ThreadingTCPServer)
    assert Listener.daemon_threads


def test_a_defect_of_ours_ends_one_connection_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(connection: Connection) -> bool:
        monkeypatch.undo()
        raise LookupError("of ours")

    seen: list[Exception] = []
    closed: list[SMTPSession] = []
    with serving(max_clients=1, on_close=closed.append) as server:
        server.on("error", seen.append)
        monkeypatch.setattr(Connection, "_identify", failing)
        with connect(server) as client:
            assert client.rest() == b""
        wait_until_idle(server)
        with connect(server) as client:
            client.hello()
    assert [str(error) for error in seen] == ["of ours"]
    assert len(closed) == 1


def test_a_client_that_is_gone_when_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal fails, and the loop goes on."""
    with serving(max_clients=1) as server, connect(server) as first:
        first.hello()
        for _ in range(20):
            connect(server).reset()
        with connect(server) as refused:
            assert refused.rest().startswith(b"421 ")
        first.expect(250, "NOOP")


def test_clients_that_connect_and_reset_at_once() -> None:
    with serving(max_clients=5) as server:
        for _ in range(50):
            connect(server).reset()
        wait_until_idle(server)
        with connect(server) as client:
            # Those that are still in the queue come first, and may fill the places for a moment.
            assert client.reply().code in (220, 421)
        wait_until_idle(server)
        assert server._host.limits._places is not None
        assert server._host.limits._places._value == 5


@pytest.mark.parametrize("shortage", ["descriptors", "threads"])
def test_a_shortage_does_not_make_it_spin(shortage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    first = threading.Event()
    start = threading.Thread.start

    def no_descriptor(listener: Listener) -> Any:
        tried.append("accept")
        first.set()
        raise OSError(24, "Too many open files")

    def no_thread(thread: threading.Thread) -> None:
        if thread.name.startswith("blocksmtp "):
            tried.append("start")
            first.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    with serving() as server, contextlib.ExitStack() as stack:
        if shortage == "descriptors":
            monkeypatch.setattr(Listener, "get_request", no_descriptor)
        else:
            monkeypatch.setattr(threading.Thread, "start", no_thread)
        for _ in range(20):
            stack.enter_context(connect(server))
        assert first.wait(TIMEOUT)
        assert not server.wait(0.35)
        assert len(tried) <= 5
        monkeypatch.undo()


def test_each_shortage_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    get_request = Listener.get_request
    outcomes = iter([24, 24, None, 24, 24, None])

    def sometimes(listener: Listener) -> Any:
        number = next(outcomes, None)
        if number is not None:
            raise OSError(number, "Too many open files")
        return get_request(listener)

    seen: list[Exception] = []
    with serving() as server:
        server.on("error", seen.append)
        monkeypatch.setattr(Listener, "get_request", sometimes)
        for _ in range(2):
            with connect(server) as client:
                client.hello()
    assert len(seen) == 2


def test_threads_are_named_for_their_session() -> None:
    names: list[str] = []
    with (
        serving(on_connect=lambda session: names.append(threading.current_thread().name)) as server,
        connect(server) as client,
    ):
        client.hello()
        (session,) = server.connections
        listeners = [t.name for t in threading.enumerate() if "listener" in t.name]
    assert names == [f"blocksmtp {session.id}"]
    assert listeners == [f"blocksmtp listener {server.address}"]


def test_its_own_secure_counts_not_the_option() -> None:
    with serving(secure=True) as server:
        server.listen(0, "127.0.0.1", secure=False)
        with connect(server.addresses[1]) as client:
            client.hello()
        with connect(server, tls=trusting()) as client:
            client.hello()


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
def test_the_greeting_waits_for_no_acknowledgement(secure: bool) -> None:
    """A reply is sent at once, whatever the client has still to acknowledge (Nagle's algorithm)."""
    options: list[int] = []

    def on_connect(session: object) -> None:
        (connection,) = server._host.connections
        sock = connection._sock
        options.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    with (
        serving(secure=secure, on_connect=on_connect) as server,
        connect(server, tls=trusting() if secure else None) as client,
    ):
        client.hello()
    assert options == [1]


class _Slow:
    """Something local to a thread whose end takes a while: a database connection, say."""

    def __init__(self, may_end: threading.Event) -> None:
        self.ending = threading.Event()
        self._may_end = may_end

    def __del__(self) -> None:
        self.ending.set()
        # Longer than any client of these tests would wait.
        self._may_end.wait(2 * TIMEOUT)


def test_what_is_local_to_a_thread_and_slow_to_go_delays_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("blocksmtp.threads._IDLE_SECONDS", 0.001)
    local = threading.local()
    may_end = threading.Event()
    ending: list[threading.Event] = []

    def on_connect(session: object) -> None:
        if not ending:
            local.slow = _Slow(may_end)
            ending.append(local.slow.ending)

    with serving(on_connect=on_connect) as server:
        with connect(server) as client:
            client.hello()
        assert ending[0].wait(TIMEOUT)
        for _ in range(3):
            with connect(server) as client:
                client.hello()
        may_end.set()
