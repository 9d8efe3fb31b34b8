"""A process that makes TLS handshakes, one after another: `python -m benchmarks.load.handshaker`.

`Fleet` starts several and steers each by lines: "prepare", "make" and "finish" are the methods of
`Handshaker`. The answer to each is a line of JSON: what the method returned, or a text where it
failed.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import sys
import time
from typing import NamedTuple

from ..errors import MeasurementError
from .client import Session, connect, open_session, tls_context

KINDS = ("full", "resumed", "starttls")


class Batch(NamedTuple):
    """When it began and ended (monotonic), its processor time, and how many were resumptions."""

    begin: float
    end: float
    cpu: float
    resumed: int


class Handshaker:
    """Makes batches of handshakes of one kind, `count` in each."""

    def __init__(self, port: int, kind: str, count: int) -> None:
        self._port = port
        self._kind = kind
        self._count = count
        self._context = tls_context()
        self._session = self._ticket() if kind == "resumed" else None
        self._open: list[socket.socket] = []

    def _ticket(self) -> ssl.SSLSession | None:
        """What the server lets us resume with: in TLS 1.3 it comes after the handshake."""
        session = open_session(self._port, self._context)
        assert isinstance(session.sock, ssl.SSLSocket)
        ticket = session.sock.session
        session.quit()
        return ticket

    def prepare(self) -> None:
        """For STARTTLS, connect as many clients as the batch takes."""
        if self._kind == "starttls":
            self._open = [connect(self._port) for _ in range(self._count)]
            for sock in self._open:
                Session(sock).greet()

    def make(self) -> Batch:
        """The batch. What the server says after a handshake is left for `finish`."""
        done = []
        cpu = time.process_time()
        begin = time.monotonic()
        if self._kind == "starttls":
            for sock in self._open:
                Session(sock).command(b"STARTTLS\r\n")
                done.append(self._context.wrap_socket(sock))
        else:
            for _ in range(self._count):
                sock = connect(self._port)
                done.append(self._context.wrap_socket(sock, session=self._session))
        end = time.monotonic()
        cpu = time.process_time() - cpu
        self._open = [*done]
        return Batch(begin, end, cpu, sum(bool(sock.session_reused) for sock in done))

    def finish(self) -> None:
        """Have a dialogue in each connection, and end it."""
        for sock in self._open:
            session = Session(sock)
            if self._kind == "starttls":
                session.command(b"EHLO client.example\r\n")
            else:
                session.read()
            session.quit()
        self._open = []


def main() -> None:
    """Do what standard input says until it ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.handshaker")
    parser.add_argument("port", type=int)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    handshaker = None
    for line in sys.stdin:
        try:
            handshaker = handshaker or Handshaker(arguments.port, arguments.kind, arguments.count)
            answer = getattr(handshaker, line.strip())()
        except (OSError, MeasurementError) as error:
            answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
