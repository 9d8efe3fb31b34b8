"""The server under test, and what it received."""

from __future__ import annotations

import dataclasses
import hashlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from blocksmtp import DataStream, SMTPEnvelope, SMTPServer, SMTPSession

HOST = "127.0.0.1"
NAME = "mail.example.org"
"""The server's name, also in its certificate."""

TIMEOUT = 20.0
"""How long anything may take, in seconds; never waited for when all is well."""

AWKWARD = (
    b"Subject: what is easily spoiled\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n"
    b"\r\n"
    b".\r\n..\r\n...\r\n.leading\r\n..two\r\ntrailing.\r\n"
    b" \r\n\t\r\n\r\n\r\n"
    b"From here and >From there\r\n"
    b"QUIT\r\nRSET\r\n" + bytes(range(128, 256)) + b"\r\n"
    b"." + b"long and without a space" * 150 + b".\r\n"
    b"the end \r\n"
)
"""A message with everything that a mail program may spoil, and that none is allowed to."""


def large_message(octets: int) -> bytes:
    """A message of about so many octets, any value among them, as binary attachments are not."""
    noise = hashlib.shake_256(b"large").digest(octets)
    # Every 256th line begins with a dot.
    lines = noise.replace(b"\r", b"").replace(b"\n", b"\r\n")
    return b"Subject: large\r\n\r\n" + lines + b"\r\n"


@dataclass(frozen=True)
class Received:
    """A message as `on_data` got it."""

    content: bytes
    session: SMTPSession
    """As it was then."""

    @property
    def envelope(self) -> SMTPEnvelope:
        return self.session.envelope

    @property
    def sender(self) -> str | None:
        return None if self.envelope.mail_from is None else self.envelope.mail_from.address

    @property
    def recipients(self) -> list[str]:
        return [recipient.address for recipient in self.envelope.rcpt_to]


class Mailbox:
    """Collects messages, and lets a test wait for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages: list[Received] = []
        self._closed: list[SMTPSession] = []

    def on_data(self, stream: DataStream, session: SMTPSession) -> None:
        """Take a message: for the option of that name, or for a callback to call."""
        content = stream.read()
        snapshot = dataclasses.replace(session, x_forward=dict(session.x_forward))
        with self._changed:
            self._messages.append(Received(content, snapshot))
            self._changed.notify_all()

    def on_close(self, session: SMTPSession) -> None:
        """Note that a connection has ended."""
        with self._changed:
            self._closed.append(session)
            self._changed.notify_all()

    @property
    def messages(self) -> list[Received]:
        """What has arrived so far."""
        with self._changed:
            return list(self._messages)

    def wait_for(self, count: int) -> list[Received]:
        """All messages, once there are `count`; fails when there are more, or too few in time."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._messages) >= count, TIMEOUT)
            assert len(self._messages) == count
            return list(self._messages)

    def wait_for_closed(self, count: int) -> list[SMTPSession]:
        """The sessions whose connection has ended, once there are `count` or more."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._closed) >= count, TIMEOUT), (
                f"{len(self._closed)} connections have ended, not {count}"
            )
            return list(self._closed)

    def only(self) -> Received:
        """The one message there is; it has been acknowledged, so it has arrived."""
        (message,) = self.messages
        return message


class CountingSocket(socket.socket):
    """A bound socket for `listen(sock=…)` that tells how many clients were accepted."""

    def __init__(self) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self.bind((HOST, 0))
        self._changed = threading.Condition()
        self._accepted = 0

    def accept(self) -> tuple[socket.socket, Any]:
        client = super().accept()
        with self._changed:
            self._accepted += 1
            self._changed.notify_all()
        return client

    def wait_for_accepted(self, count: int) -> None:
        """Wait until so many were accepted."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._accepted >= count, TIMEOUT)


@dataclass
class Served:
    """A running server."""

    server: SMTPServer
    mailbox: Mailbox
    errors: list[BaseException] = field(default_factory=list)
    """What its event "error" told of: a test that means to cause errors takes them out."""

    @property
    def port(self) -> int:
        port = self.server.port
        assert port is not None
        return port

    @property
    def address(self) -> str:
        """HOST:port."""
        return f"{HOST}:{self.port}"


class Serve(Protocol):
    """Starts a server with a mailbox: on a free port of HOST, on a Unix socket, or on `sock`."""

    def __call__(
        self,
        path: Path | None = None,
        *,
        mode: int | None = None,
        sock: socket.socket | None = None,
        **options: Any,
    ) -> Served: ...


def start(
    path: Path | None, mode: int | None, sock: socket.socket | None, options: dict[str, Any]
) -> Served:
    """Start a server; whoever calls closes it."""
    mailbox = Mailbox()
    defaults: dict[str, Any] = {
        "name": NAME,
        "auth_optional": "on_auth" not in options,
        "disable_reverse_lookup": True,
        "close_timeout": 5.0,
        "on_data": mailbox.on_data,
        "on_close": mailbox.on_close,
    }
    server = SMTPServer(**{**defaults, **options})
    served = Served(server, mailbox)
    server.on("error", served.errors.append)
    if sock is not None:
        server.listen(sock=sock)
    elif path is None:
        server.listen(0, HOST)
    else:
        server.listen(path, mode=mode)
    return served


@dataclass(frozen=True)
class Outcome:
    """What became of a program that was run."""

    status: int
    output: str
    """Standard output and standard error, what is no UTF-8 in it as surrogates."""

    def __contains__(self, text: str) -> bool:
        return text in self.output


class Run(Protocol):
    """Runs a program to its end: `run("swaks", "--to", …)`.

    Fails the test where the exit status is another than `status`; None is any.
    """

    def __call__(
        self, name: str, *arguments: object, stdin: bytes = b"", status: int | None = 0
    ) -> Outcome: ...


OnAuth = Callable[[Any, SMTPSession], Any]
