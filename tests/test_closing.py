"""close(): idle clients are told, what is in progress finishes, and nothing is left."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

import pytest

from blocksmtp import DataStream, SMTPServer, SMTPSession
from tests.client import TIMEOUT, Client, connect, serving, trusting
from tests.closing import GOODBYE, LONG, Gate, closing, greeted, until_closing

ACCEPTED = b"250 2.6.0 OK: message queued\r\n"

in_clear_and_tls = pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])


# --- who waits for the client's next word ------------------------------------------------------


@in_clear_and_tls
@pytest.mark.parametrize(
    ("said", "answers"),
    [
        ("", 0),
        ("NOOP", 0),
        ("AUTH PLAIN\r\n", 1),
        ("AUTH LOGIN\r\ndXNlcg==\r\n", 2),
        ("AUTH LOGIN\r\ndXNl", 1),
        ("NOOP " + "x" * 10_000, 0),
        ("MAIL FROM:<a@client.example>\r\n", 1),
    ],
    ids=["idle", "in a line", "in AUTH", "further", "in a response", "too long", "transaction"],
)
def test_idle_clients_are_told(said: str, answers: int, secure: bool) -> None:
    with (
        serving(secure=secure, allow_insecure_auth=True, socket_timeout=LONG) as server,
        greeted(server) as client,
    ):
        client.send(said)
        client.replies(answers)
        server.close()
        assert client.rest() == GOODBYE


@in_clear_and_tls
def test_many_idle_clients_are_told(secure: bool) -> None:
    with serving(secure=secure) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(greeted(server)) for _ in range(20)]
        with closing(server):
            assert [client.rest() for client in clients] == [GOODBYE] * 20


def test_a_goodbye_has_no_enhanced_code_where_these_are_hidden() -> None:
    with serving(hide_enhanced_status_codes=True) as server, greeted(server) as client:
        server.close()
        assert client.rest() == GOODBYE.replace(b"4.3.2 ", b"")


@in_clear_and_tls
def test_on_a_unix_socket(secure: bool, tmp_path: Any) -> None:
    with SMTPServer(secure=secure, name="mx.example") as server:
        server.listen(tmp_path / "smtp")
        with greeted(server) as client:
            server.close()
            assert client.rest() == GOODBYE


def test_after_starttls() -> None:
    with serving(disabled_commands=()) as server, greeted(server) as client:
        client.upgrade()
        client.expect(250, "EHLO client.example")
        server.close()
        assert client.rest() == GOODBYE


# --- who has not got so far --------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02"])
def test_a_handshake_ends_at_once(said: bytes) -> None:
    with serving(secure=True, socket_timeout=LONG) as server, connect(server) as client:
        client.send(said)
        wait_for_connections(server, 1)
        server.close()
        assert client.rest() == b""


def test_a_handshake_after_starttls_ends_at_once() -> None:
    with serving(disabled_commands=(), socket_timeout=LONG) as server, greeted(server) as client:
        client.expect(220, "STARTTLS")
        server.close()
        # In clear nothing may be said, and in TLS nothing can.
        assert client.rest() == b""


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize(
    "said", [b"", b"PROXY TCP4 192.0.2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"]
)
def test_a_wait_for_a_proxy_header_ends_at_once(said: bytes, secure: bool) -> None:
    with (
        serving(use_proxy=True, secure=secure, socket_timeout=LONG) as server,
        connect(server) as client,
    ):
        client.send(said)
        wait_for_connections(server, 1)
        server.close()
        assert client.rest() == b""


@in_clear_and_tls
def test_a_greeting_delay_ends_at_once(secure: bool) -> None:
    delayed = threading.Event()
    options: dict[str, Any] = {"greeting_delay": LONG, "secure": secure}
    with (
        serving(**options, on_connect=lambda session: delayed.set()) as server,
        connect(server, tls=trusting() if secure else None) as client,
    ):
        assert delayed.wait(TIMEOUT)
        server.close()
        assert client.rest() == GOODBYE


def wait_for_connections(server: SMTPServer, count: int) -> None:
    """Wait until so many connections are there."""
    deadline = time.monotonic() + TIMEOUT
    while len(server.connections) != count:
        assert time.monotonic() < deadline


# --- what is in progress -----------------------------------------------------------------------


@in_clear_and_tls
def test_a_message_in_progress_finishes_and_is_acknowledged(secure: bool) -> None:
    received: list[bytes] = []
    reading = threading.Event()

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        reading.set()
        received.append(stream.read())

    with serving(secure=secure, on_data=on_data) as server, greeted(server) as client:
        client.envelope()
        client.expect(354, "DATA")
        client.send("one\r\n")
        assert reading.wait(TIMEOUT)
        with closing(server):
            until_closing(server)
            client.send("two\r\n")
            client.send(".\r\n")
            assert client.rest() == ACCEPTED + GOODBYE
    assert received == [b"one\r\ntwo\r\n"]


@in_clear_and_tls
def test_a_message_between_two_chunks_finishes_and_is_acknowledged(secure: bool) -> None:
    received: list[bytes] = []
    with (
        serving(
            secure=secure, on_data=lambda stream, session: received.append(stream.read())
        ) as server,
        greeted(server) as client,
    ):
        client.envelope()
        client.send("BDAT 3\r\none")
        assert client.reply().code == 250
        with closing(server):
            until_closing(server)
            client.send("BDAT 3 LAST\r\ntwo")
            assert client.rest() == ACCEPTED + GOODBYE
    assert received == [b"onetwo"]


@in_clear_and_tls
def test_the_reply_of_a_slow_callback_arrives(secure: bool) -> None:
    gate = Gate()
    with serving(secure=secure, on_mail_from=gate) as server, greeted(server) as client:
        client.send_lines("MAIL FROM:<a@client.example>")
        assert gate.entered.wait(TIMEOUT)
        with closing(server):
            until_closing(server)
            gate.may_return.set()
            assert client.rest() == b"250 2.1.0 Accepted\r\n" + GOODBYE


def test_commands_that_have_arrived_are_answered() -> None:
    gate = Gate()
    with serving(on_mail_from=gate) as server, greeted(server) as client:
        client.send_lines("MAIL FROM:<a@client.example>", "RCPT TO:<b@server.example>", "NOOP")
        assert gate.entered.wait(TIMEOUT)
        with closing(server):
            until_closing(server)
            gate.may_return.set()
            assert [reply.code for reply in client.replies(4)] == [250, 250, 250, 421]


@pytest.mark.parametrize("name", ["on_connect", "on_close"])
def test_close_waits_for_callbacks_at_both_ends(name: str) -> None:
    gate = Gate()
    with serving(**{name: gate}) as server, connect(server) as client:
        if name == "on_close":
            client.reply()
            client.expect(221, "QUIT")
            client.close()
        assert gate.entered.wait(TIMEOUT)
        with closing(server) as thread:
            until_closing(server)
            assert thread.is_alive()
            gate.may_return.set()
        assert server.connections == []


# --- what takes too long -----------------------------------------------------------------------


@in_clear_and_tls
@pytest.mark.parametrize("how", ["option", "argument"])
def test_a_message_that_does_not_end_is_broken_off(how: str, secure: bool) -> None:
    failed: list[Exception] = []
    reading = threading.Event()

    def on_data(stream: DataStream, session: SMTPSession) -> str:
        reading.set()
        with pytest.raises(ConnectionError) as caught:
            stream.read()
        failed.append(caught.value)
        return "never acknowledged"

    options = {"close_timeout": 0.2 if how == "option" else LONG, "socket_timeout": LONG}
    with (
        serving(**options, secure=secure, on_data=on_data) as server,
        greeted(server) as client,
    ):
        client.envelope()
        client.expect(354, "DATA")
        client.send("one\r\n")
        assert reading.wait(TIMEOUT)
        started = time.monotonic()
        server.close(None if how == "option" else 0.2)
        assert time.monotonic() - started < TIMEOUT
        assert client.rest() == b""
    assert len(failed) == 1


def test_what_takes_longer_than_close_timeout_is_broken_off() -> None:
    for seconds in (0, 0.2):
        gate = Gate()
        with (
            serving(close_timeout=seconds, on_mail_from=gate) as server,
            greeted(server) as client,
        ):
            client.send_lines("MAIL FROM:<a@client.example>")
            assert gate.entered.wait(TIMEOUT)
            with closing(server) as thread:
                # The connection is broken, but the callback is waited for.
                assert client.rest() == b""
                assert thread.is_alive()
                gate.may_return.set()
            assert server.connections == []


def test_a_later_close_may_be_less_patient() -> None:
    gate = Gate()
    with serving(close_timeout=LONG, on_mail_from=gate) as server, greeted(server) as client:
        client.send_lines("MAIL FROM:<a@client.example>")
        assert gate.entered.wait(TIMEOUT)
        with closing(server), closing(server, 0):
            assert client.rest() == b""
            gate.may_return.set()


@in_clear_and_tls
def test_a_client_that_does_not_read_is_broken_off(secure: bool) -> None:
    options: dict[str, Any] = {"close_timeout": 0.2, "socket_timeout": LONG, "secure": secure}
    with serving(**options) as server, greeted(server) as client:
        client.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            flood(client)
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < TIMEOUT


def flood(client: Client) -> None:
    """Talk without ever reading, until the server's replies have nowhere to go."""
    while True:
        client.send("HELP\r\n" * 1000)


@in_clear_and_tls
def test_with_no_time_at_all(secure: bool) -> None:
    with serving(secure=secure) as server, greeted(server) as client:
        server.close(timeout=0)
        # Nobody waits for the thread that says good-bye.
        assert client.rest() in (b"", GOODBYE)
        assert server.connections == []


# --- nothing is left ---------------------------------------------------------------------------


def test_nothing_is_left_of_a_busy_server() -> None:
    """The guard of conftest.py looks at threads and descriptors; here is what else there is."""
    gate = Gate()
    with serving(on_rcpt_to=gate, close_timeout=0.2) as server, contextlib.ExitStack() as stack:
        server.listen(0, "127.0.0.1", secure=True)
        clients = [stack.enter_context(greeted(server)) for _ in range(3)]
        stack.enter_context(connect(server.addresses[1]))
        clients[1].expect(250, "MAIL FROM:<a@client.example>")
        clients[1].send_lines("RCPT TO:<b@server.example>")
        clients[2].reset()
        assert gate.entered.wait(TIMEOUT)
        with closing(server):
            assert clients[1].rest() == b""
            gate.may_return.set()
        assert server.connections == []
        assert not [t for t in threading.enumerate() if t.name.startswith("blocksmtp")]
        for address in server.addresses:
            with pytest.raises(ConnectionRefusedError):
                connect(address)


def test_the_port_is_free_again() -> None:
    with serving() as server, greeted(server):
        port = server.port
        server.close()
        with SMTPServer(disabled_commands=["STARTTLS"]) as other:
            assert port is not None
            other.listen(port, "127.0.0.1")


def test_a_goodbye_reaches_a_client_that_is_still_talking() -> None:
    """Unread octets would make the kernel send a reset, which can eat the 421."""
    with serving(max_bad_commands=1) as server, connect(server) as client:
        client.hello()
        client.send("HELLO?\r\n" * 2000)
        assert client.rest() == b"421 4.7.0 Error: too many bad commands\r\n"
    assert isinstance(client.sock, socket.socket)
