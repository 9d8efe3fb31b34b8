"""The whole dialogue in memory: no socket, no thread, no waiting.

A client is an object that is asked what it writes next. The server runs in the calling thread,
through `blocksmtp.dialogue.Dialogue`, the same as over a socket.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from blocksmtp.dialogue import Dialogue
from blocksmtp.errors import ClientGone, ServerClosing
from blocksmtp.logs import SessionLogger
from blocksmtp.options import Options, from_keywords
from blocksmtp.protocol.application import Application, Callbacks, Defect
from blocksmtp.protocol.machine import Machine
from blocksmtp.protocol.replies import Next
from blocksmtp.session import SMTPSession
from blocksmtp.wire.transport import WakeUp

from .applications import RecordedApplication
from .dialogue_files import SERVER_NAME, Mismatch, Scenario

Cut = Callable[[bytes], Iterable[bytes]]
"""Cuts a write of the client into the pieces in which the server gets it."""


class Outcome(NamedTuple):
    """What a dialogue came to."""

    answers: bytes
    calls: list[str]


class Client(Protocol):
    """The other end of a MemoryConnection."""

    def write(self, answers: bytes) -> bytes | None:
        """What it writes next, None to close. `answers` came since its last write."""

    def handshake(self, answers: bytes) -> None:
        """The server begins TLS. `answers` came since the last write."""

    def ended(self, answers: bytes) -> None:
        """The server closed. `answers` came since the last write."""


def whole(write: bytes) -> list[bytes]:
    """The cut that leaves a write in one piece."""
    return [write]


def octets(write: bytes) -> list[bytes]:
    """The cut into single octets."""
    return [write[start : start + 1] for start in range(len(write))]


def at(position: int) -> Cut:
    """The cut of each write that is long enough in two, so many octets from its start."""
    return lambda write: [write[:position], write[position:]]


class MemoryTransport:
    """The server's end of a connection that exists in memory only: see Transport."""

    def __init__(self, client: Client, cut: Cut = whole) -> None:
        self._client = client
        self._cut = cut
        self._arrived: deque[bytes] = deque()
        self._answers = bytearray()
        self._interrupted = False
        self._aborted = False
        self.closed = False

    def receive(self, size: int, seconds: float, *, interruptible: bool) -> bytes:
        """The next piece of what the client writes; `seconds` never pass."""
        self._check()
        if interruptible and self._interrupted:
            raise ServerClosing("the server is closing")
        while not self._arrived:
            write = self._client.write(self.take_answers())
            if write is None:
                return b""
            self._arrived.extend(filter(None, self._cut(write)))
        piece = self._arrived.popleft()
        if len(piece) > size:
            self._arrived.appendleft(piece[size:])
        return piece[:size]

    def send(self, octets: bytes, seconds: float, total_seconds: float) -> None:
        """Keep `octets` until the client is asked again."""
        self._check()
        self._answers += octets

    def take_answers(self) -> bytes:
        """What was sent since the client's last write."""
        answers = bytes(self._answers)
        self._answers.clear()
        return answers

    def wait_readable(self, seconds: float, wake_up: WakeUp) -> bool:
        """Whether something is left of the client's last write."""
        return bool(self._arrived)

    def interrupt(self) -> None:
        """End the next interruptible wait."""
        self._interrupted = True

    def abort(self) -> None:
        """Fail every operation from now on."""
        self._aborted = True

    def close(self, *, linger: bool) -> None:
        """Note it."""
        self.closed = True

    def _check(self) -> None:
        if self._aborted or self.closed:
            raise ClientGone("the connection is closed")


class MemoryConnection:
    """One connection of `client` to a server that has `options` and `callbacks`.

    `report(error, where)` is told of the application's defects. `secure` pretends that TLS was
    active from the start; after STARTTLS it is pretended as well.
    """

    def __init__(
        self,
        client: Client,
        options: Options,
        callbacks: Callbacks,
        report: Callable[[BaseException, str], None],
        *,
        secure: bool = False,
        cut: Cut = whole,
    ) -> None:
        self._client = client
        self._cut = cut
        self._transport = MemoryTransport(client, cut)
        self.session = SMTPSession(
            id="memory",
            server_name=options.name,
            lmtp=options.lmtp,
            secure=secure,
            local_address="127.0.0.1",
            local_port=25,
            remote_address="127.0.0.1",
            remote_port=50000,
            client_hostname="localhost",
        )
        self._application = Application(callbacks, self.session, report)
        self._machine = Machine(self.session, options, self._application)
        logger = SessionLogger(logging.getLogger("tests.memory"), self.session.id)
        self._dialogue = Dialogue(self._transport, options, logger)

    def run(self) -> None:
        """Serve the client until either closes."""
        greeting = self._machine.open()
        self._dialogue.write(greeting)
        # A client that closes is no error here.
        with contextlib.suppress(ClientGone):
            if greeting.then is Next.COMMAND:
                self._dialogue.converse(self._machine, self._upgrade)
            self._dialogue.flush()
            self._client.ended(self._transport.take_answers())
        self._transport.close(linger=False)
        with contextlib.suppress(Defect):
            self._application.call("on_close", self.session)

    def _upgrade(self) -> bool:
        self._client.handshake(self._transport.take_answers())
        self._transport = MemoryTransport(self._client, self._cut)
        self._dialogue.switch(self._transport)
        return self._machine.tls_started(object())


class ScriptedClient:
    """Plays the client of a scenario, and notes what it was answered.

    It complains in `check`, not while it runs: the server might take an exception for its own.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._answers: list[bytes] = []
        self._in_handshake = False
        self._closed_by_server = False

    @property
    def answers(self) -> bytes:
        """All that the server said."""
        return b"".join(self._answers)

    def write(self, answers: bytes) -> bytes | None:
        """See Client."""
        self._note(answers)
        turns = self._scenario.turns
        done = len(self._answers)
        # Where the handshake is due, the server should not be reading in clear.
        if done == len(turns) or turns[done - 1].handshake is not self._in_handshake:
            return None
        self._in_handshake = False
        return turns[done].octets(answers)

    def handshake(self, answers: bytes) -> None:
        """See Client."""
        self._note(answers)
        self._in_handshake = True

    def ended(self, answers: bytes) -> None:
        """See Client."""
        self._note(answers)
        self._closed_by_server = True

    def _note(self, answers: bytes) -> None:
        # After a handshake nothing was asked yet.
        if answers or not self._in_handshake:
            self._answers.append(answers)

    def check(self) -> None:
        """Raise Mismatch unless all went as the scenario says."""
        turns = self._scenario.turns
        for number, (turn, answers) in enumerate(zip(turns, self._answers, strict=False)):
            try:
                turn.check(answers)
            except Mismatch as error:
                raise Mismatch(f"turn {number}, {turn.write!r}: {error}") from None
        if len(self._answers) != len(turns):
            raise Mismatch(f"{len(self._answers)} turns of {len(turns)} were played")
        if self._closed_by_server is not self._scenario.closes:
            raise Mismatch(f"closed by the server: {self._closed_by_server}")


def play(scenario: Scenario, *, secure: bool = False, cut: Cut = whole) -> Outcome:
    """Run a scenario in memory. Raises Mismatch where it goes another way than the file says."""
    application = RecordedApplication(scenario.callbacks, scenario.shown)
    client = ScriptedClient(scenario)
    options = from_keywords(Options, {"name": SERVER_NAME, **scenario.options})
    MemoryConnection(client, options, application, application.defect, secure=secure, cut=cut).run()
    client.check()
    scenario.check_calls(application.calls)
    return Outcome(client.answers, application.calls)
