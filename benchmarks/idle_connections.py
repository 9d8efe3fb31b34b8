"""What a client that is connected and says nothing costs: `python -m benchmarks.idle_connections`.

A server in a process of its own gets so many clients, each of which says EHLO and stays. Memory is
what the system counts as the server's own (Pss in /proc/PID/smaps_rollup), so this needs Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import socket
import ssl
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from blocksmtp import SMTPServer

_MIB = 1024.0  # KiB


class State(NamedTuple):
    """What a process holds."""

    kib: int
    threads: int
    descriptors: int


def serve(ready: Connection, secure: bool) -> None:
    """Serve until told to stop."""
    with SMTPServer(
        name="mx.example",
        auth_optional=True,
        disable_reverse_lookup=True,
        disabled_commands=() if secure else ["STARTTLS"],
        max_clients=None,
        socket_timeout=3600.0,
        transaction_timeout=None,
        on_data=lambda stream, session: None,
    ) as server:
        server.listen(0, "127.0.0.1", secure=secure)
        ready.send(server.port)
        ready.recv()


def state(process_id: int) -> State:
    """What the process holds now."""
    folder = Path(f"/proc/{process_id}")
    rollup = dict(
        line.split(":") for line in (folder / "smaps_rollup").read_text().splitlines()[1:]
    )
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return State(
        kib=int(rollup["Pss"].split()[0]),
        threads=int(status["Threads"]),
        descriptors=len(os.listdir(folder / "fd")),
    )


@contextlib.contextmanager
def client(port: int, context: ssl.SSLContext | None) -> Iterator[None]:
    """A client that has said EHLO, and says no more."""
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        wrapped = sock if context is None else context.wrap_socket(sock)
        with wrapped, wrapped.makefile("rb") as replies:
            replies.readline()
            wrapped.sendall(b"EHLO client.example\r\n")
            while replies.readline()[3:4] == b"-":
                pass
            yield


def measure(clients: int, secure: bool) -> tuple[State, State]:
    """The server's state with one client, and with so many more."""
    context = None
    if secure:
        # The server's certificate is one that it made itself.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs, secure))
    process.start()
    try:
        port = ours.recv()
        assert process.pid is not None
        with contextlib.ExitStack() as stack:
            # The first loads what all of them need.
            stack.enter_context(client(port, context))
            before = state(process.pid)
            for _ in range(clients):
                stack.enter_context(client(port, context))
            after = state(process.pid)
        ours.send(None)
    finally:
        process.join(60)
        process.kill()
    return before, after


def main() -> None:
    """Measure in clear and in TLS, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle_connections")
    parser.add_argument("--clients", type=int, default=500, help="how many (default: 500)")
    clients = parser.parse_args().clients
    print(f"{'':6} {'server, MiB':>12} {'KiB a client':>13} {'threads':>8} {'descriptors':>12}")
    for secure in (False, True):
        before, after = measure(clients, secure)
        print(
            f"{'TLS' if secure else 'clear':6} {before.kib / _MIB:12.1f}"
            f" {(after.kib - before.kib) / clients:13.1f}"
            f" {(after.threads - before.threads) / clients:8.2f}"
            f" {(after.descriptors - before.descriptors) / clients:12.2f}"
        )


if __name__ == "__main__":
    main()
