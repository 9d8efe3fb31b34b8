"""Deadlines: how long a client may take over anything, by a client that is just too slow."""

from __future__ import annotations

import contextlib
import itertools
import select
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from blocksmtp import DataStream, SMTPError, SMTPServer, SMTPSession
from blocksmtp.dialogue import Dialogue
from blocksmtp.logs import SessionLogger
from blocksmtp.options import Options
from tests.client import TIMEOUT, Client, connect, serving, trusting

TOO_SLOW = b"421 4.4.2 mx.example Error: timeout exceeded\r\n"
SHORT = 0.7  # seconds: enough for a handshake on a busy machine
LONG = 60.0


def drip(client: Client, octets: bytes, pause: float = 0.02) -> int:
    """Send `octets` one by one, until the server says something or ends; how many were sent."""
    for number in range(len(octets)):
        if select.select([client.sock], [], [], pause)[0]:
            return number
        with contextlib.suppress(ConnectionError):
            client.send(octets[number : number + 1])
    return len(octets)


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize("said", ["", "NOO", "AUTH PLAIN\r\n"], ids=["idle", "partial", "auth"])
def test_a_silent_client_is_told_and_closed(said: str, secure: bool) -> None:
    options: dict[str, Any] = {"socket_timeout": SHORT, "allow_insecure_auth": True}
    with (
        serving(**options, secure=secure) as server,
        connect(server, tls=trusting() if secure else None) as client,
    ):
        client.hello()
        client.send(said)
        if said.startswith("AUTH"):
            assert client.reply().code == 334
        assert client.rest() == TOO_SLOW


def test_a_client_that_says_something_in_time_is_not_silent() -> None:
    with serving(socket_timeout=1.0) as server, connect(server) as client:
        client.hello()
        assert drip(client, b"NOOP " + b"x" * 30, 0.05) == 35
        client.send("\r\n")
        assert client.reply().code == 250


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
def test_a_message_that_stops_coming_is_broken_off(secure: bool) -> None:
    failed: list[Exception] = []

    def on_data(stream: DataStream, session: SMTPSession) -> str:
        assert stream.readline() == b"line\r\n"
        with pytest.raises(ConnectionError) as caught:
            stream.read()
        failed.append(caught.value)
        return "this is not acknowledged"

    with (
        serving(socket_timeout=SHORT, on_data=on_data, secure=secure) as server,
        connect(server, tls=trusting() if secure else None) as client,
    ):
        client.hello()
        client.envelope()
        client.expect(354, "DATA")
        client.send("line\r\nthe next")
        assert client.rest() == TOO_SLOW
    assert len(failed) == 1


@pytest.mark.parametrize("said", ["", "BDA", "BDAT 5\r\nHel"], ids=["idle", "line", "chunk"])
def test_a_message_in_chunks_that_stops_coming_is_broken_off(said: str) -> None:
    failed: list[Exception] = []

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        with pytest.raises(ConnectionError) as caught:
            stream.read()
        failed.append(caught.value)

    with serving(socket_timeout=SHORT, on_data=on_data) as server, connect(server) as client:
        client.hello()
        client.envelope()
        client.send("BDAT 3\r\none")
        assert client.reply().code == 250
        client.send(said)
        assert client.rest() == TOO_SLOW
    assert len(failed) == 1
    assert not isinstance(failed[0], ConnectionAbortedError)


def test_chunks_without_octets_are_no_progress() -> None:
    with serving(transaction_timeout=SHORT, data_min_rate=0) as server, connect(server) as client:
        client.hello()
        client.envelope()
        began = time.monotonic()
        while client.command("BDAT 0") == "250 2.0.0 0 octets received":
            assert time.monotonic() - began < TIMEOUT
        assert time.monotonic() - began >= SHORT / 2


def test_a_refused_chunk_that_stops_coming_is_broken_off() -> None:
    with serving(socket_timeout=SHORT) as server, connect(server) as client:
        client.hello()
        client.send("BDAT 300\r\none")
        assert client.rest() == TOO_SLOW


def test_a_client_that_takes_no_reply_is_closed(tmp_path: Path) -> None:
    """On a Unix socket, where there is little room for replies that nobody takes."""
    ended = threading.Event()
    options: dict[str, Any] = {"socket_timeout": SHORT, "disabled_commands": ["STARTTLS"]}
    with SMTPServer(**options, on_close=lambda session: ended.set()) as server:
        server.listen(tmp_path / "smtp")
        with connect(server) as client:
            client.hello()
            client.sock.settimeout(0.1)
            # It only ever talks: sooner or later the server's replies have nowhere to go.
            with contextlib.suppress(OSError):
                while not ended.is_set():
                    client.send("HELP\r\n" * 1000)
            assert ended.wait(TIMEOUT)


COMMAND_TIMEOUT = {"command_timeout": SHORT, "socket_timeout": LONG, "allow_insecure_auth": True}


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize(
    ("before", "octets"),
    [
        (b"", b"NOOP " + b"x" * 1000),
        (b"AUTH PLAIN\r\n", b"x" * 1000),
        (b"NOOP " + b"x" * 5000, b"x" * 1000),
    ],
    ids=["command", "AUTH response", "over-long line"],
)
def test_a_line_that_drips_is_broken_off(before: bytes, octets: bytes, secure: bool) -> None:
    with (
        serving(**COMMAND_TIMEOUT, secure=secure) as server,
        connect(server, tls=trusting() if secure else None) as client,
    ):
        client.hello()
        client.send(before)
        if before.startswith(b"AUTH"):
            assert client.reply().code == 334
        assert drip(client, octets) < len(octets)
        assert client.rest() == TOO_SLOW


def test_the_time_for_a_line_begins_with_its_first_octet() -> None:
    with serving(command_timeout=0.5, socket_timeout=LONG) as server, connect(server) as client:
        client.hello()
        assert select.select([client.sock], [], [], 0.8) == ([], [], [])
        client.expect(250, "NOOP")


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "STARTTLS"])
@pytest.mark.parametrize("limit", ["command_timeout", "socket_timeout"])
def test_a_handshake_that_drips_or_stops_is_closed(limit: str, implicit: bool) -> None:
    closed: list[SMTPSession] = []
    options: dict[str, Any] = {"secure": implicit, "disabled_commands": (), limit: 0.3}
    with serving(**options, on_close=closed.append) as server, connect(server) as client:
        if not implicit:
            client.hello()
            client.expect(220, "STARTTLS")
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500
        if limit == "command_timeout":
            assert drip(client, hello) < len(hello)
        else:
            client.send(hello[:3])
        assert client.rest() == b""
    assert len(closed) == (0 if implicit else 1)


@pytest.mark.parametrize("limit", ["command_timeout", "socket_timeout"])
def test_a_proxy_header_that_drips_or_stops_is_closed(limit: str) -> None:
    header = b"PROXY TCP4 192.0.2.1 198.51.100.1 1024 25\r\n"
    with serving(use_proxy=True, **{limit: 0.3}) as server, connect(server) as client:
        if limit == "command_timeout":
            assert drip(client, header) < len(header)
        else:
            client.send(header[:5])
        assert client.rest() == b""


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
def test_a_message_that_drips_is_broken_off(secure: bool) -> None:
    failed: list[Exception] = []

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        with pytest.raises(ConnectionError) as caught:
            stream.read()
        failed.append(caught.value)

    options = {"socket_timeout": SHORT, "data_min_rate": 1000, "on_data": on_data}
    with (
        serving(**options, secure=secure) as server,
        connect(server, tls=trusting() if secure else None) as client,
    ):
        client.hello()
        client.envelope()
        client.expect(354, "DATA")
        assert drip(client, b"x" * 1000) < 1000
        assert client.rest() == TOO_SLOW
    assert len(failed) == 1


def test_without_a_rate_a_message_may_drip() -> None:
    with serving(socket_timeout=SHORT, data_min_rate=0) as server, connect(server) as client:
        client.hello()
        client.envelope()
        client.expect(354, "DATA")
        started = time.monotonic()
        while time.monotonic() - started < 2 * SHORT:
            assert drip(client, b"x") == 1
        client.send("\r\n.\r\n")
        assert client.reply().code == 250


def test_the_time_that_the_application_takes_is_not_the_client_s() -> None:
    """Only waiting for the client counts, so a slow callback breaks nobody off."""
    gate = threading.Event()

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        for _ in range(4):
            assert stream.readline() == b"x\r\n"
            gate.wait(SHORT / 3)  # longer, in all, than the window

    options = {"socket_timeout": SHORT, "data_min_rate": 1000, "on_data": on_data}
    with serving(**options) as server, connect(server) as client:
        client.hello()
        client.envelope()
        assert client.message(b"x\r\n" * 4).code == 250


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        (["NOOP"], {250}),
        (["MAIL FROM:<a@client.example>", "RSET"], {250}),
        (["AUTH PLAIN", "*", "NOOP"], {334, 501, 250}),
    ],
    ids=["nothing", "transactions", "AUTH"],
)
def test_a_client_that_keeps_every_limit_and_brings_nothing(
    lines: list[str], codes: set[int], secure: bool
) -> None:
    """Each line drips, each within its time: without a limit for all together it could go on."""
    with (
        serving(
            **{**COMMAND_TIMEOUT, "transaction_timeout": 0.5, "command_timeout": LONG},
            secure=secure,
        ) as server,
        connect(server, tls=trusting() if secure else None) as client,
    ):
        client.hello()
        started = time.monotonic()
        client.sock.settimeout(0.02)
        heard = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            for octet in itertools.cycle("".join(f"{line}\r\n" for line in lines).encode()):
                client.send(bytes([octet]))
                with contextlib.suppress(TimeoutError):
                    octets = client.sock.recv(65536)
                    heard += octets
                    if not octets:
                        break
                assert time.monotonic() - started < TIMEOUT, "it may go on for ever"
    assert heard.endswith(TOO_SLOW)
    assert {int(line[:3]) for line in heard.splitlines()[:-1]} <= codes


def test_a_client_that_brings_messages_may_stay() -> None:
    with serving(transaction_timeout=1.0) as server, connect(server) as client:
        client.hello()
        started = time.monotonic()
        while time.monotonic() - started < 2.0:
            assert select.select([client.sock], [], [], 0.2) == ([], [], [])
            client.envelope()
            assert client.message().code == 250


def test_messages_that_are_refused_are_none() -> None:
    def refuse(stream: DataStream, session: SMTPSession) -> None:
        raise SMTPError("spam")

    with (
        serving(transaction_timeout=0.5, on_data=refuse) as server,
        connect(server) as client,
    ):
        client.hello()
        started = time.monotonic()
        with contextlib.suppress(ConnectionError, AssertionError):
            while True:
                client.envelope()
                assert client.message().code == 450
                assert time.monotonic() - started < TIMEOUT, "it may go on for ever"
        assert time.monotonic() - started < TIMEOUT


def test_starttls_begins_no_new_time() -> None:
    options = Options(transaction_timeout=5.0)
    logger = SessionLogger(options.logger, "session")
    transport: Any = None
    dialogue = Dialogue(transport, options, logger)
    before = dialogue._reader._patience
    dialogue.switch(transport)
    assert dialogue._reader._patience is before


def test_a_client_that_takes_its_replies_one_by_one_uses_its_time_up(tmp_path: Path) -> None:
    """It pipelines, and reads slowly: each reply is taken, just not soon."""
    options: dict[str, Any] = {"transaction_timeout": 0.5, "disabled_commands": ["STARTTLS"]}
    ended = threading.Event()
    with SMTPServer(**options, on_close=lambda session: ended.set()) as server:
        server.listen(tmp_path / "smtp")
        with connect(server) as client:
            client.hello()
            client.sock.settimeout(0.02)
            started = time.monotonic()
            while not ended.is_set():
                with contextlib.suppress(OSError):
                    client.send("HELP\r\n" * 1000)
                with contextlib.suppress(OSError):
                    client.sock.recv(2048)
                assert time.monotonic() - started < TIMEOUT, "it may go on for ever"


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize("why", ["too large", "bare newline", "by the application"])
def test_a_refused_message_that_does_not_end_is_broken_off(why: str, secure: bool) -> None:
    def refuse(stream: DataStream, session: SMTPSession) -> None:
        raise SMTPError("We have heard enough")

    reasons: dict[str, dict[str, Any]] = {
        "too large": {"size": 100},
        "bare newline": {"bare_newline": "reject"},
        "by the application": {"on_data": refuse},
    }
    with (
        serving(**COMMAND_TIMEOUT, **reasons[why], secure=secure) as server,
        connect(server, tls=trusting() if secure else None) as client,
    ):
        client.hello()
        client.envelope()
        client.expect(354, "DATA")
        client.send(b"x\n" * 100)
        # A good deal faster than it must be.
        assert drip(client, b"x" * 1000) < 1000
        assert client.rest() == TOO_SLOW
