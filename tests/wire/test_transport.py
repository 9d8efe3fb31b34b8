"""The transport in clear: waits that end, replies that arrive, connections that break."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from blocksmtp.errors import ClientGone, ClientTooSlow, ServerClosing
from blocksmtp.wire.transport import PlainTransport, WakeUp

PATIENCE = 10.0  # seconds that a test waits for what must happen at once
SHORT = 0.05  # seconds, where the wait itself is what is tested
YEAR = 31_536_000.0  # the longest that an option takes


class Watched(socket.socket):
    """A socket that tells when somebody is about to wait for it."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(fileno=sock.detach())
        self.waiting = threading.Event()

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        self.waiting.set()
        return super().recv(size, flags)

    def send(self, octets: memoryview, flags: int = 0, /) -> int:  # type: ignore[override]
        self.waiting.set()
        return super().send(octets, flags)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    return client, server


class Ends:
    """Both ends of a connection."""

    def __init__(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self.client = pair[0]
        self.client.settimeout(PATIENCE)
        self.server = Watched(pair[1])
        self.transport = PlainTransport(self.server)

    def receive(
        self, size: int = 1000, seconds: float = PATIENCE, *, interruptible: bool = True
    ) -> bytes:
        return self.transport.receive(size, seconds, interruptible=interruptible)

    def send(self, octets: bytes, seconds: float = PATIENCE, total: float = PATIENCE) -> None:
        self.transport.send(octets, seconds, total)

    def reset(self) -> None:
        """Break the connection from the client's side."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["TCP", "Unix"])
def ends(request: pytest.FixtureRequest, stack: ExitStack) -> Ends:
    ends = Ends(tcp_pair() if request.param == "TCP" else socket.socketpair())
    stack.enter_context(ends.client)
    stack.enter_context(ends.server)
    return ends


@pytest.fixture
def tcp(stack: ExitStack) -> Ends:
    ends = Ends(tcp_pair())
    stack.enter_context(ends.client)
    stack.enter_context(ends.server)
    return ends


@pytest.fixture
def thread(stack: ExitStack) -> ThreadPoolExecutor:
    return stack.enter_context(ThreadPoolExecutor(1))


@pytest.fixture
def wake_up(stack: ExitStack) -> WakeUp:
    return stack.enter_context(closing(WakeUp()))


# --- receiving ------------------------------------------------------------------------------------


@pytest.mark.parametrize("interruptible", [True, False])
def test_what_comes_is_received(ends: Ends, interruptible: bool) -> None:
    ends.client.sendall(b"first" + b"\0\xff")
    assert ends.receive(5, interruptible=interruptible) == b"first"
    assert ends.receive(interruptible=interruptible) == b"\0\xff"
    ends.client.close()
    assert ends.receive(interruptible=interruptible) == b""
    assert ends.receive(interruptible=interruptible) == b""


@pytest.mark.parametrize("interruptible", [True, False])
def test_nothing_comes(ends: Ends, interruptible: bool) -> None:
    for seconds in (SHORT, 2 * SHORT, SHORT, 1e-9):
        started = time.monotonic()
        with pytest.raises(ClientTooSlow):
            ends.receive(seconds=seconds, interruptible=interruptible)
        # The kernel counts in ticks.
        assert seconds - 0.02 <= time.monotonic() - started < seconds + 5
    # A wait that was in vain spoils nothing.
    ends.client.sendall(b"late")
    assert ends.receive(interruptible=interruptible) == b"late"


def test_the_longest_of_all_times(ends: Ends, wake_up: WakeUp) -> None:
    ends.client.sendall(b"octets")
    assert ends.transport.wait_readable(YEAR, wake_up)
    assert ends.receive(seconds=YEAR) == b"octets"
    ends.send(b"reply", YEAR, YEAR)
    assert ends.client.recv(100) == b"reply"
    wake_up.call()
    assert wake_up.wait(YEAR)


def test_a_reset(tcp: Ends) -> None:
    tcp.reset()
    with pytest.raises(ClientGone):
        tcp.receive()
    with pytest.raises(ClientGone):
        tcp.send(b"reply")
    tcp.transport.close(linger=True)


def test_a_peek_leaves_the_octets(ends: Ends) -> None:
    ends.client.sendall(b"PROXY")
    assert ends.transport.peek(3, PATIENCE) == b"PRO"
    assert ends.transport.peek(100, PATIENCE) == b"PROXY"
    assert ends.receive() == b"PROXY"
    with pytest.raises(ClientTooSlow):
        ends.transport.peek(1, SHORT)
    ends.client.close()
    assert ends.transport.peek(1, PATIENCE) == b""


# --- sending --------------------------------------------------------------------------------------


def read_all(sock: socket.socket) -> bytes:
    received = b""
    while octets := sock.recv(65536):
        received += octets
    return received


def test_a_large_reply_arrives_whole(ends: Ends, thread: ThreadPoolExecutor) -> None:
    octets = os.urandom(2_000_000)
    received = thread.submit(read_all, ends.client)
    ends.send(octets)
    ends.transport.close(linger=False)
    assert received.result(PATIENCE) == octets


def test_nothing_to_send(ends: Ends) -> None:
    ends.send(b"")


@pytest.mark.parametrize(("seconds", "total"), [(SHORT, PATIENCE), (PATIENCE, SHORT)])
def test_a_client_that_does_not_read(ends: Ends, seconds: float, total: float) -> None:
    started = time.monotonic()
    with pytest.raises(ClientTooSlow):
        ends.send(b"x" * 50_000_000, seconds, total)
    # The kernel's own buffer may fill in two turns.
    assert time.monotonic() - started < 5 * SHORT + 5
    assert len(ends.client.recv(10_000_000)) > 0


def test_a_client_that_reads_ever_so_slowly(tcp: Ends, thread: ThreadPoolExecutor) -> None:
    """Each turn makes progress, so that only the time for all of it can end this."""
    done = threading.Event()

    def sip() -> None:
        while not done.wait(SHORT / 4):
            tcp.client.recv(200_000)

    sipping = thread.submit(sip)
    started = time.monotonic()
    try:
        with pytest.raises(ClientTooSlow):
            tcp.send(b"x" * 500_000_000, seconds=SHORT * 10, total=SHORT * 20)
    finally:
        done.set()
    assert SHORT * 19 < time.monotonic() - started < SHORT * 40 + 15
    sipping.result(PATIENCE)


def test_sending_to_a_client_that_has_gone(ends: Ends) -> None:
    ends.client.close()
    with pytest.raises(ClientGone):
        ends.send(b"x" * 10_000_000)  # More than the kernel takes before it notices.


# --- the server closes ----------------------------------------------------------------------------


def still_answers(ends: Ends) -> None:
    """The last reply goes out."""
    ends.send(b"421 closing\r\n")
    assert ends.client.recv(1000) == b"421 closing\r\n"


@pytest.mark.parametrize("method", ["receive", "peek"])
def test_interrupted_before_a_wait(ends: Ends, method: str) -> None:
    ends.client.sendall(b"NOOP\r\n")
    ends.transport.interrupt()
    for _ in range(2):
        with pytest.raises(ServerClosing):
            _ = ends.receive() if method == "receive" else ends.transport.peek(1, PATIENCE)
    still_answers(ends)


@pytest.mark.parametrize("method", ["receive", "peek"])
def test_interrupted_during_a_wait(ends: Ends, thread: ThreadPoolExecutor, method: str) -> None:
    if method == "receive":
        waiting = thread.submit(ends.receive, seconds=60.0)
    else:
        waiting = thread.submit(ends.transport.peek, 1, 60.0)
    assert ends.server.waiting.wait(PATIENCE)
    ends.transport.interrupt()
    assert isinstance(waiting.exception(PATIENCE), ServerClosing)
    with pytest.raises(ServerClosing):
        ends.receive()
    still_answers(ends)


def test_interrupted_after_a_wait(ends: Ends) -> None:
    ends.client.sendall(b"NOOP\r\n")
    assert ends.receive() == b"NOOP\r\n"
    ends.transport.interrupt()
    still_answers(ends)
    with pytest.raises(ServerClosing):
        ends.receive()


def test_interrupted_twice(ends: Ends, thread: ThreadPoolExecutor) -> None:
    waiting = thread.submit(ends.receive, seconds=60.0)
    assert ends.server.waiting.wait(PATIENCE)
    ends.transport.interrupt()
    ends.transport.interrupt()
    assert isinstance(waiting.exception(PATIENCE), ServerClosing)
    ends.server.close()
    ends.transport.interrupt()


def test_an_interruption_at_any_moment(ends: Ends, thread: ThreadPoolExecutor) -> None:
    """However the two meet: the wait ends, and nothing that came is taken for a command."""
    started = threading.Event()

    def wait() -> None:
        started.set()
        ends.receive(seconds=60.0)

    waiting = thread.submit(wait)
    assert started.wait(PATIENCE)
    ends.transport.interrupt()
    assert isinstance(waiting.exception(PATIENCE), ServerClosing)


def test_an_interruption_leaves_bodies_alone(ends: Ends, thread: ThreadPoolExecutor) -> None:
    waiting = thread.submit(ends.receive, interruptible=False)
    assert ends.server.waiting.wait(PATIENCE)
    ends.transport.interrupt()
    ends.client.sendall(b"the rest of the message")
    assert waiting.result(PATIENCE) == b"the rest of the message"
    ends.client.sendall(b"and more")
    assert ends.receive(interruptible=False) == b"and more"
    with pytest.raises(ServerClosing):
        ends.receive()
    still_answers(ends)


@pytest.mark.parametrize("interruptible", [True, False])
def test_aborted_while_it_waits(
    ends: Ends, thread: ThreadPoolExecutor, interruptible: bool
) -> None:
    waiting = thread.submit(ends.receive, seconds=60.0, interruptible=interruptible)
    assert ends.server.waiting.wait(PATIENCE)
    ends.transport.abort()
    assert waiting.result(PATIENCE) == b""


def test_aborted_while_it_sends(ends: Ends, thread: ThreadPoolExecutor) -> None:
    sending = thread.submit(ends.send, b"x" * 50_000_000, 60.0, 60.0)
    assert ends.server.waiting.wait(PATIENCE)
    ends.transport.abort()
    assert isinstance(sending.exception(PATIENCE), ClientGone)


def test_aborted_before_anything(ends: Ends) -> None:
    ends.transport.abort()
    ends.transport.abort()
    assert ends.receive() == b""
    with pytest.raises(ClientGone):
        ends.send(b"x")
    ends.transport.close(linger=True)
    ends.transport.abort()


# --- closing --------------------------------------------------------------------------------------


def test_the_last_reply_arrives_although_input_is_unread(tcp: Ends) -> None:
    tcp.client.sendall(b"x" * 200_000)
    tcp.send(b"421 too long a talk\r\n")
    tcp.client.shutdown(socket.SHUT_WR)
    tcp.transport.close(linger=True)
    # An end, and no reset.
    assert read_all(tcp.client) == b"421 too long a talk\r\n"
    assert tcp.server.fileno() < 0


def test_without_lingering_it_closes_at_once(ends: Ends) -> None:
    started = time.monotonic()
    ends.transport.close(linger=False)
    assert time.monotonic() - started < 0.4
    assert read_all(ends.client) == b""


def test_the_client_hears_the_end_before_it_is_waited_for(
    ends: Ends, thread: ThreadPoolExecutor
) -> None:
    ends.send(b"221 bye\r\n")
    closed = thread.submit(ends.transport.close, linger=True)
    assert read_all(ends.client) == b"221 bye\r\n"
    ends.client.close()
    closed.result(PATIENCE)


def test_a_client_that_stays(ends: Ends) -> None:
    started = time.monotonic()
    ends.transport.close(linger=True)
    assert 0.4 < time.monotonic() - started < 2


def test_a_client_that_never_stops_sending(ends: Ends, thread: ThreadPoolExecutor) -> None:
    sent = 0

    def talk() -> None:
        nonlocal sent
        while True:
            sent += ends.client.send(b"x" * 65536)

    talking = thread.submit(talk)
    ends.transport.close(linger=True)
    assert isinstance(talking.exception(PATIENCE), ConnectionError)
    # What it is listened to, and what the kernel takes besides.
    assert sent < 20_000_000


def test_closing_after_a_reset(tcp: Ends) -> None:
    tcp.reset()
    tcp.transport.close(linger=True)
    tcp.transport.close(linger=True)
    assert tcp.server.fileno() < 0


# --- waiting for either ---------------------------------------------------------------------------


def test_wait_readable(ends: Ends, wake_up: WakeUp) -> None:
    assert not ends.transport.wait_readable(SHORT, wake_up)
    ends.client.sendall(b"x")
    assert ends.transport.wait_readable(PATIENCE, wake_up)
    assert ends.receive() == b"x"
    ends.client.close()
    assert ends.transport.wait_readable(PATIENCE, wake_up)


@pytest.mark.parametrize("readable", [True, False])
def test_wait_readable_when_the_server_closes(
    ends: Ends, wake_up: WakeUp, thread: ThreadPoolExecutor, readable: bool
) -> None:
    waiting = thread.submit(ends.transport.wait_readable, 60.0, wake_up)
    wake_up.call()
    assert isinstance(waiting.exception(PATIENCE), ServerClosing)
    if readable:
        ends.client.sendall(b"x")
    with pytest.raises(ServerClosing):
        ends.transport.wait_readable(60.0, wake_up)


def test_the_wake_up_wakes_all(wake_up: WakeUp) -> None:
    assert not wake_up.called
    assert not wake_up.wait(SHORT)
    with ThreadPoolExecutor(5) as threads:
        waiting = [threads.submit(wake_up.wait, 60.0) for _ in range(5)]
        wake_up.call()
        assert [one.result(PATIENCE) for one in waiting] == [True] * 5
    assert wake_up.called
    wake_up.call()
    assert wake_up.wait(60.0)
    # Its descriptor stays readable for whoever polls it.
    for _ in range(2):
        assert select.select([wake_up], [], [], 0)[0] == [wake_up]


def test_the_wake_up_gives_its_descriptors_back() -> None:
    before = set(os.listdir("/proc/self/fd"))
    wake_up = WakeUp()
    wake_up.call()
    wake_up.close()
    assert set(os.listdir("/proc/self/fd")) == before
