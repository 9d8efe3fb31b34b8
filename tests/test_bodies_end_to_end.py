"""Messages from a client's socket to the callback: octet for octet, or refused, or nothing.

The same over plain TCP, STARTTLS and implicit TLS, where it makes a difference.
"""

from __future__ import annotations

import email
import email.policy
import hashlib
import io
import logging
import os
import shutil
import socket
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from blocksmtp import SMTPError, SMTPServer, SMTPSession
from blocksmtp.wire.stream import DataStream
from tests.certificates import Authority, Leaf
from tests.client import TIMEOUT, Client, Reply, connect, trusting, wait_until_idle
from tests.running import Running
from tests.wire.scripted import dot_stuffed

WIRES = ("plain", "starttls", "implicit")
every_wire = pytest.mark.parametrize("wire", WIRES)

MESSAGE = b"Subject: dots\r\n\r\n.\r\n..\r\n...a\r\nb.\r\n.c\r\n\r\nend\r\n"
QUEUED = "250 2.6.0 OK: message queued"
TOO_BIG = "552 5.3.4 Error: message exceeds fixed maximum message size"
BARE_NEWLINE = "550 5.6.11 Error: message contains bare CR or LF"
DEFECT = 451

OnData = Callable[[DataStream, SMTPSession], Any]


@pytest.fixture(scope="module")
def leaf() -> Leaf:
    return Authority().issue("mail.example.org")


class Setup:
    """A server on one kind of wire, what it got, and clients of it."""

    def __init__(self, stack: ExitStack, leaf: Leaf, wire: str, options: dict[str, Any]) -> None:
        self.wire = wire
        self.received: list[bytes] = []
        """The messages that were read to their end."""
        self.streams: list[DataStream] = []
        self.raised: list[BaseException] = []
        """What came out of a read."""
        self.senders: list[str] = []
        self.errors: list[BaseException] = []
        """What the server took for a defect."""
        self.closed: list[SMTPSession] = []
        self._stack = stack
        self.on_data: OnData = lambda stream, session: self.read(stream)
        server = SMTPServer(
            cert=leaf.cert,
            key=leaf.key,
            auth_optional=True,
            disable_reverse_lookup=True,
            on_mail_from=lambda address, session: self.senders.append(address.address),
            on_data=self._on_data,
            on_close=self.closed.append,
            **options,
        )
        server.on("error", self.errors.append)
        self.server = stack.enter_context(server)
        self.server.listen(0, "127.0.0.1", secure=wire == "implicit")

    def _on_data(self, stream: DataStream, session: SMTPSession) -> Any:
        self.streams.append(stream)
        try:
            return self.on_data(stream, session)
        except BaseException as error:
            self.raised.append(error)
            raise

    def read(self, stream: DataStream) -> None:
        self.received.append(stream.read())

    def client(self) -> Client:
        """A client that has said hello."""
        tls = trusting() if self.wire == "implicit" else None
        client = self._stack.enter_context(connect(self.server, tls=tls))
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = "LHLO client.example" if self.server.options.lmtp else "EHLO client.example"
        client.hello(hello)
        if self.wire == "starttls":
            client.upgrade()
            client.expect(250, hello)
        return client

    def data(self, *recipients: str) -> Client:
        """A client in front of its message."""
        client = self.client()
        client.envelope("a@client.example", *recipients)
        client.expect(354, "DATA")
        return client

    def ended(self) -> None:
        """Wait until no client is left."""
        wait_until_idle(self.server)


Serve = Callable[..., Setup]


@pytest.fixture
def serve(leaf: Leaf) -> Iterator[Serve]:
    """Starts a server: serve(wire, **options)."""
    with ExitStack() as stack:
        yield lambda wire="plain", **options: Setup(stack, leaf, wire, options)


def still_in_step(client: Client) -> None:
    """The next command is answered as such."""
    assert client.command("VRFY somebody").code == 252
    assert client.command("RCPT TO:<b@server.example>").code == 503, "the transaction is over"


# --- what is sent arrives -------------------------------------------------------------------------

LINE = b"x" * 68 + b"\r\n"
MESSAGES = {
    "empty": b"",
    "an empty line": b"\r\n",
    "a dot": b".\r\n",
    "only dots": b".\r\n..\r\n...\r\n.\r\n",
    "dots without end": b"." * 10_000 + b"\r\n",
    "every octet": bytes(octet for octet in range(256) if octet not in b"\r\n") + b"\r\n",
    "NUL": b"\0\r\n\0\0.\0\r\n.\0\r\n",
    "UTF-8": "Grüße aus Übersee, 你好\r\n".encode(),
    "10 MB without a line end": b"y" * 10_000_000 + b"\r\n",
    "10 MB of lines": LINE * 145_000,
    "10 MB of stuffed lines": (b"." + LINE) * 142_000,
    "random octets": os.urandom(2_000_000).replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n",
}


@every_wire
@pytest.mark.parametrize("name", MESSAGES)
def test_octet_for_octet(serve: Serve, wire: str, name: str) -> None:
    setup = serve(wire)
    client = setup.data()
    client.send(dot_stuffed(MESSAGES[name]))
    assert client.reply() == QUEUED
    # Not `==` in the assertion: ten million octets make no readable difference.
    same = setup.received == [MESSAGES[name]]
    assert same
    assert setup.streams[0].byte_length == len(MESSAGES[name])
    still_in_step(client)


@every_wire
def test_dots_at_every_split(serve: Serve, wire: str) -> None:
    # In TLS each write is a record of its own, which the server gets by itself.
    setup = serve(wire)
    client = setup.client()
    octets = dot_stuffed(MESSAGE)
    for cut in range(1, len(octets)):
        client.envelope()
        client.expect(354, "DATA")
        client.send(octets[:cut])
        client.send(octets[cut:])
        assert client.reply() == QUEUED
    assert setup.received == [MESSAGE] * (len(octets) - 1)


@every_wire
def test_dots_octet_by_octet(serve: Serve, wire: str) -> None:
    setup = serve(wire)
    client = setup.data()
    for octet in dot_stuffed(MESSAGE):
        client.send(bytes([octet]))
    assert client.reply() == QUEUED
    assert setup.received == [MESSAGE]


@every_wire
def test_commands_in_the_packet_of_the_end_mark(serve: Serve, wire: str) -> None:
    setup = serve(wire)
    client = setup.data()
    client.send(
        dot_stuffed(b"one\r\n")
        + b"MAIL FROM:<second@client.example>\r\nRCPT TO:<b@server.example>\r\nDATA\r\n"
        + dot_stuffed(b".two\r\n")
        + b"MAIL FROM:<third@client.example>\r\nQUIT\r\n"
    )
    codes = [reply.code for reply in client.replies(7)]
    assert codes == [250, 250, 250, 354, 250, 250, 221]
    assert client.rest() == b""
    assert setup.received == [b"one\r\n", b".two\r\n"]
    assert setup.senders == [f"{name}@client.example" for name in ("a", "second", "third")]


def test_message_in_the_packet_of_the_envelope(serve: Serve) -> None:
    """More than RFC 2920 allows, but there is no reason to lose it."""
    setup = serve()
    client = setup.client()
    client.send(
        b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@server.example>\r\nDATA\r\n"
        + dot_stuffed(MESSAGE)
        + b"QUIT\r\n"
    )
    assert [reply.code for reply in client.replies(5)] == [250, 250, 354, 250, 221]
    assert setup.received == [MESSAGE]


# --- memory ---------------------------------------------------------------------------------------

DIGESTING_SERVER = textwrap.dedent(
    """
    import hashlib, sys
    from blocksmtp import SMTPServer

    def on_data(stream, session):
        digest = hashlib.sha256()
        if session.envelope.mail_from.address.startswith("lines"):
            for line in stream:
                digest.update(line)
        else:
            while octets := stream.read(50_000):
                digest.update(octets)
        return f"{stream.byte_length} {digest.hexdigest()}"

    server = SMTPServer(auth_optional=True, disable_reverse_lookup=True, on_data=on_data)
    server.listen(0, "127.0.0.1", secure=sys.argv[1] == "implicit")
    print(f"listening on {server.address}", flush=True)
    server.wait()
    """
)

MEGABYTE = (b"x" * 66 + b"\r\n" + b".." + b"y" * 64 + b"\r\n") * 7_353
MEGABYTE_WITH_BARE_LF = MEGABYTE.replace(b"y\r\n", b"y\n")


def memory(process: int, entry: str) -> int:
    """VmRSS, or VmHWM, the highest that it was, in octets."""
    with open(f"/proc/{process}/status") as status:
        for line in status:
            if line.startswith(entry):
                return int(line.split()[1]) * 1024
    raise AssertionError(entry)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("wire", "sender", "piece"),
    [
        ("plain", "lines", MEGABYTE),
        ("plain", "pieces", MEGABYTE_WITH_BARE_LF),
        ("implicit", "pieces", MEGABYTE),
    ],
    ids=["in lines", "with bare LF", "in TLS"],
)
def test_300_megabytes_take_no_memory(wire: str, sender: str, piece: bytes) -> None:
    with Running([sys.executable, "-c", DIGESTING_SERVER, wire]) as running:
        process = running.process.pid

        def send(pieces: int) -> Reply:
            with connect(running.address, tls=trusting() if wire == "implicit" else None) as client:
                client.hello()
                client.envelope(f"{sender}@client.example")
                client.expect(354, "DATA")
                for _ in range(pieces):
                    client.send(piece)
                client.send(b"\r\n.\r\n")
                client.sock.settimeout(30)
                return client.reply()

        def expected(pieces: int) -> str:
            message = piece.replace(b"\r\n..", b"\r\n.").replace(b"\r\n", b"\n")
            message = message.replace(b"\n", b"\r\n")
            digest = hashlib.sha256()
            for _ in range(pieces):
                digest.update(message)
            digest.update(b"\r\n")
            return f"250 2.6.0 {len(message) * pieces + 2} {digest.hexdigest()}"

        # What a message costs once: modules, buffers, a thread.
        assert send(1) == expected(1)
        with open(f"/proc/{process}/clear_refs", "w") as reset_the_highest:
            reset_the_highest.write("5")
        before = memory(process, "VmRSS")
        assert memory(process, "VmHWM") - before < 5_000_000, "the measurement does not work"
        assert send(300) == expected(300)
        used = memory(process, "VmHWM") - before
        assert used < 30_000_000, f"{used} octets more"


# --- ways of reading ------------------------------------------------------------------------------


def copied(stream: DataStream) -> bytes:
    copy = io.BytesIO()
    shutil.copyfileobj(stream, copy)
    return copy.getvalue()


WAYS: dict[str, Callable[[DataStream], bytes]] = {
    "read": lambda stream: stream.read(),
    "iteration": b"".join,
    "copyfileobj": copied,
    "email": lambda stream: email.message_from_binary_file(
        stream, policy=email.policy.SMTP
    ).as_bytes(),
}


@every_wire
@pytest.mark.parametrize("way", WAYS)
def test_a_way_of_reading(serve: Serve, wire: str, way: str) -> None:
    setup = serve(wire)
    setup.on_data = lambda stream, session: setup.received.append(WAYS[way](stream))
    client = setup.data()
    client.send(dot_stuffed(MESSAGE))
    assert client.reply() == QUEUED
    assert setup.received == [MESSAGE]


def in_a_with(stream: DataStream, _session: SMTPSession) -> None:
    with stream:
        stream.readline()


LEFT_UNREAD: dict[str, OnData] = {
    "nothing read": lambda stream, session: None,
    "a line read": lambda stream, session: stream.readline() and None,
    "closed": in_a_with,
}


@pytest.mark.parametrize("how", LEFT_UNREAD)
@pytest.mark.parametrize("octets", [len(MESSAGE), 1_000_000])
def test_what_is_left_unread_is_discarded(serve: Serve, how: str, octets: int) -> None:
    setup = serve()
    setup.on_data = LEFT_UNREAD[how]
    client = setup.data()
    message = MESSAGE + b"x" * (octets - len(MESSAGE)) + b"\r\n"
    client.send(dot_stuffed(message))
    assert client.reply() == QUEUED
    still_in_step(client)
    (stream,) = setup.streams
    assert stream.byte_length == len(message)
    if stream.closed:
        with pytest.raises(ValueError, match="closed"):
            stream.read()
    else:
        assert stream.read() == stream.readline() == b""
        assert list(stream) == []


@every_wire
def test_the_reply_waits_for_the_end_of_the_message(serve: Serve, wire: str) -> None:
    setup = serve(wire)
    returned = threading.Event()

    def on_data(_stream: DataStream, _session: SMTPSession) -> str:
        returned.set()
        raise SMTPError("not today", 450)

    setup.on_data = on_data
    client = setup.data()
    client.send(b"the beginning")
    assert returned.wait(TIMEOUT)
    client.send(b" and the end\r\n.\r\nNOOP\r\n")
    assert client.reply().code == 450
    assert client.reply().code == 250


@pytest.mark.parametrize("read", [0, 10, -1])
def test_a_defect_of_the_callback(serve: Serve, read: int) -> None:
    setup = serve()

    def on_data(stream: DataStream, _session: SMTPSession) -> None:
        stream.read(read)
        raise RuntimeError("the secret detail")

    setup.on_data = on_data
    client = setup.data()
    client.send(dot_stuffed(MESSAGE * 1000) + b"NOOP\r\n")
    reply = client.reply()
    assert reply.code == DEFECT
    assert "secret" not in reply
    assert client.reply().code == 250
    assert setup.errors == setup.raised
    assert isinstance(setup.errors[0], RuntimeError)


# --- size -----------------------------------------------------------------------------------------

SIZE = 1000


def message_of(octets: int) -> bytes:
    return b"." * (octets - 2) + b"\r\n"


@every_wire
@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("excess", [-1, 0, 1, 2, 1_000_000])
def test_the_size_limit(serve: Serve, wire: str, excess: int, reads: bool) -> None:
    setup = serve(wire, size=SIZE)
    if not reads:
        setup.on_data = lambda stream, session: None
    client = setup.data()
    client.send(dot_stuffed(message_of(SIZE + excess)))
    assert client.reply() == (TOO_BIG if excess > 0 else QUEUED)
    assert setup.streams[0].size_exceeded == (excess > 0)
    assert setup.streams[0].byte_length == SIZE + excess
    if reads:
        assert setup.received == [message_of(SIZE + excess)[:SIZE]]
    (session,) = setup.server.connections
    assert session.transaction == (excess <= 0)
    still_in_step(client)


@pytest.mark.parametrize("code", [452, 550])
def test_the_callback_may_refuse_the_size_otherwise(serve: Serve, code: int) -> None:
    setup = serve(size=SIZE)

    def on_data(stream: DataStream, _session: SMTPSession) -> None:
        stream.read()
        assert stream.size_exceeded
        raise SMTPError("that is much", code)

    setup.on_data = on_data
    client = setup.data()
    client.send(dot_stuffed(message_of(SIZE + 1)))
    assert client.reply().code == code
    still_in_step(client)


def test_the_size_limit_in_lmtp(serve: Serve) -> None:
    setup = serve(lmtp=True, size=SIZE)
    setup.on_data = lambda stream, session: [None, SMTPError("mailbox full", 452), "stored"]
    recipients = [f"{name}@server.example" for name in ("a", "b", "c")]
    for excess, codes in ((0, [250, 452, 250]), (1, [552, 452, 552])):
        client = setup.data(*recipients)
        client.send(dot_stuffed(message_of(SIZE + excess)) + b"NOOP\r\n")
        assert [reply.code for reply in client.replies(4)] == [*codes, 250]


# --- bare newlines --------------------------------------------------------------------------------

SMUGGLED = b"MAIL FROM:<smuggler@client.example>\r\nRCPT TO:<b@server.example>\r\nDATA\r\n"
FAKE_ENDS = [
    *(b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r.\n"),
    *(b"\n\r.\n\r", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\0\n.\r\n", b"\r\n.\r\0\n"),
]


@every_wire
@pytest.mark.parametrize("policy", ["normalize", "reject", "keep"])
def test_nothing_is_smuggled(serve: Serve, wire: str, policy: str) -> None:
    setup = serve(wire, bare_newline=policy)
    client = setup.client()
    for fake_end in FAKE_ENDS:
        client.envelope()
        client.expect(354, "DATA")
        sent = b"text" + fake_end + SMUGGLED + b"more\r\n"
        client.send(sent + b".\r\n")
        bare = any(octet in fake_end.replace(b"\r\n", b"") for octet in b"\r\n")
        assert client.reply() == (BARE_NEWLINE if bare and policy == "reject" else QUEUED)
        still_in_step(client)
    assert set(setup.senders) == {"a@client.example"}
    assert len(setup.senders) == len(FAKE_ENDS)
    assert all(SMUGGLED in message for message in setup.received)
    assert setup.errors == []


SWALLOWED: dict[str, OnData] = {
    "raises what the read raised": lambda stream, session: stream.read() and None,
    "reads nothing": lambda stream, session: None,
}


def swallow(stream: DataStream, _session: SMTPSession) -> str:
    for _ in range(3):
        with pytest.raises((SMTPError, ConnectionError)):
            stream.read()
    return "stored"


def refuse_otherwise(stream: DataStream, _session: SMTPSession) -> None:
    with pytest.raises((SMTPError, ConnectionError)):
        stream.read()
    raise SMTPError("another reason", 452)


def fail(stream: DataStream, _session: SMTPSession) -> None:
    with pytest.raises((SMTPError, ConnectionError)):
        stream.read()
    raise RuntimeError("a defect")


SWALLOWED |= {"swallows it": swallow, "refuses otherwise": refuse_otherwise, "fails": fail}


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize("how", SWALLOWED)
def test_a_bare_newline_is_refused_whatever_the_callback_does(
    serve: Serve, how: str, lmtp: bool
) -> None:
    setup = serve(bare_newline="reject", lmtp=lmtp)
    setup.on_data = SWALLOWED[how]
    client = setup.data("b@server.example", "c@server.example")
    client.send(b"one\r\ntwo\nthree\r\n" + LINE * 10_000 + b".\r\n")
    replies = client.replies(2 if lmtp else 1)
    assert replies == [BARE_NEWLINE] * len(replies)
    still_in_step(client)
    (session,) = setup.server.connections
    assert session.transaction == 0
    assert [type(error) for error in setup.errors] == [RuntimeError] * (how == "fails")
    # The next message is none the worse.
    setup.on_data = lambda stream, session: setup.read(stream)
    client.envelope()
    client.expect(354, "DATA")
    client.send(dot_stuffed(MESSAGE))
    assert client.reply() == QUEUED
    assert setup.received == [MESSAGE]


# --- connections that break -----------------------------------------------------------------------


@every_wire
@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_breaks_at_every_point(
    serve: Serve, wire: str, reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    setup = serve(wire)
    octets = dot_stuffed(b"ab\r\n..c\r\n")
    for cut in range(len(octets)):
        client = setup.data()
        if cut:
            client.send(octets[:cut])
        if reset:
            client.reset()
        else:
            client.close()
        setup.ended()
    assert setup.received == []
    assert len(setup.raised) == len(octets)
    assert all(isinstance(error, ConnectionError) for error in setup.raised)
    # A client that breaks off is nobody's defect, and each had its on_close.
    assert setup.errors == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert len(setup.closed) == len(octets)
    assert {session.transaction for session in setup.closed} == {0}
    for stream in setup.streams:
        with pytest.raises(ConnectionError):
            stream.read()


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize("how", SWALLOWED)
@pytest.mark.parametrize("sent", [b"", b"half", b"half\r\n", b"half\r\n.", b"half\r\n.\r"])
def test_nothing_is_acknowledged(
    serve: Serve, how: str, sent: bytes, lmtp: bool, caplog: pytest.LogCaptureFixture
) -> None:
    setup = serve(lmtp=lmtp)
    setup.on_data = SWALLOWED[how]
    client = setup.data("b@server.example", "c@server.example")
    client.send(sent)
    # Half closed: a reply would still arrive.
    client.sock.shutdown(socket.SHUT_WR)
    assert client.rest() == b""
    setup.ended()
    assert [session.transaction for session in setup.closed] == [0]
    assert [type(error) for error in setup.errors] == [RuntimeError] * (how == "fails")


def test_a_broken_connection_shows_in_lines_and_parsers(serve: Serve) -> None:
    setup = serve()
    for way in WAYS.values():
        setup.on_data = lambda stream, session, way=way: setup.received.append(way(stream))  # type: ignore[misc]
        with setup.data() as client:
            client.send(MESSAGE[:16])
        setup.ended()
    assert setup.received == []
    assert len(setup.raised) == len(WAYS)
    assert setup.errors == []


@pytest.mark.thorough
@every_wire
@pytest.mark.parametrize("how", ["raises what the read raised", "swallows it", "reads nothing"])
def test_a_client_that_stops_in_its_message(serve: Serve, wire: str, how: str) -> None:
    setup = serve(wire, socket_timeout=0.3)
    setup.on_data = SWALLOWED[how]
    client = setup.data()
    client.send(b"half a message\r\n")
    reply = client.reply()
    assert reply.startswith("421 4.4.2 ")
    assert client.rest() == b""
    setup.ended()
    assert setup.errors == []


@every_wire
def test_a_client_that_drips(serve: Serve, wire: str) -> None:
    """Each octet comes in time, but too few of them."""
    setup = serve(wire, socket_timeout=0.3, data_min_rate=1000)
    client = setup.data()
    done = threading.Event()

    def drip() -> None:
        while not done.wait(0.02):
            client.send(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        setup.ended()
    finally:
        done.set()
        dripping.join()
    assert len(setup.raised) == 1
    assert isinstance(setup.raised[0], ConnectionError)
    assert setup.errors == []


# --- in chunks -----------------------------------------------------------------------------------


@every_wire
def test_a_large_message_in_chunks_of_every_kind(wire: str, leaf: Leaf) -> None:
    """Octets of all kinds, in chunks from none to many at once; some come with their command."""
    octets = os.urandom(3_000_000)
    sizes = [0, 1, 2, 65_536, 1_000_000, 999, 70_000]
    with ExitStack() as stack:
        setup = Setup(stack, leaf, wire, {})
        client = setup.client()
        client.envelope()
        position = 0
        for size in sizes:
            chunk = octets[position : position + size]
            client.send(b"BDAT %d\r\n" % size + chunk)
            assert str(client.reply()) == f"250 2.0.0 {size} octets received"
            position += size
        rest = octets[position:]
        client.send(b"BDAT %d LAST\r\n" % len(rest) + rest)
        assert str(client.reply()) == QUEUED
    assert setup.received == [octets]
