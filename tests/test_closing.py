"""close(): idle clients are told, what is in progress finishes, and nothing is left."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from blocksmtp import DataStream, SMTPError, SMTPServer, SMTPSession
from tests.client import TIMEOUT, Client, connect, serving, trusting, wait_until_idle

GOODBYE = b"421 4.3.2 mx.example Server shutting down\r\n"
LONG = 60.0
ACCEPTED = b"250 2.6.0 OK: message queued\r\n"

in_clear_and_tls = pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])


def greeted(server: SMTPServer) -> Client:
    """A client that has said EHLO; in TLS where the server is secure."""
    client = connect(server, tls=trusting() if server.options.secure else None)
    client.hello()
    return client


@contextlib.contextmanager
def closing(server: SMTPServer, timeout: float | None = None) -> Iterator[threading.Thread]:
    """close() in another thread, which is awaited at the end of the block."""
    thread = threading.Thread(target=server.close, args=(timeout,))
    thread.start()
    yield thread
    thread.join(TIMEOUT)
    assert not thread.is_alive(), "close() does not return"


def until_closing(server: SMTPServer) -> None:
    """Wait until close() has begun, by what everyone can see: nobody is accepted any more."""
    with contextlib.suppress(ConnectionError):
        while True:
            connect(server).close()


class Gate:
    """A callback that says when it is entered, and returns when it may."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.may_return = threading.Event()

    def __call__(self, *arguments: object) -> None:
        self.entered.set()
        assert self.may_return.wait(TIMEOUT)


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


# --- who calls close() -------------------------------------------------------------------------


def test_twice() -> None:
    with serving() as server:
        server.close()
        server.close()
        assert server.wait(0)


def test_before_listen() -> None:
    server = SMTPServer()
    assert not server.wait(0)
    server.close()
    assert server.wait(0)
    with pytest.raises(RuntimeError, match="closed"):
        server.listen()


def test_from_two_threads_at_once() -> None:
    gate = Gate()
    seen: list[str] = []
    with serving(on_mail_from=gate) as server, greeted(server) as client:
        server.on("close", lambda: seen.append("close"))
        client.send_lines("MAIL FROM:<a@client.example>")
        assert gate.entered.wait(TIMEOUT)
        with closing(server) as first, closing(server) as second:
            until_closing(server)
            assert first.is_alive()
            assert second.is_alive()
            gate.may_return.set()
    assert seen == ["close"]


CALLBACKS = [
    *("on_connect", "on_auth", "on_mail_from", "on_rcpt_to", "on_data", "on_close"),
    *("on_secure", "callback_context"),
]


@pytest.mark.parametrize("name", CALLBACKS)
def test_from_a_callback(name: str) -> None:
    """It waits for nothing, then: the connection goes on to its end."""
    closed: list[SMTPSession] = []
    results = {"callback_context": contextlib.nullcontext(), "on_auth": "user"}
    server = SMTPServer(
        disable_reverse_lookup=True, on_auth=lambda auth, session: "user", on_close=closed.append
    )

    def callback(*arguments: Any) -> Any:
        server.close()
        if name == "on_close":
            closed.append(arguments[-1])
        return results.get(name)

    setattr(server, name, callback)
    server.listen(0, "127.0.0.1")
    with connect(server) as client:
        client.send_lines("EHLO client.example", "STARTTLS")
        codes = []
        with contextlib.suppress(ConnectionError):
            codes = [reply.code for reply in client.replies(3)]
        if codes:
            with contextlib.suppress(ConnectionError, AssertionError):
                assert codes == [220, 250, 220]
                client.start_tls()
                client.send_lines("EHLO client.example", "AUTH PLAIN AHVzZXIAc2VjcmV0")
                client.replies(2)
                client.envelope()
                assert client.message().code == 250
                client.send_lines("QUIT")
            client.rest()
    assert server.wait(TIMEOUT)
    assert len(closed) == 1


def test_on_data_that_closes_the_server_is_acknowledged() -> None:
    """The example of a server that takes one message and ends."""
    server = SMTPServer(auth_optional=True, name="mx.example", disabled_commands=["STARTTLS"])
    received: list[bytes] = []

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        received.append(stream.read())
        server.close()

    server.on_data = on_data
    server.listen(0, "127.0.0.1")
    with greeted(server) as client:
        client.envelope()
        assert client.message(b"the one\r\n").code == 250
        assert client.rest() == GOODBYE
    assert server.wait(TIMEOUT)
    assert received == [b"the one\r\n"]


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError("none")])
def test_from_a_callback_without_a_thread_to_do_it(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, and another close() finishes what it began."""
    start = threading.Thread.start

    def failing(thread: threading.Thread) -> None:
        if thread.name == "blocksmtp close":
            raise error
        start(thread)

    def on_mail_from(address: Any, session: SMTPSession) -> None:
        with pytest.raises(type(error)):
            server.close()

    monkeypatch.setattr(threading.Thread, "start", failing)
    with serving(on_mail_from=on_mail_from) as server, greeted(server) as client:
        client.expect(250, "MAIL FROM:<a@client.example>")
        assert not server.wait(0)
        server.close()
        assert client.rest() == GOODBYE
        assert server.wait(0)


@pytest.mark.parametrize("event", ["connect", "error"])
def test_from_a_listener_in_a_connection(event: str) -> None:
    def on_mail_from(address: object, session: SMTPSession) -> None:
        raise LookupError("of the application")

    with serving(on_mail_from=on_mail_from) as server:
        server.on(event, lambda *arguments: server.close())
        with connect(server) as client:
            if event == "error":
                client.hello()
                assert client.command("MAIL FROM:<a@client.example>").code == 451
            assert client.rest().endswith(GOODBYE)
        assert server.wait(TIMEOUT)


def test_from_a_listener_in_the_accept_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them, which would wait for each other if they waited at all."""
    from blocksmtp.listener import Listener

    both = threading.Barrier(2, timeout=TIMEOUT)

    def failing(listener: Listener) -> Any:
        both.wait()
        raise OSError(24, "Too many open files")

    def close(error: Exception) -> None:
        both.wait()
        server.close()

    monkeypatch.setattr(Listener, "get_request", failing)
    with serving() as server:
        server.listen(0, "127.0.0.1")
        server.on("error", close)
        first, second = (connect(address) for address in server.addresses)
        with first, second:
            assert server.wait(TIMEOUT)


def test_while_a_listener_in_the_accept_loop_does_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from blocksmtp.listener import Listener

    gate = Gate()

    def failing(listener: Listener) -> Any:
        raise OSError(24, "Too many open files")

    def close(error: Exception) -> None:
        gate()
        server.close()

    monkeypatch.setattr(Listener, "get_request", failing)
    with serving() as server:
        server.on("error", close)
        with connect(server):
            assert gate.entered.wait(TIMEOUT)
            with closing(server):
                # Not before the other close() has begun, and waits for this very thread.
                assert server._host.wake_up.wait(TIMEOUT)
                gate.may_return.set()
        assert server.wait(TIMEOUT)


@pytest.mark.parametrize("first", ["listener", "callback", "main"])
def test_from_a_listener_of_close_itself(first: str) -> None:
    seen: list[str] = []

    def again() -> None:
        seen.append("close")
        server.close()

    def on_mail_from(address: object, session: SMTPSession) -> None:
        server.close()

    server: SMTPServer
    with serving(on_mail_from=on_mail_from) as server:
        server.on("close", again)
        if first == "callback":
            with greeted(server) as client:
                client.expect(250, "MAIL FROM:<a@client.example>")
                assert client.rest() == GOODBYE
        elif first == "listener":
            server.on("connect", lambda info: server.close())
            with connect(server) as client:
                client.rest()
        else:
            server.close()
        assert server.wait(TIMEOUT)
    assert seen == ["close"]


def test_from_a_listener_of_listening() -> None:
    server = SMTPServer(disabled_commands=["STARTTLS"])
    server.on("listening", server.close)
    server.listen(0, "127.0.0.1")
    assert server.wait(0)


def signal_to_main_thread(after: float) -> threading.Timer:
    """Sends it, once started, while the main thread waits for something."""
    main = threading.main_thread().ident
    assert main is not None
    return threading.Timer(after, signal.pthread_kill, [main, signal.SIGUSR1])


def test_from_a_signal_handler() -> None:
    """It runs in the main thread, which waits for the server meanwhile."""
    with serving() as server, greeted(server) as client:

        def stop(number: int, frame: object) -> None:
            server.close()

        before = signal.signal(signal.SIGUSR1, stop)
        try:
            client.send_lines("NOOP")
            kill = signal_to_main_thread(after=0.05)
            kill.start()
            assert server.wait(TIMEOUT)
            kill.join()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert client.rest() == b"250 2.0.0 OK\r\n" + GOODBYE


def test_from_a_signal_handler_that_interrupts_the_closing() -> None:
    gate = Gate()
    with serving(on_mail_from=gate, close_timeout=LONG) as server, greeted(server) as client:

        def stop(number: int, frame: object) -> None:
            gate.may_return.set()
            server.close(timeout=0)

        before = signal.signal(signal.SIGUSR1, stop)
        try:
            client.send_lines("MAIL FROM:<a@client.example>")
            assert gate.entered.wait(TIMEOUT)
            kill = signal_to_main_thread(after=0.05)
            kill.start()
            server.close()
            kill.join()
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert server.wait(0)


def test_at_the_end_of_the_block_also_after_an_error() -> None:
    with pytest.raises(LookupError), serving() as server, greeted(server) as client:
        raise LookupError("of the test")
    assert server.wait(0)
    client.close()


def interrupted_close(server: SMTPServer, meanwhile: Callable[[], object] = int) -> None:
    """Ctrl-C in a close() that waits for a client."""

    def interrupt(_number: int, _frame: object) -> None:
        meanwhile()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        kill = signal_to_main_thread(after=0.05)
        kill.start()
        with pytest.raises(KeyboardInterrupt):
            server.close()
        kill.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_that_was_interrupted_is_finished_by_the_next() -> None:
    closed: list[SMTPSession] = []
    told: list[str] = []
    with serving(on_close=closed.append) as server, greeted(server) as client:
        server.on("close", lambda: told.append("close"))
        client.envelope()
        client.expect(354, "DATA")
        interrupted_close(server)
        assert not server.wait(0)
        assert told == []
        server.close(0)
        assert client.rest() == b""
        assert server.wait(0)
        assert len(closed) == len(told) == 1


def test_who_waits_for_one_that_was_interrupted_goes_on_with_it() -> None:
    gate = Gate()
    with serving(on_mail_from=gate) as server, greeted(server) as client:
        client.send_lines("MAIL FROM:<a@client.example>")
        assert gate.entered.wait(TIMEOUT)
        waiting = threading.Thread(target=server.close, args=(0,))
        interrupted_close(server, meanwhile=waiting.start)
        gate.may_return.set()
        waiting.join(TIMEOUT)
        assert not waiting.is_alive()
        assert server.wait(0)


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


# --- on_close ----------------------------------------------------------------------------------

Talk = Callable[[SMTPServer, Client], object]


def quits(server: SMTPServer, client: Client) -> None:
    client.hello()
    client.expect(221, "QUIT")


def leaves(server: SMTPServer, client: Client) -> None:
    client.hello()


def resets(server: SMTPServer, client: Client) -> None:
    client.hello()
    client.reset()


def leaves_in_data(server: SMTPServer, client: Client) -> None:
    client.hello()
    client.envelope()
    client.expect(354, "DATA")
    client.send("half a mess")


def is_silent(server: SMTPServer, client: Client) -> None:
    client.hello()
    assert b"421 4.4.2" in client.rest()


def is_sent_away(server: SMTPServer, client: Client) -> None:
    client.hello()
    client.expect(421, "GET / HTTP/1.1")


def fails_the_handshake(server: SMTPServer, client: Client) -> None:
    client.hello()
    client.expect(220, "STARTTLS")
    client.send("this is not TLS\r\n")
    client.rest()


def talks_after_starttls(server: SMTPServer, client: Client) -> None:
    client.hello()
    client.send_lines("STARTTLS", "MAIL FROM:<a@client.example>")
    assert client.rest() == b""


def is_closed(server: SMTPServer, client: Client) -> None:
    client.hello()
    server.close()
    assert client.rest() == GOODBYE


@pytest.mark.parametrize(
    "talk",
    [
        *(quits, leaves, resets, leaves_in_data, is_silent, is_sent_away),
        *(fails_the_handshake, talks_after_starttls, is_closed),
    ],
)
def test_on_close_whatever_ends_the_connection(talk: Talk) -> None:
    seen: list[tuple[str, SMTPSession]] = []
    with serving(
        on_connect=lambda session: seen.append(("on_connect", session)),
        on_close=lambda session: seen.append(("on_close", session)),
        socket_timeout=0.4 if talk is is_silent else LONG,
        disabled_commands=(),
    ) as server:
        with connect(server) as client:
            talk(server, client)
        wait_until_idle(server)
    assert [name for name, _ in seen] == ["on_connect", "on_close"]
    assert seen[0][1] is seen[1][1]


@pytest.mark.parametrize("error", [SMTPError("no", 554), SMTPError("no", 421), LookupError("oops")])
def test_on_close_also_for_a_refused_connection(error: Exception) -> None:
    seen: list[str] = []

    def on_connect(session: SMTPSession) -> None:
        seen.append("on_connect")
        raise error

    with serving(on_connect=on_connect, on_close=lambda session: seen.append("on_close")) as server:
        with connect(server) as client:
            assert client.rest()[:3] in (b"421", b"554")
        wait_until_idle(server)
    assert seen == ["on_connect", "on_close"]


def test_on_close_also_where_on_secure_refuses() -> None:
    seen: list[str] = []

    def on_secure(connection: object, session: SMTPSession) -> None:
        raise SMTPError("no")

    for implicit in (True, False):
        with serving(
            on_connect=lambda session: seen.append("on_connect"),
            on_secure=on_secure,
            on_close=lambda session: seen.append("on_close"),
            secure=implicit,
            disabled_commands=(),
        ) as server:
            with connect(server, tls=trusting() if implicit else None) as client:
                if not implicit:
                    client.hello()
                    client.upgrade()
                assert client.rest() == b""
            wait_until_idle(server)
    assert seen == ["on_connect", "on_close"] * 2


@pytest.mark.parametrize("talk", ["over the limit", "broken PROXY header", "failed handshake"])
def test_no_on_close_for_what_never_was_a_connection(talk: str) -> None:
    seen: list[SMTPSession] = []
    options_of: dict[str, dict[str, Any]] = {
        "over the limit": {"max_clients_per_address": 1},
        "broken PROXY header": {"use_proxy": True},
        "failed handshake": {"secure": True},
    }
    options = options_of[talk]
    with serving(**options, on_connect=seen.append, on_close=seen.append) as server:
        with contextlib.ExitStack() as stack:
            if talk == "over the limit":
                stack.enter_context(greeted(server))
            client = stack.enter_context(connect(server))
            client.send("QUIT\r\n")
            client.rest()
        wait_until_idle(server)
    assert len(seen) == (2 if talk == "over the limit" else 0)


def test_the_transport_is_closed_before_on_close() -> None:
    """What on_close takes its time for keeps no client waiting."""
    gate = Gate()
    with serving(on_close=gate) as server, greeted(server) as client:
        client.expect(221, "QUIT")
        assert client.rest() == b""
        assert client.sock.recv(1) == b""
        client.close()
        assert gate.entered.wait(TIMEOUT)
        gate.may_return.set()


def test_a_goodbye_reaches_a_client_that_is_still_talking() -> None:
    """Unread octets would make the kernel send a reset, which can eat the 421."""
    with serving(max_bad_commands=1) as server, connect(server) as client:
        client.hello()
        client.send("HELLO?\r\n" * 2000)
        assert client.rest() == b"421 4.7.0 Error: too many bad commands\r\n"
    assert isinstance(client.sock, socket.socket)
