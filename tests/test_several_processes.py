"""One port, several processes: each has a socket of its own on it, or all have the same."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .client import Client, connect

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "SO_REUSEPORT"), reason="this system deals no connections out"
)

SERVE = """
import os, socket, sys
from blocksmtp import SMTPServer

def on_data(stream, session):
    stream.read()
    return f"taken by {os.getpid()}"

way, number = sys.argv[1], int(sys.argv[2])
if way == "inherited":
    sock = socket.socket(fileno=number)
else:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", number))
server = SMTPServer(
    name="mx.example", auth_optional=True, disable_reverse_lookup=True, on_data=on_data,
    disabled_commands=["STARTTLS"],
)
server.on("listening", lambda: print("listening", flush=True))
server.serve_forever(sock=sock)
"""


class Processes:
    """Two processes that serve one port."""

    def __init__(self, way: str) -> None:
        self._sock = socket.socket()
        if way == "SO_REUSEPORT":
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._sock.bind(("127.0.0.1", 0))
        self.address = self._sock.getsockname()
        number = self._sock.fileno() if way == "inherited" else self.address[1]
        self.running = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", SERVE, way, str(number)],
                cwd=Path(__file__).parents[1],
                stdout=subprocess.PIPE,
                pass_fds=[number] if way == "inherited" else [],
            )
            for _ in range(2)
        ]
        for process in self.running:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n"
        if way == "inherited":
            self._sock.close()  # The processes have it; ours would keep the port open.

    def end(self, process: subprocess.Popen[bytes], end: Callable[[], None]) -> int:
        end()
        process.communicate(timeout=30)
        self.running.remove(process)
        return process.returncode

    def close(self) -> None:
        self._sock.close()
        for process in list(self.running):
            assert self.end(process, process.terminate) == 0


@pytest.fixture(params=["SO_REUSEPORT", "inherited"])
def processes(request: pytest.FixtureRequest) -> Iterator[Processes]:
    ours = Processes(request.param)
    try:
        yield ours
    finally:
        ours.close()


def deliver(client: Client) -> int:
    """Deliver a message; returns the number of the process that took it."""
    client.hello()
    client.envelope()
    reply = client.message()
    assert reply.code == 250
    return int(reply.rpartition(" ")[2])


def takers(processes: Processes, clients: int) -> set[int]:
    """The processes that take what so many clients bring."""
    seen = set()
    for _ in range(clients):
        with connect(processes.address) as client:
            seen.add(deliver(client))
    return seen


def test_all_of_them_serve(processes: Processes) -> None:
    """Who takes a client the kernel decides; that one of two gets none of 100 is no chance."""
    clients = [connect(processes.address) for _ in range(100)]
    try:
        assert {deliver(client) for client in clients} == {each.pid for each in processes.running}
    finally:
        for client in clients:
            client.close()


def test_one_that_closes_leaves_the_clients_to_the_other(processes: Processes) -> None:
    first, second = processes.running
    with connect(processes.address) as client:
        client.hello()
        assert processes.end(first, first.terminate) == 0
        assert takers(processes, 20) == {second.pid}


def test_nor_does_one_that_is_killed_take_the_port_with_it(processes: Processes) -> None:
    first, second = processes.running
    assert processes.end(first, first.kill) == -9
    assert takers(processes, 20) == {second.pid}
