"""Floods, and a machine that has run out: the server goes on, and loses nothing by it.

What the accept loop does in each shortage, one by one, is in test_limits.py and test_listener.py;
here clients come in masses, and descriptors and threads run out for real, in a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blocksmtp import SMTPServer, SMTPSession
from tests.client import TIMEOUT, Client, connect, serving, trusting, wait_until_idle
from tests.running import Running

TOO_MANY = b"421 4.7.0 mx.example Too many connections, try again later\r\n"


class Counted:
    """How often `on_connect` and `on_close` were called."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.connected = 0
        self.closed = 0

    def on_connect(self, session: SMTPSession) -> None:
        with self._lock:
            self.connected += 1

    def on_close(self, session: SMTPSession) -> None:
        with self._lock:
            self.closed += 1


# --- masses of clients -------------------------------------------------------------------------


def reset_after_the_greeting(client: Client) -> None:
    client.reply()
    client.reset()


def reset_with_a_command_on_its_way(client: Client) -> None:
    client.send("EHLO client.example\r\nMAIL")
    client.reset()


ENDS: list[Callable[[Client], None]] = [
    Client.reset,
    Client.close,
    reset_after_the_greeting,
    reset_with_a_command_on_its_way,
]


def test_5000_connections_that_are_opened_and_reset() -> None:
    counted = Counted()
    with serving(on_connect=counted.on_connect, on_close=counted.on_close) as server:
        for _ in range(5000 // len(ENDS)):
            for end in ENDS:
                end(connect(server))
        wait_until_idle(server)
        with connect(server) as client:
            client.hello()
            client.expect(221, "QUIT")
            client.rest()
        wait_until_idle(server)
        assert server._host.limits._places is not None
        assert server._host.limits._places._value == 1000
    assert counted.connected == counted.closed > 5000 // len(ENDS)


@pytest.mark.thorough
def test_5000_handshakes_that_are_broken_off() -> None:
    with serving(secure=True) as server:
        for number in range(5000):
            client = connect(server)
            client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[: number % 12])
            client.reset()
        wait_until_idle(server)
        with connect(server, tls=trusting()) as client:
            client.hello()


@pytest.fixture
def many() -> Iterator[Callable[[SMTPServer, int], list[Client]]]:
    """Makes many connections, and closes them at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda server, count: [stack.enter_context(connect(server)) for _ in range(count)]


@pytest.mark.thorough
def test_1000_idle_clients_are_served_and_told(
    many: Callable[[SMTPServer, int], list[Client]],
) -> None:
    counted = Counted()
    with serving(on_connect=counted.on_connect, on_close=counted.on_close) as server:
        clients = many(server, 1000)
        for client in clients:
            client.hello()
        with connect(server) as refused:
            assert refused.rest() == TOO_MANY
        # Each is alive, and a place that is given back is taken again.
        for client in clients[::100]:
            client.envelope()
            assert client.message().code == 250
        clients[0].expect(221, "QUIT")
        assert clients[0].rest() == b""
        with server._host.changed:
            assert server._host.changed.wait_for(lambda: len(server.connections) < 1000, TIMEOUT)
        with connect(server) as client:
            client.hello()
        server.close()
        for client in clients[1:]:
            assert client.rest().startswith(b"421 4.3.2 ")
    assert counted.connected == counted.closed == 1001


def test_a_flood_above_the_limit_is_told_and_costs_no_thread(
    many: Callable[[SMTPServer, int], list[Client]], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    start = threading.Thread.start

    def counted(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", counted)
    with serving(max_clients=3) as server:
        served = many(server, 3)
        for client in served:
            client.hello()
        before = len(started)
        flood = many(server, 500)
        assert [client.rest() for client in flood] == [TOO_MANY] * 500
        assert len(started) == before
        for client in served:
            client.envelope()
            assert client.message().code == 250


def test_a_flood_from_one_address_leaves_the_others_alone() -> None:
    with (
        serving(max_clients=50, max_clients_per_address=2) as server,
        contextlib.ExitStack() as stack,
    ):

        def come(source: str) -> Client:
            return stack.enter_context(connect(server, source=source))

        served = [come("127.0.0.2") for _ in range(2)]
        flood = [come("127.0.0.2") for _ in range(200)]
        assert [client.rest() for client in flood] == [TOO_MANY] * 200
        served += [come(f"127.0.0.{number}") for number in range(3, 20) for _ in range(2)]
        for client in served:
            client.hello()
        for client in served:
            client.close()
        wait_until_idle(server)
        assert server._host.limits._by_address == {}


# --- a machine that has run out ----------------------------------------------------------------

# A server of its own, under the limit that is put in; it tells of errors on its output.
SERVER = """
import resource, sys, threading
from blocksmtp import SMTPServer
{limit}
def on_data(stream, session):
    stream.read()
options = dict(name="mx.example", auth_optional=True, disable_reverse_lookup=True,
               disabled_commands=["STARTTLS"], max_clients=None, on_data=on_data)
server = SMTPServer(**options)
server.on("error", lambda error: print("error:", error, flush=True))
server.on("listening", lambda: print("listening on", server.address, flush=True))
server.serve_forever(0, "127.0.0.1")
print("closed", threading.active_count(), flush=True)
"""

FEW_DESCRIPTORS = "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))"

# A thread's stack takes so much of the address space that only some of them fit.
FEW_THREADS = """
with open("/proc/self/statm") as statm:
    used = int(statm.read().split()[0]) * resource.getpagesize()
threading.stack_size(64 * 2**20)
resource.setrlimit(resource.RLIMIT_AS, (used + 1024 * 2**20, -1))
"""


@contextlib.contextmanager
def running(limit: str) -> Iterator[Running]:
    code = SERVER.format(limit=limit)
    with Running([sys.executable, "-W", "error", "-c", code]) as process:
        yield process
        assert process.end(signal.SIGTERM) == 0
        # The main thread alone is left.
        assert "closed 1\n" in process.output


def seconds_of_processor(process: Running) -> float:
    """What the process has used so far."""
    fields = Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_when_descriptors_run_out_clients_wait_and_are_served_later() -> None:
    with running(FEW_DESCRIPTORS) as process, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(process.address)) for _ in range(80)]
        # Those that got a descriptor are served while the others wait.
        clients[0].hello()
        assert "Too many open files" in process.readline()
        for client in clients[:10]:
            if client is not clients[0]:
                client.hello()
            client.envelope()
            assert client.message().code == 250
        used = seconds_of_processor(process)
        clients[-1].sock.settimeout(1.0)
        with pytest.raises(TimeoutError):
            clients[-1].readline()
        # Waiting is not spinning.
        assert seconds_of_processor(process) - used < 0.5
        for client in clients[:60]:
            client.close()
        for client in clients[60:]:
            client.sock.settimeout(TIMEOUT)
            client.hello()


def test_when_threads_run_out_clients_are_told_and_later_ones_served() -> None:
    with running(FEW_THREADS) as process, contextlib.ExitStack() as stack:
        served: list[Client] = []
        while True:
            client = stack.enter_context(connect(process.address))
            answer = client.reply()
            if answer.code == 421:
                break
            assert answer.code == 220
            served.append(client)
            assert len(served) < 100, "there were threads enough for all of them"
        assert answer == TOO_MANY.decode().rstrip("\r\n")
        assert "error:" in process.readline()
        for client in served:
            client.expect(250, "EHLO client.example")
            client.envelope()
            assert client.message().code == 250
        for client in served:
            client.expect(221, "QUIT")
            assert client.rest() == b""
        # A thread ends a moment after its connection.
        deadline = time.monotonic() + TIMEOUT
        while (client := stack.enter_context(connect(process.address))).reply().code == 421:
            assert time.monotonic() < deadline, "the server does not recover"
        client.expect(250, "EHLO client.example")
        client.envelope()
        assert client.message().code == 250


def test_the_backlog_takes_a_burst() -> None:
    """Clients that come all at once wait in the kernel's queue; none of them is turned away."""
    with serving() as server, contextlib.ExitStack() as stack:
        address = server.address
        burst = []
        for _ in range(200):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            sock.setblocking(False)
            assert isinstance(address, tuple)
            assert sock.connect_ex(address) in (0, 115)  # EINPROGRESS
            burst.append(Client(sock))
        for client in burst:
            assert client.reply().code == 220
