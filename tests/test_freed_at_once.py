"""A connection that has ended is freed, not left to the collector of cycles.

That one runs by the number of objects, and knows nothing of their size: a client could have the
server pile up what its connections held, one after the other.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from blocksmtp import AuthResponse, DataStream, SMTPError, SMTPSession
from blocksmtp.connection import Connection
from blocksmtp.dialogue import Dialogue
from blocksmtp.protocol.authentication import Authentication
from blocksmtp.protocol.machine import Machine
from blocksmtp.wire.reader import Reader
from blocksmtp.wire.tls import TLSTransport
from blocksmtp.wire.transport import PlainTransport
from tests.client import Client, connect, serving, trusting, wait_until_idle

# A stream and its body know each other, but nothing of these once the message is over.
HELD = (
    *(Connection, Dialogue, Machine, Authentication, Reader, PlainTransport, TLSTransport),
    SMTPSession,
)

Talk = Callable[[Client], object]


def lines(*given: str) -> Talk:
    """Say these, one after the other, and go."""

    def talk(client: Client) -> None:
        for line in given:
            client.command(line)

    return talk


def message(octets: bytes, *, stay: bool = False, reset: bool = False) -> Talk:
    """A message that may not be whole, and go: where it is whole, once it is answered."""

    def talk(client: Client) -> None:
        client.envelope()
        client.expect(354, "DATA")
        client.send(octets)
        if octets.endswith(b"\r\n.\r\n"):
            client.reply()
        elif stay:
            client.rest()
        elif reset:
            client.reset()

    return talk


TALKS: dict[str, Talk] = {
    "nothing": lambda client: None,
    "reset": Client.reset,
    "quit": lines("QUIT"),
    "commands that are refused": lines("MAIL FROM:<refuse@x>", "MAIL FROM:<fail@x>", "RCPT", "X"),
    "a line too long": lines("NOOP " + "x" * 10_000),
    "an AUTH exchange": lines("AUTH LOGIN", "dXNlcg=="),
    "a refused AUTH": lines("AUTH PLAIN AHVzZXIAcHc="),
    "an error challenge": lines("AUTH XOAUTH2 dXNlcj1hAWF1dGg9QmVhcmVyIHgBAQ=="),
    "a message": message(b"text\r\n.\r\n"),
    "a refused message": message(b"refuse\r\n.\r\n"),
    "a message that fails": message(b"fail\r\n.\r\n"),
    "a bare newline": message(b"a\nb\r\n.\r\n"),
    "a large message": message(b"x" * 2000 + b"\r\n.\r\n"),
    "a message cut off": message(b"text\r\nmore"),
    "a reset in a message": message(b"text\r\nmore", reset=True),
    "silence": lambda client: client.rest(),
    "silence in a message": message(b"text\r\nmore", stay=True),
    "HTTP": lines("GET / HTTP/1.1"),
}


def on_mail_from(address: Any, session: SMTPSession) -> None:
    if address.address.startswith("refuse"):
        raise SMTPError("no")
    if address.address.startswith("fail"):
        raise LookupError(session)


def on_data(stream: DataStream, session: SMTPSession) -> None:
    content = stream.read()
    if content.startswith(b"refuse"):
        raise SMTPError("no")
    if content.startswith(b"fail"):
        raise LookupError(stream, session)


@contextlib.contextmanager
def context(session: SMTPSession) -> Iterator[None]:
    yield


Left = Callable[[], list[str]]


@pytest.fixture
def left() -> Iterator[Left]:
    """Tells the types of what belongs to a connection and has come since; with the collector
    switched off.
    """
    gc.disable()
    gc.freeze()  # What there is already, the collector does not list: there is much of it.
    yield lambda: [type(each).__name__ for each in gc.get_objects() if isinstance(each, HELD)]
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("wire", ["clear", "STARTTLS", "TLS"])
@pytest.mark.parametrize("talk", TALKS)
def test_nothing_is_left_of_a_connection(left: Left, talk: str, wire: str) -> None:
    with serving(
        # A log may keep what it is told of, tracebacks among it.
        logger=logging.Logger("deaf", logging.CRITICAL),
        secure=wire == "TLS",
        disabled_commands=(),
        allow_insecure_auth=True,
        auth_methods=["PLAIN", "LOGIN", "XOAUTH2"],
        socket_timeout=0.7 if talk.startswith("silence") else 60.0,
        bare_newline="reject",
        size=1000,
        callback_context=context,
        on_auth=lambda auth, session: AuthResponse(data={"status": "401"}),
        on_mail_from=on_mail_from,
        on_data=on_data,
    ) as server:
        with connect(server, tls=trusting() if wire == "TLS" else None) as client:
            if talk not in ("nothing", "reset"):
                client.hello()
                if wire == "STARTTLS":
                    client.upgrade()
                    client.expect(250, "EHLO client.example")
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                TALKS[talk](client)
        wait_until_idle(server)
    # The accept loop may have had it in its hands to the last.
    assert left() == []


def test_nothing_is_left_of_handshakes_that_fail(left: Left) -> None:
    with serving(secure=True) as server:
        for octets in (b"", b"\x16\x03", b"GET / HTTP/1.1\r\n\r\n"):
            with connect(server) as client:
                client.send(octets)
        wait_until_idle(server)
    assert left() == []


def test_nothing_is_left_where_on_connect_refuses(left: Left) -> None:
    def refuse(session: SMTPSession) -> None:
        raise SMTPError("no")

    with serving(on_connect=refuse) as server:
        with connect(server) as client:
            client.rest()
        wait_until_idle(server)
    assert left() == []


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
def test_nothing_is_left_after_closing(left: Left, secure: bool) -> None:
    with serving(secure=secure) as server:
        with connect(server, tls=trusting() if secure else None) as client:
            client.hello()
            server.close()
            client.rest()
        assert left() == []


def test_what_is_left_would_be_noticed(left: Left) -> None:
    session = SMTPSession(id="one that is left")
    assert left() == [type(session).__name__]
