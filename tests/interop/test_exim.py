"""Exim as the client, which sends with BDAT where CHUNKING is offered."""

from __future__ import annotations

import logging
import os
import pwd
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blocksmtp import DataStream, SMTPAddress, SMTPError, SMTPSession

from .conftest import Program, missing
from .exim import USER, Exim
from .serving import AWKWARD, Serve, Served, large_message

FROM = "alice@example.com"
TO = "bob@example.net"

StartExim = Callable[..., Exim]


@pytest.fixture
def exim(program: Program) -> Iterator[StartExim]:
    """Prepares an Exim that sends to a server."""
    executable = program("exim4")
    if os.geteuid() != 0:
        missing("Exim must be started as root")
    try:
        pwd.getpwnam(USER)
    except KeyError:
        missing(f"there is no user {USER}")
    # Not pytest's folder, which is closed to all but one user.
    with tempfile.TemporaryDirectory(prefix="exim") as folder:
        yield lambda served, options="": Exim(executable, Path(folder), served.port, options)


@pytest.fixture
def commands(caplog: pytest.LogCaptureFixture) -> Callable[[Served], list[str]]:
    """What the clients of a server, which is closed for that, have said: the verbs."""
    caplog.set_level(logging.DEBUG, "blocksmtp")

    def commands(served: Served) -> list[str]:
        served.server.close()
        said = [record.getMessage().partition("] C: ")[2] for record in caplog.records]
        return [line.split(" ")[0] for line in said if line]

    return commands


Commands = Callable[[Served], list[str]]


@pytest.mark.parametrize(
    "message", [AWKWARD, large_message(300_000)], ids=["awkward", "many chunks"]
)
@pytest.mark.parametrize("starttls", [True, False], ids=["starttls", "clear"])
def test_every_octet_arrives(
    serve: Serve,
    exim: StartExim,
    tls: dict[str, Any],
    commands: Commands,
    message: bytes,
    starttls: bool,
) -> None:
    served = serve(**tls, disabled_commands=() if starttls else ("STARTTLS",))
    exim(served).send(message, FROM, TO)
    received = served.mailbox.only()
    # What it makes of a message is one header and line ends of its own.
    assert received.content.endswith(message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert (received.sender, received.recipients) == (FROM, [TO])
    assert received.session.transmission_type == ("ESMTPS" if starttls else "ESMTP")
    said = commands(served)
    assert "BDAT" in said
    assert "DATA" not in said


def test_without_chunking_it_says_data(serve: Serve, exim: StartExim, commands: Commands) -> None:
    served = serve(disabled_commands=("STARTTLS", "BDAT"))
    exim(served).send(AWKWARD, FROM, TO)
    assert served.mailbox.only().content.endswith(AWKWARD)
    assert "DATA" in commands(served)


def test_a_recipient_that_is_refused(serve: Serve, exim: StartExim, commands: Commands) -> None:
    def on_rcpt_to(address: SMTPAddress, session: SMTPSession) -> None:
        if address.address != TO:
            raise SMTPError("No such user here")

    served = serve(disabled_commands=("STARTTLS",), on_rcpt_to=on_rcpt_to)
    client = exim(served)
    client.send(AWKWARD, FROM, TO, "nobody@example.net")
    # The bounce for the other goes the same way.
    messages = served.mailbox.messages
    assert messages[0].recipients == [TO]
    assert "550 5.1.1 No such user here" in client.log
    assert "BDAT" in commands(served)


@pytest.mark.parametrize("octets", [0, 10, 100_000])
def test_a_message_that_is_refused_on_its_way(
    serve: Serve, exim: StartExim, commands: Commands, octets: int
) -> None:
    refused: list[int] = []

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        if session.envelope.mail_from and session.envelope.mail_from.address == FROM:
            refused.append(len(stream.read(octets)))
            raise SMTPError("We do not like it", 554, "5.6.0")

    served = serve(disabled_commands=("STARTTLS",), on_data=on_data)
    client = exim(served)
    client.send(large_message(300_000), FROM, TO)
    assert refused == [octets]
    assert "554 5.6.0 We do not like it" in client.log
    assert "BDAT" in commands(served)
