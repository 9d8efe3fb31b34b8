"""A whole dialogue for the proxy to spoil, and what must hold wherever it is spoilt.

Two messages: the first with all that an end mark can be mistaken for, the second pipelined behind
it. The client waits for its replies where it must (RFC 2920, section 3.1), so that one cut leaves
at most one message accepted of which the client has not heard.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.client import Client, Reply, trusting

from .proxy import Link

WIRES = ("plain", "starttls", "implicit")
PROTOCOLS = ("smtp", "lmtp")

RECIPIENTS = ("b@server.example", "c@server.example")
LONG = b"x" * 1_200
"""A line longer than one should be (RFC 5321, section 4.5.3.1.6)."""


@dataclass(frozen=True)
class Message:
    """A message, and what is sent for it after DATA."""

    sender: str
    content: bytes
    wire: bytes

    @property
    def envelope(self) -> tuple[bytes, ...]:
        """MAIL, RCPT and DATA."""
        recipients = [f"RCPT TO:<{recipient}>\r\n".encode() for recipient in RECIPIENTS]
        return f"MAIL FROM:<{self.sender}>\r\n".encode(), *recipients, b"DATA\r\n"


MESSAGES = (
    Message(
        "one@client.example",
        b"Subject: 1\r\n\r\n.\r\n..a\r\n" + LONG + b".\r\nb\r\nc\r\n\r\n",
        b"Subject: 1\r\n\r\n..\r\n...a\r\n" + LONG + b".\r\nb\n.c\n\r\n.\r\n",
    ),
    Message("two@client.example", b".second\r\n", b"..second\r\n.\r\n"),
)


@dataclass(frozen=True)
class Turn:
    """What the client writes at once, and the replies that it then waits for."""

    write: tuple[bytes, ...]
    replies: int
    message: int | None = None
    """The message that ends with this write's beginning: the first replies are its own."""
    handshake: bool = False
    """TLS begins after the replies."""

    def __str__(self) -> str:
        return repr(b"".join(self.write)[:20])


def turns(protocol: str, wire: str) -> Iterator[Turn]:
    """The dialogue."""
    first, second = MESSAGES
    hello = Turn((b"LHLO c\r\n" if protocol == "lmtp" else b"EHLO c\r\n",), 1)
    answers = len(RECIPIENTS) if protocol == "lmtp" else 1
    yield Turn((), 1)
    yield hello
    if wire == "starttls":
        yield Turn((b"STARTTLS\r\n",), 1, handshake=True)
        yield hello
    for command in first.envelope:
        yield Turn((command,), 1)
    yield Turn((first.wire, *second.envelope), answers + len(second.envelope), message=0)
    yield Turn((second.wire, b"QUIT\r\n"), answers + 1, message=1)


@dataclass
class Outcome:
    """What the client heard."""

    replies: list[Reply] = field(default_factory=list)
    acknowledged: set[int] = field(default_factory=set)
    """The messages that a reply said were accepted; in LMTP, for one recipient at least."""
    ends: list[int] = field(default_factory=list)
    """How many octets had come from the client when each message was answered."""
    complete: bool = False
    """The dialogue went on to its end."""


def play(
    link: Link,
    protocol: str,
    wire: str,
    tls: ssl.SSLContext,
    *,
    in_lines: bool = False,
) -> Outcome:
    """Be the client, until the dialogue ends or the connection breaks.

    `in_lines` sends each line by itself, where it is otherwise a write for each turn.
    """
    outcome = Outcome()
    with breaking_off():
        if wire == "implicit":
            link.client.start_tls(tls)
        for turn in turns(protocol, wire):
            _write(link.client, turn, in_lines=in_lines)
            _listen(link, protocol, turn, outcome)
            if turn.handshake:
                _upgrade(link.client, tls)
        outcome.complete = link.client.rest() == b"" and outcome.replies[-1].code == 221
    return outcome


class _ClosingSocket(ssl.SSLSocket):
    """One that closes where the connection is broken before the handshake: `ssl` forgets to."""

    def getpeername(self) -> Any:
        try:
            return super().getpeername()
        except OSError as error:
            self.close()
            raise ConnectionResetError("broken before the handshake") from error


def tls_context() -> ssl.SSLContext:
    """A client's context that takes any certificate, and a connection that is broken."""
    context = trusting()
    context.sslsocket_class = _ClosingSocket
    # Small keys keep the handshake, and with it the number of places for a fault, small.
    context.set_ecdh_curve("prime256v1")
    return context


@contextlib.contextmanager
def breaking_off() -> Iterator[None]:
    """A connection that breaks ends the block; one that hangs is an error."""
    try:
        yield
    except TimeoutError:
        raise
    except OSError:  # ssl.SSLError is one, too
        pass


def _write(client: Client, turn: Turn, *, in_lines: bool) -> None:
    octets = b"".join(turn.write)
    if in_lines:
        for line in octets.splitlines(keepends=True):
            client.send(line)
    elif octets:
        client.send(octets)


def _upgrade(client: Client, tls: ssl.SSLContext) -> None:
    if client._buffer:
        # An alert: the server was cut off while it waited for the handshake.
        raise ConnectionError("the server has ended the handshake")
    client.start_tls(tls)


def _listen(link: Link, protocol: str, turn: Turn, outcome: Outcome) -> None:
    answers = 0
    if turn.message is not None:
        answers = len(RECIPIENTS) if protocol == "lmtp" else 1
    for number in range(turn.replies):
        reply = link.client.reply()
        outcome.replies.append(reply)
        if number < answers and reply.code == 250 and turn.message is not None:
            outcome.acknowledged.add(turn.message)
        if number == answers - 1:
            outcome.ends.append(len(link.to_server.passed))
