"""Who may call close(): any thread, a callback, a listener, a signal handler; and how often."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from blocksmtp import DataStream, SMTPServer, SMTPSession
from tests.client import TIMEOUT, connect, serving
from tests.closing import GOODBYE, LONG, Gate, closing, greeted, until_closing


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


FORKED = """
import os, socket, sys
from blocksmtp import SMTPServer
with SMTPServer(name="mx.example", auth_optional=True, disabled_commands=["STARTTLS"],
                on_data=lambda stream, session: None) as server:
    server.listen(0, "127.0.0.1")
    with socket.create_connection(server.address, 10) as sock:
        replies = sock.makefile("rb")
        assert replies.readline().startswith(b"220 ")
        child = os.fork()
        if child == 0:
            server.close()
            sys.exit()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        sock.sendall(b"NOOP\\r\\n")
        assert replies.readline().startswith(b"250 ")
        with socket.create_connection(server.address, 10) as other:
            assert other.makefile("rb").readline().startswith(b"220 ")
"""


def test_a_process_that_is_forked_off_does_not_close_its_parent_s_server() -> None:
    # Python warns of a fork beside other threads, with reason.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
