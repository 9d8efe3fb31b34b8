"""SIGINT and SIGTERM close the server that serves for ever, whichever thread gets them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from blocksmtp.signals import closed_by_signals
from tests.client import TIMEOUT, connect
from tests.running import Running

# In a process of its own; the thread that connects gets the signal, not the main thread.
SERVER = """
import signal, threading
from blocksmtp import SMTPServer

def on_mail_from(address, session):
    signal.pthread_kill(threading.get_ident(), signal.{name})
    {then}

server = SMTPServer(name="mx.example", auth_optional=True, disabled_commands=["STARTTLS"],
                    on_mail_from=on_mail_from, on_data=lambda stream, session: None)
server.on("listening", lambda: print("listening on", server.address, flush=True))
server.serve_forever(0, "127.0.0.1")
print("threads", threading.active_count())
"""

names = pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])


@names
def test_a_signal_that_another_thread_gets(name: str) -> None:
    code = SERVER.format(name=name, then="")
    with (
        Running([sys.executable, "-W", "error", "-c", code]) as process,
        connect(process.address) as client,
    ):
        client.hello()
        client.expect(250, "MAIL FROM:<a@client.example>")
        assert client.rest().startswith(b"421 4.3.2 ")
        assert process.end(0) == 0
    assert process.output.endswith("threads 1\n")


@names
def test_a_second_signal_waits_for_nobody(name: str) -> None:
    code = SERVER.format(name=name, then="")
    with (
        Running([sys.executable, "-W", "error", "-c", code]) as process,
        connect(process.address) as first,
        connect(process.address) as second,
    ):
        second.hello()
        # This one is in the middle of a message, and would be waited for.
        first.hello()
        first.send_lines("MAIL FROM:<a@client.example>", "RCPT TO:<b@server.example>", "DATA")
        codes = [first.reply().code for _ in range(3)]
        assert codes == [250, 250, 354]
        assert second.rest().endswith(b"Server shutting down\r\n")
        assert process.end(getattr(signal, name)) == 0
        assert first.rest() == b""


TOO_SOON = """
import os, signal, threading
from blocksmtp import SMTPServer

class Server(SMTPServer):
    def listen(self, *arguments, **options):
        os.kill(os.getpid(), signal.{name})
        assert self.wait(30)
        return super().listen(*arguments, **options)

server = Server(name="mx.example", disabled_commands=["STARTTLS"])
server.serve_forever(0, "127.0.0.1")
print("threads", threading.active_count())
try:
    server.serve_forever(0, "127.0.0.1")
except RuntimeError as error:
    print(error)
"""


@names
def test_a_signal_that_comes_before_the_server_listens(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TOO_SOON.format(name=name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "threads 1\nthe server is closed\n"


class Closing:
    """A close() that only notes how it was called."""

    def __init__(self) -> None:
        self.timeouts: list[float | None] = []
        self._told = threading.Semaphore(0)

    def __call__(self, timeout: float | None) -> None:
        self.timeouts.append(timeout)
        self._told.release()

    def awaited(self) -> None:
        """Wait until it was called once more."""
        assert self._told.acquire(timeout=TIMEOUT)


def test_each_is_told_and_what_was_there_before_comes_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    descriptor = signal.set_wakeup_fd(-1)
    close = Closing()
    with closed_by_signals(close):
        for number in before:
            signal.raise_signal(number)
            close.awaited()
    assert close.timeouts == [None, 0.0]
    assert {number: signal.getsignal(number) for number in before} == before
    assert signal.set_wakeup_fd(descriptor) == -1


def test_other_signals_are_the_application_s() -> None:
    heard = threading.Event()
    closed: list[float | None] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.set())
    try:
        with closed_by_signals(closed.append):
            signal.raise_signal(signal.SIGUSR1)
            assert heard.wait(TIMEOUT)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert closed == []


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError("none")])
def test_without_a_thread_to_close_in(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def failing(thread: threading.Thread) -> None:
        if thread.name == "blocksmtp close on signal":
            raise error
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", failing)
    close = Closing()
    with closed_by_signals(close):
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
            close.awaited()
    assert close.timeouts == [None, 0.0]


FORKING = """
import os, signal, threading
from blocksmtp import SMTPServer

handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

def on_mail_from(address, session):
    ready, child_ready = os.pipe()
    child = os.fork()
    if child == 0:
        here = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        as_before = here == handlers and signal.set_wakeup_fd(-1) == -1
        os.write(child_ready, b"as before" if as_before else b"another")
        threading.Event().wait()
    print("handlers", os.read(ready, 100).decode(), flush=True)
    os.kill(child, signal.SIGTERM)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("child ended with", status, flush=True)

server = SMTPServer(name="mx.example", auth_optional=True, disabled_commands=["STARTTLS"],
                    on_mail_from=on_mail_from, on_data=lambda stream, session: None)
server.on("listening", lambda: print("listening on", server.address, flush=True))
server.serve_forever(0, "127.0.0.1")
"""


def test_a_signal_to_a_process_that_was_forked_off_is_its_own() -> None:
    """The child of a callback (of `multiprocessing`, say) ends, and the server goes on."""
    # Python warns of a fork beside other threads, with reason.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING]
    with Running(command) as process, connect(process.address) as client:
        client.hello()
        client.expect(250, "MAIL FROM:<a@client.example>")
        assert process.readline() == "handlers as before\n"
        assert process.readline() == f"child ended with {-signal.SIGTERM}\n"
        client.expect(250, "RCPT TO:<b@server.example>")
        assert client.message().code == 250
        with connect(process.address) as other:
            other.hello()
        assert process.end(signal.SIGTERM) == 0


def test_only_in_the_main_thread() -> None:
    failed: list[Exception] = []

    def enter() -> None:
        try:
            with closed_by_signals(lambda timeout: None):
                pass
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(TIMEOUT)
    assert len(failed) == 1
