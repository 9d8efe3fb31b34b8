"""Every dialogue of tests/dialogues against a server: TCP, STARTTLS, implicit TLS, Unix socket."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from blocksmtp import SMTPServer
from tests.applications import RecordedApplication
from tests.certificates import Authority, Leaf
from tests.dialogue_files import SERVER_NAME, Mismatch, Scenario, Turn, scenarios

PATIENCE = 10.0  # seconds; nothing here takes one


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def leaf(authority: Authority) -> Leaf:
    return authority.issue(SERVER_NAME)


@pytest.fixture(scope="module")
def trusting(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.trusted_by(context)
    return context


class WireClient:
    """Plays the client of a scenario over a socket."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self._context = context

    def close(self) -> None:
        self.sock.close()

    def upgrade(self) -> None:
        """Do the TLS handshake."""
        self.sock = self._context.wrap_socket(self.sock, server_hostname=SERVER_NAME)

    def play(self, turn: Turn, answers: bytes) -> bytes:
        """Write what the turn says; the answer, which is what the turn says or a Mismatch."""
        write = turn.octets(answers)
        if write:
            self.sock.sendall(write)
        answers = b""
        while not turn.answered(answers):
            received = self.sock.recv(65536)
            if not received:
                turn.check(answers)
            answers += received
        return answers

    def starttls(self) -> None:
        """The upgrade that comes before a dialogue that knows nothing of it."""
        self.sock.sendall(b"STARTTLS\r\n")
        assert self.sock.recv(65536).startswith(b"220 ")
        self.upgrade()

    def rest(self, *, server_closes: bool) -> bytes:
        """What else the server says, up to its end of the connection."""
        if server_closes:
            return self._read_on()
        if isinstance(self.sock, ssl.SSLSocket):
            # Complains if anything but the server's own good-bye follows.
            self.sock = self.sock.unwrap()
        self.sock.shutdown(socket.SHUT_WR)
        return self._read_on()

    def _read_on(self) -> bytes:
        received = [self.sock.recv(65536)]
        while received[-1]:
            received.append(self.sock.recv(65536))
        return b"".join(received)


@contextmanager
def serving(
    scenario: Scenario, wire: str, application: RecordedApplication, leaf: Leaf, folder: Path
) -> Iterator[SMTPServer]:
    options: dict[str, Any] = {
        "name": SERVER_NAME,
        "cert": leaf.cert,
        "key": leaf.key,
        "logger": logging.getLogger("tests.dialogues"),
        **application.callbacks,
        **scenario.options,
    }
    with SMTPServer(**options) as server:
        server.on("error", application.defect)
        if wire == "unix":
            server.listen(str(folder / "smtp"))
        else:
            server.listen(0, "127.0.0.1", secure=wire == "implicit")
        yield server


def connect(server: SMTPServer) -> socket.socket:
    address = server.address
    if isinstance(address, tuple):
        return socket.create_connection(address, PATIENCE)
    assert address is not None
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    sock.connect(address)
    return sock


def converse(client: WireClient, scenario: Scenario, wire: str) -> None:
    """The dialogue from greeting to end. Raises Mismatch."""
    if wire == "implicit":
        client.upgrade()
    answers = b""
    for number, turn in enumerate(scenario.turns):
        try:
            answers = client.play(turn, answers)
        except Mismatch as error:
            raise Mismatch(f"turn {number}, {turn.write!r}: {error}") from None
        if turn.handshake:
            client.upgrade()
        elif wire == "starttls" and number == 0:
            client.starttls()
    rest = client.rest(server_closes=scenario.closes)
    assert rest == b""


@pytest.mark.parametrize(
    ("scenario", "wire"),
    [
        # In clear under every Python; each of the four wires where the thorough tests run.
        pytest.param(scenario, wire, marks=() if wire == "plain" else pytest.mark.thorough)
        for scenario in scenarios()
        for wire in scenario.wires
    ],
    ids=lambda value: value.name if isinstance(value, Scenario) else value,
)
def test_dialogue(
    scenario: Scenario, wire: str, leaf: Leaf, trusting: ssl.SSLContext, tmp_path: Path
) -> None:
    application = RecordedApplication(scenario.callbacks, scenario.shown)
    with (
        serving(scenario, wire, application, leaf, tmp_path) as server,
        closing(WireClient(connect(server), trusting)) as client,
    ):
        converse(client, scenario, wire)
    # The server has closed: the connection's thread has ended.
    scenario.check_calls(application.calls)
    assert (application.connected, application.closed) == (1, 1)
