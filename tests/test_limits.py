"""Limits and time-outs: what a client may use up before it is told no."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocksmtp import SMTPServer, SMTPSession
from blocksmtp.limits import ClientLimits
from tests.client import TIMEOUT, Client, connect, serving, trusting, wait_until_idle

TOO_SLOW = b"421 4.4.2 mx.example Error: timeout exceeded\r\n"
TOO_MANY = b"421 4.7.0 mx.example Too many connections, try again later\r\n"
SHORT = 0.4  # seconds
LONG = 60.0


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@contextlib.contextmanager
def busy(server: SMTPServer, count: int, **how: Any) -> Iterator[list[Client]]:
    """So many clients that have been greeted."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server, **how)) for _ in range(count)]
        for client in clients:
            assert client.reply().code == 220
        yield clients


# --- how many clients --------------------------------------------------------------------------


def test_one_client_too_many_is_told_so_at_once() -> None:
    with serving(max_clients=2) as server:
        with busy(server, 2) as clients:
            with connect(server) as refused:
                assert refused.rest() == TOO_MANY
            assert clients[0].command("NOOP").code == 250
            assert len(server.connections) == 2
        wait_until_idle(server)
        with busy(server, 2):
            pass


def test_a_refused_client_costs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    start = threading.Thread.start

    def counted(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    with serving(max_clients=1) as server, busy(server, 1):
        monkeypatch.setattr(threading.Thread, "start", counted)
        for _ in range(5):
            with connect(server) as refused:
                assert refused.rest() == TOO_MANY
        assert started == []
        monkeypatch.undo()


def test_the_accept_loop_does_not_wait_for_a_refused_client() -> None:
    with serving(max_clients=1) as server, busy(server, 1), contextlib.ExitStack() as stack:
        # None of them reads, none of them closes.
        refused = [stack.enter_context(connect(server)) for _ in range(20)]
        assert refused[-1].rest() == TOO_MANY


def test_a_refusal_is_without_enhanced_code_where_these_are_hidden() -> None:
    with (
        serving(max_clients=1, hide_enhanced_status_codes=True) as server,
        busy(server, 1),
        connect(server) as refused,
    ):
        assert refused.rest() == TOO_MANY.replace(b"4.7.0 ", b"")


def test_a_client_too_many_on_a_tls_port_is_closed() -> None:
    with (
        serving(max_clients=1, secure=True) as server,
        busy(server, 1, tls=trusting()),
        connect(server) as refused,
    ):
        assert refused.rest() == b""


def test_without_a_limit_all_are_served() -> None:
    with serving(max_clients=None) as server, busy(server, 30):
        assert len(server.connections) == 30


def test_several_listeners_share_the_limit() -> None:
    with serving(max_clients=1) as server:
        server.listen(0, "127.0.0.1")
        with busy(server, 1), connect(server.addresses[1]) as refused:
            assert refused.rest() == TOO_MANY


@pytest.mark.parametrize("end", ["quit", "close", "reset", "refused", "defect"])
def test_every_end_gives_the_place_back(end: str) -> None:
    def on_connect(session: SMTPSession) -> None:
        if end == "defect":
            raise LookupError("of the application")

    options = {"max_clients": 1, "max_clients_per_address": 1, "on_connect": on_connect}
    with serving(**options) as server:
        for _ in range(3):
            with connect(server) as client:
                greeting = client.reply()
                assert greeting.code == (421 if end == "defect" else 220)
                assert "Too many" not in greeting
                if end == "quit":
                    assert client.command("QUIT").code == 221
                elif end == "reset":
                    client.reset()
                elif end == "refused":
                    assert client.command("GET / HTTP/1.1").code == 421
            wait_until_idle(server)


# --- how many of one address -------------------------------------------------------------------


def test_one_address_may_not_take_all_places() -> None:
    with serving(max_clients_per_address=2) as server, busy(server, 2, source="127.0.0.1"):
        with connect(server, source="127.0.0.1") as refused:
            assert refused.rest() == TOO_MANY
        with busy(server, 2, source="127.0.0.2"):
            assert len(server.connections) == 4


def test_one_address_too_often_on_a_tls_port_is_closed() -> None:
    with (
        serving(max_clients_per_address=1, secure=True) as server,
        busy(server, 1, tls=trusting()),
        connect(server) as refused,
    ):
        assert refused.rest() == b""


def test_the_address_is_the_one_that_a_proxy_tells() -> None:
    def through_proxy(client: Client, address: str) -> Client:
        client.send(f"PROXY TCP4 {address} 198.51.100.1 1024 25\r\n")
        return client

    with serving(max_clients_per_address=1, use_proxy=True) as server:
        with through_proxy(connect(server), "192.0.2.1") as first:
            assert first.reply().code == 220
            with through_proxy(connect(server), "192.0.2.1") as refused:
                assert refused.rest() == TOO_MANY
            with through_proxy(connect(server), "192.0.2.2") as other:
                assert other.reply().code == 220
        wait_until_idle(server)
        with through_proxy(connect(server), "192.0.2.1") as again:
            assert again.reply().code == 220


def test_a_refused_client_of_a_proxy_was_never_there() -> None:
    closed: list[SMTPSession] = []
    with serving(max_clients_per_address=1, use_proxy=True, on_close=closed.append) as server:
        header = "PROXY TCP4 192.0.2.1 198.51.100.1 1024 25\r\n"
        with connect(server) as first, connect(server) as second:
            first.send(header)
            assert first.reply().code == 220
            second.send(header)
            assert second.rest() == TOO_MANY
        wait_until_idle(server)
    assert len(closed) == 1


def test_a_unix_socket_has_no_address_to_count(tmp_path: Path) -> None:
    with SMTPServer(max_clients_per_address=1, disabled_commands=["STARTTLS"]) as server:
        server.listen(tmp_path / "smtp")
        with busy(server, 3):
            assert len(server.connections) == 3


def test_a_client_of_ipv6_is_one_whichever_of_its_addresses_it_takes() -> None:
    limits = ClientLimits(None, 2)
    assert limits.enter_address("2001:db8::1")
    assert limits.enter_address("2001:db8::2")
    assert not limits.enter_address("2001:db8::ffff:3")
    assert limits.enter_address("2001:db8:0:1::1")
    limits.leave_address("2001:db8::2")
    assert limits.enter_address("2001:db8::ffff:3")
    for address in ("2001:db8::1", "2001:db8::ffff:3", "2001:db8:0:1::1"):
        limits.leave_address(address)
    assert limits._by_address == {}


def test_places_by_address_are_forgotten_when_they_are_free() -> None:
    limits = ClientLimits(None, 2)
    assert [limits.enter_address("192.0.2.1") for _ in range(3)] == [True, True, False]
    for _ in range(2):
        limits.leave_address("192.0.2.1")
    assert limits._by_address == {}
    assert limits.enter_address("192.0.2.1")


# --- how much of a dialogue --------------------------------------------------------------------


def test_the_last_refusal_of_credentials_is_421() -> None:
    options: dict[str, Any] = {"allow_insecure_auth": True, "on_auth": lambda auth, session: None}
    attempt = "AUTH PLAIN " + base64_of("\0user\0wrong")
    with serving(**options, max_auth_failures=2) as server, connect(server) as client:
        client.hello()
        client.expect(535, attempt)
        assert client.expect(421, attempt).lines == [
            "4.7.0 Error: too many authentication failures"
        ]
        assert client.rest() == b""
    with serving(**options) as server, connect(server) as client:
        client.hello()
        assert [client.command(attempt).code for _ in range(3)] == [535, 535, 421]
    with serving(**options, max_auth_failures=None) as server, connect(server) as client:
        client.hello()
        assert {client.command(attempt).code for _ in range(20)} == {535}


def test_recipients_above_the_limit_are_refused_and_the_others_kept() -> None:
    with serving(max_recipients=2) as server, connect(server) as client:
        client.hello()
        client.envelope("a@client.example", "b@server.example", "c@server.example")
        assert client.command("RCPT TO:<d@server.example>").startswith("452 4.5.3 ")
        assert client.message().code == 250


def test_a_command_line_may_be_so_long() -> None:
    with serving(max_command_length=600) as server, connect(server) as client:
        client.hello()
        client.expect(250, "NOOP " + "x" * (600 - len("NOOP \r\n")))
        long = client.command("NOOP " + "x" * (601 - len("NOOP \r\n")))
        assert long == "500 5.5.2 Error: line too long"
        # The rest of the line was no command, and the dialogue goes on.
        client.send_lines("NOOP " + "x" * 100_000, "RSET")
        assert [reply.code for reply in client.replies(2)] == [500, 250]


def test_auth_lines_may_be_longer_than_others() -> None:
    with (
        serving(max_command_length=600, allow_insecure_auth=True) as server,
        connect(server) as client,
    ):
        client.hello()
        password = base64_of("\0user\0" + "x" * 5000)
        client.expect(535, f"AUTH PLAIN {password}")
        client.expect(334, "AUTH PLAIN")
        client.expect(535, password)


def test_commands_before_authentication_are_counted() -> None:
    options: dict[str, Any] = {"auth_optional": False, "allow_insecure_auth": True}
    with (
        serving(**options, max_allowed_unauthenticated_commands=3) as server,
        connect(server) as client,
    ):
        client.hello()
        client.expect(250, "NOOP")
        assert client.command("NOOP") == "421 4.7.0 Error: too many unauthenticated commands"
        assert client.rest() == b""
    for unlimited in (None, False):
        with (
            serving(**options, max_allowed_unauthenticated_commands=unlimited) as server,
            connect(server) as client,
        ):
            client.hello()
            assert {client.command("NOOP").code for _ in range(20)} == {250}


def test_bad_commands_in_a_row_are_counted() -> None:
    with serving(max_bad_commands=3) as server, connect(server) as client:
        client.hello()
        for _ in range(2):
            client.expect(500, "HELLO?")
            client.expect(503, "DATA")
            client.expect(250, "NOOP")
        codes = [client.command("").code for _ in range(3)]
        assert codes == [500, 500, 421]
        assert client.rest() == b""
    with serving(max_bad_commands=None) as server, connect(server) as client:
        client.hello()
        assert {client.command("HELLO?").code for _ in range(20)} == {500}


# --- too soon -----------------------------------------------------------------------------------


def test_a_client_that_talks_before_the_greeting_is_refused() -> None:
    seen: list[str] = []
    options: dict[str, Any] = {
        "on_connect": lambda session: seen.append("on_connect"),
        "on_close": lambda session: seen.append("on_close"),
    }
    with serving(greeting_delay=LONG, **options) as server, connect(server) as client:
        client.send_lines("EHLO client.example")
        assert client.rest() == b"421 4.7.0 mx.example You talk too soon\r\n"
        wait_until_idle(server)
    assert seen == ["on_connect", "on_close"]


def test_a_client_that_waits_is_greeted() -> None:
    started = time.monotonic()
    with serving(greeting_delay=SHORT) as server, connect(server) as client:
        client.hello()
        assert time.monotonic() - started >= SHORT
        client.expect(250, "NOOP")


def test_a_client_that_talks_before_the_greeting_in_tls_is_refused() -> None:
    with (
        serving(greeting_delay=LONG, secure=True) as server,
        connect(server, tls=trusting()) as client,
    ):
        client.send_lines("EHLO client.example")
        assert client.rest() == b"421 4.7.0 mx.example You talk too soon\r\n"


# --- when the machine runs out -----------------------------------------------------------------


@pytest.mark.parametrize("shortage", [RuntimeError("can't start new thread"), MemoryError("none")])
def test_without_threads_clients_are_refused_and_later_served(
    shortage: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    failures = iter([True, True])

    def failing(thread: threading.Thread) -> None:
        if thread.name.startswith("blocksmtp ") and next(failures, False):
            raise shortage
        start(thread)

    seen: list[Exception] = []
    closed: list[SMTPSession] = []
    with serving(max_clients=1, max_clients_per_address=1, on_close=closed.append) as server:
        server.on("error", seen.append)
        monkeypatch.setattr(threading.Thread, "start", failing)
        for _ in range(2):
            with connect(server) as refused:
                assert refused.rest() == TOO_MANY
        with connect(server) as client:
            client.hello()
        wait_until_idle(server)
    assert set(seen) == {shortage}
    assert len(closed) == 1


def test_without_descriptors_clients_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    from blocksmtp.listener import Listener

    get_request = Listener.get_request
    failures = iter([24, 23, 24])  # EMFILE, ENFILE

    def failing(listener: Listener) -> Any:
        number = next(failures, None)
        if number is not None:
            raise OSError(number, "Too many open files")
        return get_request(listener)

    seen: list[Exception] = []
    with serving() as server:
        server.on("error", seen.append)
        monkeypatch.setattr(Listener, "get_request", failing)
        with connect(server) as client:
            client.hello()
    assert len(seen) == 1, "one shortage is told once"
    assert next(failures, None) is None


def test_a_closing_server_does_not_wait_for_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    from blocksmtp import listener

    short = threading.Event()

    def failing(server: listener.Listener) -> Any:
        short.set()
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(listener, "_EXHAUSTED_SECONDS", LONG)
    monkeypatch.setattr(listener.Listener, "get_request", failing)
    with serving() as server, connect(server) as client:
        assert short.wait(TIMEOUT)
        server.close()
        assert client.rest() == b""


@pytest.mark.parametrize("number", [103, 71], ids=["ECONNABORTED", "EPROTO"])
def test_a_client_that_is_gone_already_is_no_error(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blocksmtp.listener import Listener

    get_request = Listener.get_request
    failures = iter([number])

    def failing(listener: Listener) -> Any:
        for failure in failures:
            raise OSError(failure, "gone")
        return get_request(listener)

    seen: list[Exception] = []
    with serving() as server:
        server.on("error", seen.append)
        monkeypatch.setattr(Listener, "get_request", failing)
        with connect(server) as client:
            client.hello()
    assert seen == []


def test_a_connection_that_cannot_begin_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from blocksmtp.connection import Connection

    def failing(connection: Connection, remote: object) -> SMTPSession:
        monkeypatch.undo()
        raise OSError("out of luck")

    seen: list[Exception] = []
    with serving(max_clients=1) as server:
        server.on("error", seen.append)
        monkeypatch.setattr(Connection, "_new_session", failing)
        with connect(server) as client:
            assert client.rest() == b""
        with connect(server) as client:
            client.hello()
    assert [str(error) for error in seen] == ["out of luck"]
