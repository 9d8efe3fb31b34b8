"""Clients that send as fast as they can, and remember what was acknowledged."""

from __future__ import annotations

import random
import socket
import threading
from types import TracebackType

_SECONDS = 20.0


def message(identifier: str, lines: int) -> bytes:
    """A message that tells whether it is whole."""
    body = b"".join(b"%d of %d of %s\r\n" % (n, lines, identifier.encode()) for n in range(lines))
    header = f"Subject: {identifier}\r\nX-Lines: {lines}\r\n\r\n".encode()
    return header + body + f"the end of {identifier}\r\n".encode()


class Senders:
    """Threads that send messages, each once, over connections that may break at any moment."""

    def __init__(self, address: tuple[str, int], count: int, seed: int) -> None:
        self.address = address
        """Where to connect next; it may change while they run."""
        self.acknowledged: set[str] = set()
        self.refused: dict[str, int] = {}
        """Those that were answered with something else than 250, with the code."""
        self.attempts = 0
        self._changed = threading.Condition()
        self._over = threading.Event()
        chances = [random.Random(f"{seed}-{number}") for number in range(count)]  # noqa: S311
        self._threads = [
            threading.Thread(target=self._send, args=(number, chance))
            for number, chance in enumerate(chances)
        ]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Let them finish the message they are at, and wait."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int, since: int | None = None) -> None:
        """Wait until so many more messages were acknowledged, than now or than there once were."""
        with self._changed:
            wanted = (len(self.acknowledged) if since is None else since) + more
            came = self._changed.wait_for(lambda: len(self.acknowledged) >= wanted, _SECONDS)
        assert came, f"no {more} messages in {_SECONDS:g} seconds"

    def wait_for_refusals(self, more: int) -> None:
        """Wait until so many more messages were refused."""
        with self._changed:
            wanted = len(self.refused) + more
            came = self._changed.wait_for(lambda: len(self.refused) >= wanted, _SECONDS)
        assert came, f"no {more} refusals in {_SECONDS:g} seconds"

    def _send(self, number: int, chance: random.Random) -> None:
        sent = 0
        while not self._over.is_set():
            try:
                with socket.create_connection(self.address, _SECONDS) as sock:
                    lines = sock.makefile("rb")
                    with lines:
                        _expect(lines.readline(), b"220")
                        sock.sendall(b"HELO client.example\r\n")
                        _expect(lines.readline(), b"250")
                        while not self._over.is_set():
                            sent += 1
                            self._send_one(sock, lines, f"{number}-{sent}", chance)
            except OSError:
                # The server is being killed, or started: what was not acknowledged is nobody's.
                self._over.wait(0.01)

    def _send_one(
        self,
        sock: socket.socket,
        lines: object,
        identifier: str,
        chance: random.Random,
    ) -> None:
        read = lines.readline  # type: ignore[attr-defined]
        with self._changed:
            self.attempts += 1
        sock.sendall(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@server.example>\r\nDATA\r\n")
        for code in (b"250", b"250", b"354"):
            _expect(read(), code)
        sock.sendall(message(identifier, chance.randrange(1, 500)) + b".\r\n")
        reply = read()
        if not reply.endswith(b"\n"):
            raise ConnectionError("the connection has ended")
        with self._changed:
            if reply.startswith(b"250"):
                self.acknowledged.add(identifier)
            else:
                self.refused[identifier] = int(reply[:3])
            self._changed.notify_all()


def _expect(reply: bytes, code: bytes) -> None:
    if not reply.startswith(code):
        raise ConnectionError(f"not {code!r}: {reply!r}")
