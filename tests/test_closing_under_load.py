"""close() with every kind of client at work: it returns in time, and no message is lost by it.

Each message has a number. What clients heard a 250 for (acknowledged) must be what the application
accepted (seen): each number once, on either side.
"""

from __future__ import annotations

import contextlib
import signal
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from blocksmtp import DataStream, SMTPError, SMTPServer, SMTPSession
from tests.client import TIMEOUT, Address, Client, connect, serving, trusting
from tests.closing import GOODBYE, closing, until_closing
from tests.running import Running

every_wire = pytest.mark.parametrize("tls", [False, True], ids=["clear", "TLS"])

_BROKEN = (ConnectionError, TimeoutError, ssl.SSLError)


class Load:
    """Clients in threads, each of which sends message after message until the server closes."""

    def __init__(self, address: Address, *, tls: bool = False) -> None:
        self._address = address
        self._tls = trusting() if tls else None
        self._lock = threading.Lock()
        self._sent = 0
        self._threads: list[threading.Thread] = []
        self.acknowledged: list[int] = []
        self.failures: list[BaseException] = []
        self.warm = threading.Event()
        """Set when some messages have been acknowledged."""

    def start(self, clients: int) -> None:
        """Let so many clients loose."""
        for _ in range(clients):
            thread = threading.Thread(target=self._run, name="client")
            self._threads.append(thread)
            thread.start()

    def join(self) -> None:
        """Wait for the clients, which end with the server. Raises what went wrong in one."""
        for thread in self._threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive(), "a client was left hanging"
        if self.failures:
            raise self.failures[0]

    def _run(self) -> None:
        try:
            with contextlib.suppress(*_BROKEN), connect(self._address, tls=self._tls) as client:
                if client.reply().code != 220:
                    return
                if client.command("EHLO client.example").code != 250:
                    return
                while self._converse(client):
                    pass
        except BaseException as error:  # noqa: BLE001 - told in join()
            self.failures.append(error)

    def _converse(self, client: Client) -> bool:
        """One message, and the replies to it; False when the server has said good-bye."""
        with self._lock:
            number = self._sent
            self._sent += 1
        client.send_lines("MAIL FROM:<a@client.example>", "RCPT TO:<b@server.example>", "DATA")
        for expected in (250, 250, 354):
            code = client.reply().code
            if code == 421:
                return False
            assert code == expected
        client.send(f"Subject: {number}\r\n\r\n{'text' * 50}\r\n.\r\n")
        code = client.reply().code
        if code == 250:
            with self._lock:
                self.acknowledged.append(number)
                if len(self.acknowledged) == 50:
                    self.warm.set()
        return code != 421


class Application:
    """What was seen of the messages."""

    def __init__(self, before_return: Callable[[], object] = lambda: None) -> None:
        self._lock = threading.Lock()
        self._before_return = before_return
        self.seen: list[int] = []

    def on_data(self, stream: DataStream, session: SMTPSession) -> None:
        content = stream.read()
        assert content.endswith(b"text\r\n")
        self._before_return()
        with self._lock:
            self.seen.append(int(content.split(b"\r\n", 1)[0].removeprefix(b"Subject: ")))


def assert_nothing_is_lost(acknowledged: list[int], seen: list[int]) -> None:
    """Each message that one side knows of, the other knows of, too; and each of them once."""
    assert max(Counter(acknowledged).values()) == 1
    assert max(Counter(seen).values()) == 1
    assert set(acknowledged) == set(seen)


def finished(server: SMTPServer) -> bool:
    """Whether nothing of the server is left."""
    return server.connections == [] and not [
        thread for thread in threading.enumerate() if thread.name.startswith("blocksmtp")
    ]


@contextlib.contextmanager
def others(server: SMTPServer) -> Iterator[None]:
    """Clients that do nothing useful, one in each state; closed at the end."""
    tls = trusting() if server.options.secure else None
    with contextlib.ExitStack() as stack:
        for said in (
            b"",
            b"EHLO client.example\r\n",
            b"EHLO client.example\r\nNOO",
            b"EHLO client.example\r\nAUTH LOGIN\r\n",
            b"EHLO client.example\r\nMAIL FROM:<a@client.example>\r\n",
            b"NOOP " + b"x" * 10_000,
        ):
            client = stack.enter_context(connect(server, tls=tls))
            client.reply()
            client.send(said)
        # In a handshake, and not even there.
        stack.enter_context(connect(server)).send(b"\x16\x03\x01" if tls else b"")
        yield


# --- from a thread -----------------------------------------------------------------------------


@every_wire
def test_what_is_acknowledged_was_seen_and_the_reverse(tls: bool) -> None:
    application = Application()
    with serving(secure=tls, on_data=application.on_data, allow_insecure_auth=True) as server:
        assert server.address is not None
        load = Load(server.address, tls=tls)
        load.start(6)
        with others(server):
            assert load.warm.wait(TIMEOUT)
            started = time.monotonic()
            server.close()
            # All clients are quick, so nothing comes near close_timeout.
            assert time.monotonic() - started < TIMEOUT
            assert finished(server)
        load.join()
    assert len(load.acknowledged) >= 50
    assert_nothing_is_lost(load.acknowledged, application.seen)


@every_wire
def test_callbacks_that_are_slow_are_waited_for_and_acknowledged(tls: bool) -> None:
    begun = threading.Event()
    inside = threading.Semaphore(0)

    def slow() -> None:
        if begun.is_set():
            return
        inside.release()
        assert begun.wait(TIMEOUT)

    application = Application(slow)
    with serving(secure=tls, on_data=application.on_data) as server:
        assert server.address is not None
        load = Load(server.address, tls=tls)
        load.start(5)
        for _ in range(5):
            assert inside.acquire(timeout=TIMEOUT)
        with closing(server):
            until_closing(server)
            begun.set()
        load.join()
    assert len(load.acknowledged) == 5
    assert_nothing_is_lost(load.acknowledged, application.seen)


def test_clients_in_data_have_their_time() -> None:
    """They send on while the server closes; one that does not is broken off, and not counted."""
    application = Application()
    with serving(on_data=application.on_data, close_timeout=1.0) as server:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(server)) for _ in range(5)]
            for number, client in enumerate(clients):
                client.hello()
                client.envelope()
                client.expect(354, "DATA")
                client.send(f"Subject: {number}\r\n\r\n")
            with closing(server):
                until_closing(server)
                for client in clients[:-1]:
                    client.send("text\r\n.\r\n")
                    assert client.reply().code == 250
                    assert client.rest() == GOODBYE
                assert clients[-1].rest() == b""
        assert finished(server)
    assert sorted(application.seen) == [0, 1, 2, 3]


@every_wire
def test_without_time_nothing_is_acknowledged_that_was_not_seen(tls: bool) -> None:
    """close(0) breaks connections off anywhere: what is seen may stay without its 250."""
    application = Application()
    with serving(secure=tls, on_data=application.on_data) as server:
        assert server.address is not None
        load = Load(server.address, tls=tls)
        load.start(6)
        assert load.warm.wait(TIMEOUT)
        server.close(0)
        assert finished(server)
        load.join()
    assert max(Counter(load.acknowledged).values()) == max(Counter(application.seen).values()) == 1
    assert set(load.acknowledged) <= set(application.seen)
    # One for each connection at the most.
    assert len(set(application.seen) - set(load.acknowledged)) <= 6


# --- twice, at once, from everywhere -----------------------------------------------------------


@every_wire
def test_from_several_threads_and_a_callback_at_once(tls: bool) -> None:
    application = Application()
    at_once = threading.Barrier(4)

    def on_rcpt_to(address: Any, session: SMTPSession) -> None:
        if address.address == "close@server.example":
            at_once.wait(TIMEOUT)
            server.close()

    def close() -> None:
        at_once.wait(TIMEOUT)
        server.close()
        server.close()

    with serving(secure=tls, on_data=application.on_data, on_rcpt_to=on_rcpt_to) as server:
        assert server.address is not None
        load = Load(server.address, tls=tls)
        load.start(4)
        assert load.warm.wait(TIMEOUT)
        closers = [threading.Thread(target=close) for _ in range(3)]
        for closer in closers:
            closer.start()
        with connect(server, tls=trusting() if tls else None) as client:
            client.hello()
            client.expect(250, "MAIL FROM:<a@client.example>")
            client.expect(250, "RCPT TO:<close@server.example>")
            assert client.rest().startswith(b"421 4.3.2 ")
        for closer in closers:
            closer.join(TIMEOUT)
            assert not closer.is_alive()
        assert server.wait(0)
        assert finished(server)
        load.join()
    assert_nothing_is_lost(load.acknowledged, application.seen)


def test_again_and_again() -> None:
    """Each time at another moment of the dialogues."""
    for _ in range(50):
        application = Application()
        with serving(on_data=application.on_data) as server:
            assert server.address is not None
            load = Load(server.address)
            load.start(4)
            # Not before the first message: there would be nothing to lose.
            while not load.acknowledged:
                assert load.warm.wait(0.01) or not load.failures
            server.close()
            load.join()
        assert_nothing_is_lost(load.acknowledged, application.seen)


# --- from a signal -----------------------------------------------------------------------------

SERVER = """
import threading
from blocksmtp import SMTPServer
seen = []
def on_data(stream, session):
    seen.append(int(stream.read().split(b"\\r\\n", 1)[0].removeprefix(b"Subject: ")))
server = SMTPServer(name="mx.example", auth_optional=True, disable_reverse_lookup=True,
                    disabled_commands=["STARTTLS"], on_data=on_data)
server.on("listening", lambda: print("listening on", server.address, flush=True))
server.serve_forever(0, "127.0.0.1")
print("seen", *seen)
print("threads", threading.active_count())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_from_a_signal(number: signal.Signals) -> None:
    with Running([sys.executable, "-W", "error", "-c", SERVER]) as process:
        load = Load(process.address)
        load.start(6)
        assert load.warm.wait(TIMEOUT)
        assert process.end(number) == 0
        load.join()
    assert "threads 1\n" in process.output
    (line,) = (line for line in process.output.splitlines() if line.startswith("seen "))
    assert_nothing_is_lost(load.acknowledged, [int(word) for word in line.split()[1:]])


# --- this file's own -----------------------------------------------------------------------------


def test_a_message_that_is_lost_or_doubled_is_noticed() -> None:
    assert_nothing_is_lost([1, 2], [2, 1])
    for acknowledged, seen in (([1, 2], [1]), ([1], [1, 2]), ([1], [1, 1]), ([1, 1], [1])):
        with pytest.raises(AssertionError):
            assert_nothing_is_lost(acknowledged, seen)


def test_a_server_that_forgets_a_message_is_noticed() -> None:
    """Through the whole machinery: the load must hear of each message in its own reply."""
    application = Application()

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        application.on_data(stream, session)
        if len(application.seen) == 10:
            raise SMTPError("seen, but not acknowledged")

    with serving(on_data=on_data) as server:
        assert server.address is not None
        load = Load(server.address)
        load.start(2)
        assert load.warm.wait(TIMEOUT)
        server.close()
        load.join()
    with pytest.raises(AssertionError):
        assert_nothing_is_lost(load.acknowledged, application.seen)
