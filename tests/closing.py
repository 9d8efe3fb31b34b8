"""What the tests of close() share: clients to begin with, close() elsewhere, and waiting for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from blocksmtp import SMTPServer
from tests.client import TIMEOUT, Client, connect, trusting

LONG = 60.0  # seconds
GOODBYE = b"421 4.3.2 mx.example Server shutting down\r\n"


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
