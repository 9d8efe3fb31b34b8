"""A server behind the proxy, with an application that notes all that could show a fault."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from blocksmtp import DataStream, SMTPServer, SMTPSession
from tests.certificates import Leaf
from tests.client import connect, serving, wait_until_idle

from .dialogue import MESSAGES, RECIPIENTS, WIRES, Outcome, play, tls_context
from .places import CIPHERTEXT
from .proxy import NONE, Fault, Link, Proxy, Then

Accepted = tuple[str, tuple[str, ...], bytes]
"""Sender, recipients and content of a message."""

EXPECTED: list[Accepted] = [(each.sender, RECIPIENTS, each.content) for each in MESSAGES]


every_dialogue = pytest.mark.parametrize(
    ("protocol", "wire"),
    [
        *(("smtp", wire) for wire in WIRES),
        ("lmtp", "plain"),
        # It makes no difference to TLS, as far as can be told.
        pytest.param("lmtp", "starttls", marks=pytest.mark.thorough),
        pytest.param("lmtp", "implicit", marks=pytest.mark.thorough),
    ],
)
both_directions = pytest.mark.parametrize("direction", ["to_server", "to_client"])


@dataclass
class Record:
    """What the application saw of one connection."""

    connected: int = 0
    closed: int = 0
    accepted: list[Accepted] = field(default_factory=list)
    """The messages that came to their end."""
    broken: int = 0
    """Messages whose read raised."""
    transactions: list[int] = field(default_factory=list)
    """`session.transaction` at each message that came to its end, and at the close."""


class Application:
    """The callbacks, and a log that keeps what is a warning or worse."""

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        """By the client's port."""
        self.errors: list[BaseException] = []
        self.warnings: list[str] = []
        self._numbers = itertools.count()
        self.logger = logging.Logger("tests.faults", logging.WARNING)
        handler = logging.Handler()
        handler.emit = self._warned  # type: ignore[method-assign]
        self.logger.addHandler(handler)

    @property
    def options(self) -> dict[str, Any]:
        """As options of a server."""
        return {
            "logger": self.logger,
            "on_connect": self._on_connect,
            "on_data": self._on_data,
            "on_close": self._on_close,
        }

    def _warned(self, record: logging.LogRecord) -> None:
        self.warnings.append(record.getMessage())

    def _on_connect(self, session: SMTPSession) -> None:
        self.records.setdefault(session.remote_port, Record()).connected += 1

    def _on_data(self, stream: DataStream, session: SMTPSession) -> None:
        record = self.records[session.remote_port]
        try:
            content = stream.read()
        except ConnectionError:
            record.broken += 1
            if next(self._numbers) % 2:
                return  # As one does who thinks that it is enough.
            raise
        envelope = session.envelope
        assert envelope.mail_from is not None
        recipients = tuple(recipient.address for recipient in envelope.rcpt_to)
        record.transactions.append(session.transaction)
        record.accepted.append((envelope.mail_from.address, recipients, content))

    def _on_close(self, session: SMTPSession) -> None:
        record = self.records[session.remote_port]
        record.closed += 1
        record.transactions.append(session.transaction)


class World:
    """A server, the proxy in front of it, and what its application sees."""

    def __init__(
        self, server: SMTPServer, proxy: Proxy, application: Application, protocol: str, wire: str
    ) -> None:
        self.server = server
        self.proxy = proxy
        self.application = application
        self.protocol = protocol
        self.wire = wire
        self.clean: Outcome
        self.to_server = self.to_client = b""
        """What passes when nothing is wrong."""
        self.ends: list[int] = []
        """Where in `to_server` each message ends; in TLS, the record that holds its end."""
        self._tls = tls_context()

    def learn(self) -> None:
        """Find out how the dialogue goes when nothing is wrong."""
        with self.proxy.connect() as link:
            self.clean = outcome = self.play(link)
        wait_until_idle(self.server)
        self.to_server, self.to_client = bytes(link.to_server.passed), bytes(link.to_client.passed)
        if self.wire == "plain":
            self.ends = [self.to_server.index(each.wire) + len(each.wire) for each in MESSAGES]
        else:
            self.ends = outcome.ends
        self.check(link, outcome)
        assert outcome.complete
        assert outcome.acknowledged == {0, 1}

    def learn_from(self, other: World) -> None:
        """Take it from another, whose time is not as short."""
        self.clean, self.ends = other.clean, other.ends
        self.to_server, self.to_client = other.to_server, other.to_client

    def play(self, link: Link, *, in_lines: bool = False) -> Outcome:
        """Be the client."""
        return play(link, self.protocol, self.wire, self._tls, in_lines=in_lines)

    def survive(self, to_server: Fault = NONE, to_client: Fault = NONE) -> Outcome:
        """The dialogue with these faults: what must hold holds, and the next client is served."""
        with self.proxy.connect(to_server, to_client) as link:
            outcome = self.play(link)
        wait_until_idle(self.server)
        self.check(link, outcome)
        self.greet()
        return outcome

    def greet(self) -> None:
        """A client in clear is served at once."""
        with connect(self.server.addresses[-1]) as client:
            client.send("QUIT\r\n")
            greeting, answer = client.replies(2)
            assert greeting.code == 220
            assert answer.code in (221, 421), "421 is for where time is short"
            port = client.sock.getsockname()[1]
        wait_until_idle(self.server)
        assert self.application.records.pop(port) == Record(1, 1, transactions=[0])

    def go_on(self) -> None:
        """The dialogue once more, and nothing wrong."""
        outcome = self.survive()
        assert outcome.complete

    def intact(self, link: Link) -> int:
        """How many octets came to the server as they were sent.

        What is spoilt in the handshake and let pass has been of no importance.
        """
        fault, passed = link.to_server.fault, len(link.to_server.passed)
        if fault.then is Then.CORRUPT and fault.after is not None:
            return passed if fault.after < self.to_server.find(CIPHERTEXT) else fault.after
        return passed

    def check(self, link: Link, outcome: Outcome) -> None:
        """What must hold for a dialogue that is over, however it went."""
        faults = f"to the server: {link.to_server.fault}; to the client: {link.to_client.fault}"
        record = self.application.records.pop(link.port, None) or Record(0, 0, transactions=[0])
        accepted = len(record.accepted)
        assert record.accepted == EXPECTED[:accepted], faults
        assert record.closed == record.connected <= 1, faults
        assert record.transactions == [*range(accepted), accepted], faults
        assert record.broken <= 1, faults

        passed = sum(end <= self.intact(link) for end in self.ends)
        assert accepted <= passed, f"accepted before its end: {faults}"
        # Nothing is lost that came whole, unless a reset or the time ran over it.
        if link.to_client.fault == NONE and link.to_server.fault.then in (Then.END, Then.CLOSE):
            assert accepted == passed, f"not accepted: {faults}"
        assert outcome.acknowledged <= set(range(accepted)), f"lost: {faults}"
        assert accepted - len(outcome.acknowledged) <= 1, f"not acknowledged: {faults}"

        replies = outcome.replies
        if {Then.STALL, Then.CORRUPT} & {link.to_server.fault.then, link.to_client.fault.then}:
            replies = [reply for reply in replies if reply.code != 421]
        clean = self.clean.replies
        assert replies == clean[: len(replies)], faults
        assert not outcome.complete or replies == clean, faults
        assert self.application.errors == [], faults
        assert self.application.warnings == [], faults


@contextmanager
def world(
    leaf: Leaf, protocol: str, wire: str, *, socket_timeout: float | None = None
) -> Iterator[World]:
    """A server that speaks `protocol`, and is reached over `wire` through the proxy."""
    if socket_timeout is not None:
        with (
            world(leaf, protocol, wire) as patient,
            _started(leaf, protocol, wire, socket_timeout=socket_timeout) as here,
        ):
            here.learn_from(patient)
            yield here
    else:
        with _started(leaf, protocol, wire) as here:
            here.learn()
            yield here


@contextmanager
def _started(leaf: Leaf, protocol: str, wire: str, **options: Any) -> Iterator[World]:
    application = Application()
    given: dict[str, Any] = {
        "lmtp": protocol == "lmtp",
        "secure": wire == "implicit",
        "cert": leaf.cert,
        "key": leaf.key,
        # Short replies leave fewer places for a fault.
        "helo_response": "%s",
        "hide_8bitmime": True,
        "hide_smtputf8": True,
        **application.options,
        **options,
    }
    if wire != "plain":
        given["disabled_commands"] = ()
    with ExitStack() as stack:
        server = stack.enter_context(serving(**given))
        server.on("error", application.errors.append)
        proxy = stack.enter_context(Proxy(server.addresses[0]))
        server.listen(0, "127.0.0.1", secure=False)
        yield World(server, proxy, application, protocol, wire)
