"""A message cut off, and taken for whole.

An end of file looks like the end of a message to whoever only asks for the next octet: mail loses
its second half and is acknowledged, so that the sender deletes it, and what cuts it off may be an
attacker who can reset a connection (the "truncation attacks" on TLS that RFC 8446, section 6.1,
warns of). CVE-2026-45185 (Exim) is of this class: the client ended TLS in the middle of its
message, and the server read on, in clear, into memory that it had given back.

Here a message is whole when its end mark has come, and not otherwise: FIN, reset, TLS's good-bye,
TLS without one, silence and the server's own closing all make the read raise ConnectionError.
Then nothing is acknowledged, whatever the callback makes of it, and no transaction is counted.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import pytest

from blocksmtp import DataStream, SMTPError, SMTPServer, SMTPSession
from tests.client import TIMEOUT, Client, connect, serving, trusting, wait_until_idle
from tests.protocol.bench import GivenCallbacks

from .talk import Talk, codes

MESSAGE = b"Subject: pay\r\n\r\nPay 100\r\n.. and not 1000\r\n.\r\n"
# The last octets, and a few places before them.
CUTS = [0, 1, 14, 15, 16, 23, *range(len(MESSAGE) - 9, len(MESSAGE))]

OnData = Callable[[Any, SMTPSession], Any]


def read_all(stream: DataStream, session: SMTPSession) -> None:
    session.state["read"] = stream.read()


def read_lines(stream: DataStream, session: SMTPSession) -> None:
    session.state["read"] = b"".join(stream)


def copy(stream: DataStream, session: SMTPSession) -> None:
    file = BytesIO()
    shutil.copyfileobj(stream, file)
    session.state["read"] = file.getvalue()


def read_nothing(stream: DataStream, session: SMTPSession) -> str:
    return "stored"


def read_little(stream: DataStream, session: SMTPSession) -> str:
    with contextlib.suppress(ConnectionError):
        stream.read(1)
    return "stored"


def swallow(stream: DataStream, session: SMTPSession) -> Any:
    with contextlib.suppress(Exception):
        stream.read()
    return ["stored"] * len(session.envelope.rcpt_to) if session.lmtp else "stored"


def swallow_and_read_on(stream: DataStream, session: SMTPSession) -> str:
    octets = b""
    for _ in range(100):
        with contextlib.suppress(ConnectionError):
            octets += stream.read1(3)
    with contextlib.suppress(ConnectionError):
        session.state["read"] = octets + stream.read(-1)
    return "stored"


def refuse(stream: DataStream, session: SMTPSession) -> None:
    with contextlib.suppress(ConnectionError):
        stream.read()
    raise SMTPError("Not wanted", 554)


def explain(stream: DataStream, session: SMTPSession) -> None:
    try:
        stream.read()
    except ConnectionError as error:
        raise SMTPError("Disk trouble", 452) from error


def fail(stream: DataStream, session: SMTPSession) -> None:
    with contextlib.suppress(ConnectionError):
        stream.read()
    raise LookupError("a defect")


def close(stream: DataStream, session: SMTPSession) -> str:
    stream.close()
    return "stored"


WAYS: list[OnData] = [
    *(read_all, read_lines, copy, read_nothing, read_little, swallow, swallow_and_read_on),
    *(refuse, explain, fail, close),
]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@every_way
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lmtp": True},
        {"bare_newline": "reject"},
        {"bare_newline": "keep"},
        {"size": 10},
        {"size": 10, "lmtp": True, "bare_newline": "reject"},
    ],
    ids=str,
)
def test_whatever_the_callback_makes_of_it(way: OnData, options: dict[str, Any]) -> None:
    """The client ends, at any place, and could still read what it is answered."""
    for cut in CUTS:
        talk = Talk(
            b"LHLO a\r\n" if "lmtp" in options else b"EHLO a\r\n",
            b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n",
            *([MESSAGE[:cut]] if cut else []),
            callbacks=GivenCallbacks(on_data=way),
            **options,
        )
        assert talk.codes == [220, 250, 250, 250, 250, 354], cut
        assert talk.session.transaction == 0
        # The stream ends at the limit of a message too large, which is refused if it comes whole.
        assert "read" not in talk.session.state or cut > options.get("size", len(MESSAGE))


def test_that_message_whole_is_accepted() -> None:
    talk = Talk(
        b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
        MESSAGE,
        callbacks=GivenCallbacks(on_data=read_all),
    )
    assert talk.codes[-1] == 250
    assert talk.session.transaction == 1
    assert talk.session.state["read"] == b"Subject: pay\r\n\r\nPay 100\r\n. and not 1000\r\n"


def test_a_bare_newline_before_the_cut_changes_nothing() -> None:
    """A refusal would be a reply to a message that never came."""
    for way in WAYS:
        talk = Talk(
            b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
            b"one\ntwo\r\n",
            callbacks=GivenCallbacks(on_data=way),
            bare_newline="reject",
        )
        assert talk.codes[-1] == 354
        assert talk.session.transaction == 0


# --- on the wire --------------------------------------------------------------------------------


def close_notify(client: Client) -> None:
    """TLS's good-bye, then the end, as from a client that believes to be done."""
    assert isinstance(client.sock, ssl.SSLSocket)
    with contextlib.suppress(OSError):
        client.sock.unwrap()


def close_notify_then_clear(client: Client) -> None:
    """TLS's good-bye, and then the rest of the message in clear."""
    assert isinstance(client.sock, ssl.SSLSocket)
    client.sock.setblocking(False)
    # It sends its own good-bye first, and then would wait for the answer.
    with contextlib.suppress(OSError):
        client.sock.unwrap()
    with contextlib.suppress(OSError):
        socket.socket.send(client.sock, b"\r\n.\r\nQUIT\r\n")


def no_close_notify(client: Client) -> None:
    """The end of the connection, without a word of TLS, as anybody on the way can make it."""
    socket.socket.shutdown(client.sock, socket.SHUT_WR)


def half_a_record(client: Client) -> None:
    assert isinstance(client.sock, ssl.SSLSocket)
    raw = socket.socket(fileno=socket.dup(client.sock.fileno()))
    with contextlib.closing(raw):
        raw.sendall(b"\x17\x03\x03\x00\x40half")
        raw.shutdown(socket.SHUT_WR)


def forged_record(client: Client) -> None:
    """Octets that nobody with the keys has made."""
    raw = socket.socket(fileno=socket.dup(client.sock.fileno()))
    with contextlib.closing(raw):
        raw.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)


def fin(client: Client) -> None:
    client.sock.shutdown(socket.SHUT_WR)


def reset(client: Client) -> None:
    client.reset()


IN_CLEAR = [fin, reset]
IN_TLS = [
    close_notify,
    close_notify_then_clear,
    no_close_notify,
    half_a_record,
    forged_record,
    reset,
]
ENDS = [*((end, False) for end in IN_CLEAR), *((end, True) for end in IN_TLS)]


@pytest.mark.parametrize(("end", "secure"), ENDS)
@pytest.mark.parametrize("way", [read_all, swallow, read_nothing], ids=lambda way: way.__name__)
def test_however_the_connection_ends(
    end: Callable[[Client], None], secure: bool, way: OnData
) -> None:
    closed: list[SMTPSession] = []
    errors: list[Exception] = []
    with serving(secure=secure, on_data=way, on_close=closed.append) as server:
        server.on("error", errors.append)
        for cut in CUTS[-5:]:
            with in_data(server, secure) as client:
                client.send(MESSAGE[:cut])
                end(client)
                if end is not reset:
                    assert b"250" not in rest(client)
            wait_until_idle(server)
    assert [session.transaction for session in closed] == [0] * 5
    assert all("read" not in session.state for session in closed)
    assert errors == []


@contextlib.contextmanager
def in_data(server: SMTPServer, secure: bool) -> Iterator[Client]:
    """A client in front of its message."""
    with connect(server, tls=trusting() if secure else None) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.hello()
        client.envelope()
        client.expect(354, "DATA")
        yield client


def rest(client: Client) -> bytes:
    """What still comes, as it comes: TLS may be over."""
    client.sock.setblocking(True)
    client.sock.settimeout(TIMEOUT)
    received = b""
    with contextlib.suppress(OSError):
        while octets := client.sock.recv(65536):
            received += octets
    return received


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize("cut", CUTS[-3:])
def test_silence_is_no_end(cut: int, secure: bool) -> None:
    """Not even behind the dot of the end mark, or its CR."""
    closed: list[SMTPSession] = []
    options = {"on_data": swallow, "on_close": closed.append, "socket_timeout": 0.2}
    with serving(secure=secure, **options) as server:
        with in_data(server, secure) as client:
            client.send(MESSAGE[:cut])
            assert codes(client.rest()) == [421]
        wait_until_idle(server)
    (session,) = closed
    assert session.transaction == 0


def test_what_comes_after_a_silence_is_no_command() -> None:
    """The server has given the message up; what the client makes of the rest is not heard."""
    senders: list[str] = []
    given_up = threading.Event()

    def on_data(stream: Any, session: SMTPSession) -> str:
        with contextlib.suppress(ConnectionError):
            stream.read()
        given_up.set()
        return "stored"

    options = {"on_data": on_data, "socket_timeout": 0.2}
    with serving(
        on_mail_from=lambda address, session: senders.append(address.address), **options
    ) as server:
        with in_data(server, False) as client:
            client.send(MESSAGE[:20])
            assert given_up.wait(TIMEOUT)
            with contextlib.suppress(OSError):
                client.send(b"\r\n.\r\nMAIL FROM:<evil@attacker.example>\r\n")
            assert codes(client.rest()) in ([421], [])  # a reset may eat it
        wait_until_idle(server)
    assert senders == ["a@client.example"]


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize("way", [read_all, swallow], ids=lambda way: way.__name__)
def test_a_closing_server_makes_no_end(way: OnData, secure: bool) -> None:
    """It gives a message in progress some time, and then breaks it off."""
    closed: list[SMTPSession] = []
    reading = threading.Event()

    def on_data(stream: Any, session: SMTPSession) -> Any:
        assert stream.read(4) == MESSAGE[:4]
        reading.set()
        return way(stream, session)

    with (
        serving(secure=secure, on_data=on_data, on_close=closed.append) as server,
        in_data(server, secure) as client,
    ):
        client.send(MESSAGE[:-1])
        assert reading.wait(TIMEOUT)
        server.close(0.1)
        assert b"250" not in client.rest()
    (session,) = closed
    assert session.transaction == 0
    assert "read" not in session.state


def test_a_command_cut_off_is_no_command() -> None:
    """Nor does the end of the connection end a line: RCPT for a shorter domain, say."""
    heard: list[str] = []
    callbacks = GivenCallbacks(
        on_mail_from=lambda address, session: heard.append(address.raw),
        on_rcpt_to=lambda address, session: heard.append(address.raw),
        on_auth=lambda auth, session: heard.append(auth.username),
    )
    for cut_off in (b"MAIL FROM:<a@b.example>", b"MAIL FROM:<a@b.example>\r", b"AUTH LOGIN YQ=="):
        talk = Talk(b"EHLO a\r\n", cut_off, callbacks=callbacks, secure=True)
        assert talk.codes == [220, 250]
    talk = Talk(b"EHLO a\r\nMAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d.exam", callbacks=callbacks)
    assert talk.codes == [220, 250, 250]
    assert heard == ["a@b"]
