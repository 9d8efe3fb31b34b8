"""The TLS transport: every wait has an end, and every end of the connection its name."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any, TypeVar, cast

import pytest
from OpenSSL import SSL

from blocksmtp.errors import ClientGone, ClientTooSlow, HandshakeFailed, ServerClosing
from blocksmtp.wire.tls import TLSTransport
from blocksmtp.wire.tls_context import SecureContexts
from blocksmtp.wire.transport import WakeUp
from tests.certificates import Authority
from tests.client import trusting
from tests.wire.handshakes import NAME, both_protocols, build, restrict
from tests.wire.test_transport import tcp_pair

PATIENCE = 10.0  # seconds that a test waits for what must happen at once
SHORT = 0.1  # seconds, where the wait itself is what is tested
YEAR = 31_536_000.0

_Result = TypeVar("_Result")


class Client:
    """The client's end, which can send any part of what TLS wants to send."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing)

    def hello(self) -> bytes:
        """The octets of a ClientHello."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._outgoing.read()

    def encrypted(self, octets: bytes) -> bytes:
        """`octets` as they go over the wire."""
        self.tls.write(octets)
        return self._outgoing.read()

    def goodbye(self) -> bytes:
        """TLS's own end of the connection, as it goes over the wire."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._outgoing.read()

    def handshake(self) -> None:
        self._until_done(self.tls.do_handshake)

    def send(self, octets: bytes) -> None:
        self.sock.sendall(self.encrypted(octets))

    def read(self, size: int = 65536) -> bytes:
        """What the server sent; b"" after its good-bye, SSLEOFError where it ended without."""
        try:
            return self._until_done(lambda: self.tls.read(size))
        except ssl.SSLZeroReturnError:
            return b""

    def read_all(self) -> bytes:
        return b"".join(iter(self.read, b""))

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _until_done(self, operation: Callable[[], _Result]) -> _Result:
        while True:
            try:
                return operation()
            except ssl.SSLWantReadError:
                self._flush()
                if octets := self.sock.recv(65536):
                    self._incoming.write(octets)
                else:
                    self._incoming.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        if octets := self._outgoing.read():
            self.sock.sendall(octets)


@pytest.fixture(scope="module")
def contexts() -> SecureContexts:
    return build(Authority().issue(NAME))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def thread(stack: ExitStack) -> ThreadPoolExecutor:
    return stack.enter_context(ThreadPoolExecutor(1))


@pytest.fixture
def wake_up(stack: ExitStack) -> WakeUp:
    return stack.enter_context(closing(WakeUp()))


class Ends:
    """Both ends of a connection, before the handshake."""

    def __init__(
        self, stack: ExitStack, contexts: SecureContexts, client: ssl.SSLContext, wake_up: WakeUp
    ) -> None:
        ours, theirs = tcp_pair()
        stack.enter_context(ours)
        self.client = Client(ours, client)
        self.server = stack.enter_context(theirs)
        self.wake_up = wake_up
        self.transport = TLSTransport(contexts.connection(theirs), theirs, wake_up)

    def receive(
        self, size: int = 1000, seconds: float = PATIENCE, *, interruptible: bool = True
    ) -> bytes:
        return self.transport.receive(size, seconds, interruptible=interruptible)


@pytest.fixture
def fresh(stack: ExitStack, contexts: SecureContexts, wake_up: WakeUp) -> Ends:
    """A connection before its handshake."""
    return Ends(stack, contexts, trusting(), wake_up)


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name)
def ends(
    request: pytest.FixtureRequest,
    stack: ExitStack,
    contexts: SecureContexts,
    wake_up: WakeUp,
    thread: ThreadPoolExecutor,
) -> Ends:
    """A connection after its handshake."""
    context = trusting()
    restrict(context, request.param)
    ends = Ends(stack, contexts, context, wake_up)
    shaken = thread.submit(ends.transport.handshake, PATIENCE)
    ends.client.handshake()
    shaken.result(PATIENCE)
    return ends


# --- receiving and sending ------------------------------------------------------------------------


@pytest.mark.parametrize("interruptible", [True, False])
def test_what_comes_is_received(ends: Ends, interruptible: bool) -> None:
    ends.client.send(b"first" + b"\0\xff")
    assert ends.receive(5, interruptible=interruptible) == b"first"
    assert ends.receive(interruptible=interruptible) == b"\0\xff"


def test_octets_that_openssl_holds_already(ends: Ends) -> None:
    ends.client.send(b"0123456789" * 100)
    assert ends.receive(10) == b"0123456789"
    # Nothing is left in the socket: a poll would wait in vain.
    assert ends.transport.wait_readable(PATIENCE, ends.wake_up)
    started = time.monotonic()
    for _ in range(99):
        assert ends.receive(10) == b"0123456789"
    assert time.monotonic() - started < PATIENCE
    assert not ends.transport.wait_readable(SHORT, ends.wake_up)


def test_a_large_message(ends: Ends, thread: ThreadPoolExecutor) -> None:
    octets = os.urandom(1_000_000)
    sent = thread.submit(ends.client.send, octets)
    received = bytearray()
    while len(received) < len(octets):
        received += ends.receive(65536, interruptible=False)
    assert received == octets
    sent.result(PATIENCE)


def test_a_large_reply(ends: Ends, thread: ThreadPoolExecutor) -> None:
    octets = os.urandom(3_000_000)
    received = thread.submit(ends.client.read_all)
    ends.transport.send(octets, PATIENCE, PATIENCE)
    ends.transport.close(linger=False)
    assert received.result(PATIENCE) == octets


def test_both_at_once(ends: Ends, thread: ThreadPoolExecutor) -> None:
    """Octets of the client's lie unread while the server sends more than the kernel holds."""
    ends.client.send(b"x" * 100_000)
    octets = os.urandom(3_000_000)

    def read() -> bytes:
        received = b""
        while len(received) < len(octets):
            received += ends.client.read()
        return received

    received = thread.submit(read)
    ends.transport.send(octets, PATIENCE, PATIENCE)
    assert received.result(PATIENCE) == octets
    left = 100_000
    while left:
        left -= len(ends.receive(65536))


@pytest.mark.parametrize("interruptible", [True, False])
def test_nothing_comes(ends: Ends, interruptible: bool) -> None:
    started = time.monotonic()
    with pytest.raises(ClientTooSlow):
        ends.receive(seconds=SHORT, interruptible=interruptible)
    assert SHORT - 0.02 <= time.monotonic() - started < SHORT + 5
    ends.client.send(b"late")
    assert ends.receive(interruptible=interruptible) == b"late"


def test_a_record_that_drips_is_no_progress(ends: Ends, thread: ThreadPoolExecutor) -> None:
    """Only decrypted octets count: a record of 16 KiB could be drawn out for hours."""
    record = ends.client.encrypted(b"x" * 10_000)
    done = threading.Event()

    def drip() -> None:
        for octet in record:
            ends.client.sock.sendall(bytes([octet]))
            if done.wait(SHORT / 10):
                break

    dripping = thread.submit(drip)
    started = time.monotonic()
    try:
        with pytest.raises(ClientTooSlow):
            ends.receive(seconds=2 * SHORT)
    finally:
        done.set()
    assert time.monotonic() - started < 2 * SHORT + 5
    dripping.result(PATIENCE)


@pytest.mark.parametrize(("seconds", "total"), [(SHORT, PATIENCE), (PATIENCE, SHORT)])
def test_a_client_that_does_not_read(ends: Ends, seconds: float, total: float) -> None:
    started = time.monotonic()
    with pytest.raises(ClientTooSlow):
        ends.transport.send(b"x" * 50_000_000, seconds, total)
    assert time.monotonic() - started < 3 * SHORT + 5


def test_the_longest_of_all_times(ends: Ends, thread: ThreadPoolExecutor) -> None:
    waiting = thread.submit(ends.receive, seconds=YEAR)
    ends.client.send(b"octets")
    assert waiting.result(PATIENCE) == b"octets"
    ends.transport.send(b"reply", YEAR, YEAR)
    assert ends.client.read() == b"reply"
    ends.client.send(b"more")
    assert ends.transport.wait_readable(YEAR, ends.wake_up)


# --- the end of the connection --------------------------------------------------------------------


def test_the_client_says_good_bye(ends: Ends) -> None:
    ends.client.sock.sendall(ends.client.encrypted(b"QUIT\r\n") + ends.client.goodbye())
    assert ends.receive() == b"QUIT\r\n"
    assert ends.receive() == b""
    assert ends.receive() == b""
    # Its other half is still open (RFC 8446, section 6.1).
    ends.transport.send(b"221 bye\r\n", PATIENCE, PATIENCE)
    ends.transport.close(linger=False)
    assert ends.client.read_all() == b"221 bye\r\n"


def test_the_client_goes_without_a_word(ends: Ends) -> None:
    ends.client.send(b"QUIT\r\n")
    ends.client.sock.shutdown(socket.SHUT_WR)
    assert ends.receive() == b"QUIT\r\n"
    assert ends.receive() == b""
    ends.transport.close(linger=True)


def test_the_client_goes_inside_a_record(ends: Ends) -> None:
    ends.client.sock.sendall(ends.client.encrypted(b"QUIT\r\n")[:-1])
    ends.client.sock.shutdown(socket.SHUT_WR)
    assert ends.receive() == b""
    ends.transport.close(linger=True)


def test_a_reset(ends: Ends) -> None:
    ends.client.reset()
    with pytest.raises(ClientGone):
        ends.receive()
    ends.transport.close(linger=True)
    assert ends.server.fileno() < 0


def test_sending_to_a_client_that_has_gone(ends: Ends) -> None:
    ends.client.sock.close()
    with pytest.raises(ClientGone):
        ends.transport.send(b"x" * 10_000_000, PATIENCE, PATIENCE)
    ends.transport.close(linger=True)


def test_octets_that_were_tampered_with(ends: Ends) -> None:
    record = bytearray(ends.client.encrypted(b"MAIL FROM:<a@client.example>\r\n"))
    record[-1] ^= 1
    ends.client.sock.sendall(record)
    with pytest.raises(ClientGone, match="mac"):
        ends.receive()
    ends.transport.close(linger=False)


def test_plain_octets_after_the_handshake(ends: Ends) -> None:
    ends.client.sock.sendall(b"MAIL FROM:<a@client.example>\r\n")
    with pytest.raises(ClientGone):
        ends.receive()
    ends.transport.close(linger=False)


def test_closing_says_good_bye(ends: Ends) -> None:
    ends.transport.send(b"221 bye\r\n", PATIENCE, PATIENCE)
    ends.transport.close(linger=False)
    # Without it reading would end in SSLEOFError.
    assert ends.client.read_all() == b"221 bye\r\n"
    assert ends.server.fileno() < 0


def test_the_last_reply_arrives_although_input_is_unread(
    ends: Ends, thread: ThreadPoolExecutor
) -> None:
    ends.client.send(b"x" * 100_000)
    ends.transport.send(b"421 enough\r\n", PATIENCE, PATIENCE)
    closed = thread.submit(ends.transport.close, linger=True)
    assert ends.client.read_all() == b"421 enough\r\n"
    # An end, and no reset.
    assert ends.client.sock.recv(1000) == b""
    ends.client.sock.close()
    closed.result(PATIENCE)


def test_closing_while_nobody_reads(ends: Ends) -> None:
    with pytest.raises(ClientTooSlow):
        ends.transport.send(b"x" * 50_000_000, SHORT, SHORT)
    started = time.monotonic()
    ends.transport.close(linger=True)
    assert time.monotonic() - started < 2


# --- the server closes ----------------------------------------------------------------------------


def test_a_wait_ends_when_the_server_closes(ends: Ends, thread: ThreadPoolExecutor) -> None:
    waiting = thread.submit(ends.receive, seconds=60.0)
    ends.transport.interrupt()
    ends.wake_up.call()
    assert isinstance(waiting.exception(PATIENCE), ServerClosing)
    # Also where something is there to be read.
    ends.client.send(b"NOOP\r\n")
    with pytest.raises(ServerClosing):
        ends.receive()
    # The last reply goes out, and more of a message may come in.
    ends.transport.send(b"421 closing\r\n", PATIENCE, PATIENCE)
    assert ends.client.read() == b"421 closing\r\n"
    assert ends.receive(interruptible=False) == b"NOOP\r\n"


def test_a_body_is_waited_for_while_the_server_closes(
    ends: Ends, thread: ThreadPoolExecutor
) -> None:
    ends.wake_up.call()
    waiting = thread.submit(ends.receive, interruptible=False)
    ends.client.send(b"the rest")
    assert waiting.result(PATIENCE) == b"the rest"


def test_octets_at_hand_are_no_commands_any_more(ends: Ends) -> None:
    ends.client.send(b"NOOP\r\nNOOP\r\n")
    assert ends.receive(6) == b"NOOP\r\n"
    ends.wake_up.call()
    with pytest.raises(ServerClosing):
        ends.receive(6)


@pytest.mark.parametrize("interruptible", [True, False])
def test_aborted_while_it_waits(
    ends: Ends, thread: ThreadPoolExecutor, interruptible: bool
) -> None:
    waiting = thread.submit(ends.receive, seconds=60.0, interruptible=interruptible)
    ends.transport.abort()
    assert waiting.result(PATIENCE) == b""
    ends.transport.close(linger=True)
    ends.transport.abort()


def test_aborted_while_it_sends(ends: Ends, thread: ThreadPoolExecutor) -> None:
    sending = thread.submit(ends.transport.send, b"x" * 50_000_000, 60.0, 60.0)
    received = 0
    while received < 100_000:  # More than the session tickets of TLS 1.3.
        received += len(ends.client.sock.recv(1000))
    ends.transport.abort()
    assert isinstance(sending.exception(PATIENCE), ClientGone)


# --- handshakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"EHLO client.example\r\n", "wrong version|record"),
        (b"QUIT\r\n", "wrong version|record"),
        (b"GET / HTTP/1.1\r\nHost: mail.example.org\r\n\r\n", "http request"),
        (b"\0" * 100, "wrong version|record"),
        (b"\xff" * 100, "wrong version|record"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", ""),
        (b"\x16\x03\x01\xff\xff" + b"\x01" * 70_000, ""),
        (b"\x15\x03\x01\x00\x02\x02\x28", "unexpected message"),
    ],
)
def test_octets_that_are_no_handshake(fresh: Ends, octets: bytes, reason: str) -> None:
    fresh.client.sock.sendall(octets)
    with pytest.raises(HandshakeFailed, match=f"(?i){reason}"):
        fresh.transport.handshake(PATIENCE)
    fresh.client.sock.close()
    fresh.transport.close(linger=True)
    assert fresh.server.fileno() < 0


@pytest.mark.parametrize("part", [0, 1, 5, 100, -1])
def test_a_handshake_that_stops(fresh: Ends, part: int) -> None:
    fresh.client.sock.sendall(fresh.client.hello()[:part])
    started = time.monotonic()
    with pytest.raises(HandshakeFailed):
        fresh.transport.handshake(SHORT)
    assert SHORT - 0.02 <= time.monotonic() - started < SHORT + 5
    fresh.client.sock.close()
    fresh.transport.close(linger=True)


@pytest.mark.parametrize("part", [0, 1, 5, 100, -1, None])
def test_a_handshake_that_breaks_off(fresh: Ends, part: int | None) -> None:
    fresh.client.sock.sendall(fresh.client.hello()[:part])
    fresh.client.sock.close()
    with pytest.raises(HandshakeFailed):
        fresh.transport.handshake(PATIENCE)
    fresh.transport.close(linger=True)


@pytest.mark.parametrize("part", [0, 100])
def test_a_handshake_that_is_reset(fresh: Ends, part: int) -> None:
    fresh.client.sock.sendall(fresh.client.hello()[:part])
    fresh.client.reset()
    with pytest.raises(HandshakeFailed):
        fresh.transport.handshake(PATIENCE)
    fresh.transport.close(linger=True)


def test_a_handshake_that_drips(fresh: Ends, thread: ThreadPoolExecutor) -> None:
    hello = fresh.client.hello()
    done = threading.Event()

    def drip() -> None:
        for octet in hello:
            fresh.client.sock.sendall(bytes([octet]))
            if done.wait(SHORT / 10):
                break

    dripping = thread.submit(drip)
    started = time.monotonic()
    try:
        with pytest.raises(HandshakeFailed):
            fresh.transport.handshake(2 * SHORT)
    finally:
        done.set()
    assert time.monotonic() - started < 2 * SHORT + 5
    dripping.result(PATIENCE)


def test_a_handshake_octet_by_octet(fresh: Ends, thread: ThreadPoolExecutor) -> None:
    shaken = thread.submit(fresh.transport.handshake, PATIENCE)
    for octet in fresh.client.hello():
        fresh.client.sock.sendall(bytes([octet]))
    fresh.client.handshake()
    shaken.result(PATIENCE)
    fresh.client.send(b"EHLO client.example\r\n")
    assert fresh.receive() == b"EHLO client.example\r\n"


def test_a_handshake_ends_when_the_server_closes(fresh: Ends, thread: ThreadPoolExecutor) -> None:
    fresh.client.sock.sendall(fresh.client.hello()[:50])
    shaking = thread.submit(fresh.transport.handshake, 60.0)
    fresh.wake_up.call()
    assert isinstance(shaking.exception(PATIENCE), ServerClosing)
    fresh.transport.close(linger=False)


def test_a_handshake_that_is_aborted(fresh: Ends, thread: ThreadPoolExecutor) -> None:
    shaking = thread.submit(fresh.transport.handshake, 60.0)
    fresh.transport.abort()
    assert isinstance(shaking.exception(PATIENCE), HandshakeFailed)


# --- what OpenSSL wants ---------------------------------------------------------------------------


class Wanting:
    """Stands in for pyOpenSSL's connection: raises what it is told, then returns."""

    def __init__(self, *steps: Exception | object) -> None:
        self._steps = list(steps)
        self.sent: list[bytes] = []
        self.shutdowns = 0

    def _next(self) -> Any:
        step = self._steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def recv(self, _size: int) -> Any:
        return self._next()

    def send(self, octets: memoryview) -> Any:
        self.sent.append(bytes(octets))
        return self._next()

    def do_handshake(self) -> Any:
        return self._next()

    def shutdown(self) -> None:
        self.shutdowns += 1

    def pending(self) -> int:
        return 0


class Wants:
    """A transport over a `Wanting`."""

    def __init__(self, stack: ExitStack, wake_up: WakeUp) -> None:
        self.stack, self.wake_up = stack, wake_up

    def transport(self, connection: Wanting) -> tuple[TLSTransport, socket.socket]:
        ours, theirs = tcp_pair()
        self.stack.enter_context(ours)
        self.stack.enter_context(theirs)
        return TLSTransport(cast(SSL.Connection, connection), theirs, self.wake_up), ours


@pytest.fixture
def wants(stack: ExitStack, wake_up: WakeUp) -> Wants:
    return Wants(stack, wake_up)


def test_reading_may_want_to_write(wants: Wants) -> None:
    connection = Wanting(SSL.WantWriteError(), SSL.WantWriteError(), b"octets")
    transport, _ = wants.transport(connection)
    assert transport.receive(100, SHORT, interruptible=True) == b"octets"


def test_writing_may_want_to_read(wants: Wants) -> None:
    connection = Wanting(SSL.WantReadError(), 2, SSL.WantReadError(), SSL.WantWriteError(), 3)
    transport, client = wants.transport(connection)
    client.sendall(b"anything")
    transport.send(b"12345", SHORT, SHORT)
    # The same octets again until they are taken.
    assert connection.sent == [b"12345", b"12345", b"345", b"345", b"345"]


def test_writing_that_wants_to_read_in_vain(wants: Wants) -> None:
    transport, _ = wants.transport(Wanting(SSL.WantReadError(), 5))
    with pytest.raises(ClientTooSlow):
        transport.send(b"12345", SHORT, SHORT)


def test_sending_has_no_time_left(wants: Wants) -> None:
    connection = Wanting(1, 1)
    transport, _ = wants.transport(connection)
    with pytest.raises(ClientTooSlow):
        transport.send(b"12", SHORT, 0.0)
    assert connection.sent == []


@pytest.mark.parametrize(
    "error", [SSL.ZeroReturnError(), SSL.SysCallError(-1, "Unexpected EOF")], ids=repr
)
def test_the_end_comes_while_sending(wants: Wants, error: Exception) -> None:
    transport, _ = wants.transport(Wanting(2, error))
    with pytest.raises(ClientGone):
        transport.send(b"12345", SHORT, SHORT)


def test_a_handshake_may_want_either(wants: Wants) -> None:
    transport, client = wants.transport(
        Wanting(SSL.WantReadError(), SSL.WantWriteError(), SSL.WantReadError(), None)
    )
    client.sendall(b"anything")
    transport.handshake(SHORT)


def test_wanting_for_ever_is_no_progress(wants: Wants) -> None:
    """What is readable, but never becomes octets, must not keep the loop alive."""
    transport, client = wants.transport(Wanting(*[SSL.WantReadError()] * 1_000_000))
    client.sendall(b"anything")
    with pytest.raises(ClientTooSlow):
        transport.receive(100, SHORT, interruptible=False)


BROKEN = [
    SSL.SysCallError(-1, "Unexpected EOF"),
    SSL.SysCallError(104, "ECONNRESET"),
    SSL.Error([("SSL routines", "", "decryption failed or bad record mac")]),
    SSL.Error([]),
    SSL.Error(),
]


@pytest.mark.parametrize("error", BROKEN, ids=repr)
def test_openssl_is_left_alone_once_it_failed(wants: Wants, error: Exception) -> None:
    connection = Wanting(error)
    transport, client = wants.transport(connection)
    if error.args and error.args[0] == -1:
        assert transport.receive(100, SHORT, interruptible=True) == b""
    else:
        with pytest.raises(ClientGone):
            transport.receive(100, SHORT, interruptible=True)
    client.close()
    transport.close(linger=True)
    assert connection.shutdowns == 0


def test_the_reason_is_told(wants: Wants) -> None:
    transport, _ = wants.transport(Wanting(BROKEN[2]))
    with pytest.raises(HandshakeFailed) as caught:
        transport.handshake(SHORT)
    assert str(caught.value) == "decryption failed or bad record mac"


@both_protocols
def test_it_works_with_the_standard_library(
    fresh: Ends, thread: ThreadPoolExecutor, protocol: ssl.TLSVersion
) -> None:
    context = trusting()
    restrict(context, protocol)

    def talk() -> bytes:
        with context.wrap_socket(fresh.client.sock, suppress_ragged_eofs=False) as secure:
            secure.sendall(b"QUIT\r\n")
            received = secure.recv(100)
            assert secure.recv(100) == b""
            return received

    talking = thread.submit(talk)
    fresh.transport.handshake(PATIENCE)
    assert fresh.receive() == b"QUIT\r\n"
    fresh.transport.send(b"221 bye\r\n", PATIENCE, PATIENCE)
    fresh.transport.close(linger=True)
    assert talking.result(PATIENCE) == b"221 bye\r\n"
