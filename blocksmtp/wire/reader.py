"""The buffered reader of a connection: lines for the dialogue, octets in bulk for bodies."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from ..errors import ClientGone, ClientTooSlow
from .transport import Transport

# The limit of a line depends on how it begins: less of one is not judged before it is complete.
_BEGINNING = 512
_LINE_READ = 16_384
# Below 128 KiB, where each call would cost the C library a mapping of memory.
BODY_READ = 65_536


class LineTooLong(Exception):
    """A line was longer than allowed; it has been read up to its end, and thrown away.

    `beginning` is what was kept of it.
    """

    def __init__(self, beginning: bytes) -> None:
        super().__init__("a line was too long")
        self.beginning = beginning


class Patience:
    """How long the server goes on with a client that brings no message.

    Each limit on a single wait can be kept for ever, by a client that sends, and takes, an octet
    just before it; and one that sends commands without pause is never waited for. So there is a
    time for all together, which begins anew for who has brought a message.
    """

    def __init__(self, seconds: float | None) -> None:
        """None: for ever."""
        self._seconds = math.inf if seconds is None else seconds
        self.renew()

    def renew(self) -> None:
        """Begin anew."""
        self._deadline = time.monotonic() + self._seconds

    def left(self) -> float:
        """How many seconds are left. Raises ClientTooSlow where none are."""
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise ClientTooSlow(f"no message in {self._seconds:.3g} seconds")
        return seconds


class Reader:
    """Reads from a transport through a buffer.

    `before_wait` is called before every read from the transport: the moment to flush replies.
    `idle_seconds` bound each wait, `line_seconds` a line from its first octet to its end, and
    `patience` all lines together.
    """

    def __init__(
        self,
        transport: Transport,
        before_wait: Callable[[], None],
        idle_seconds: float,
        line_seconds: float,
        patience: Patience,
    ) -> None:
        self._transport = transport
        self._patience = patience
        self._before_wait = before_wait
        self._idle_seconds = idle_seconds
        self._line_seconds = line_seconds
        self._buffer = b""
        self._position = 0

    @property
    def empty(self) -> bool:
        """Whether nothing has been received that has not been handed out."""
        return self._position >= len(self._buffer)

    def readline(self, limit: Callable[[bytes], int], *, interruptible: bool = True) -> bytes:
        """The next line, LF included. `limit(line)` is how long the line may be, in octets.

        Raises LineTooLong, ClientTooSlow, ClientGone (also at the end of the stream), and where it
        is `interruptible` ServerClosing when the server closes while this waits.
        """
        start = self._position
        end = self._buffer.find(b"\n", start) + 1
        if not end and start == len(self._buffer):
            # Nearly always a line comes whole.
            self._buffer, start = self._receive_some(math.inf, interruptible), 0
            self._position = 0
            end = self._buffer.find(b"\n") + 1
        if end:
            line = self._buffer[start:end]
            self._position = end
        else:
            line = self._receive_rest(limit, interruptible)
        if len(line) > limit(line):
            raise LineTooLong(line)
        return line

    def _receive_rest(self, limit: Callable[[bytes], int], interruptible: bool) -> bytes:
        """The line of which the buffer has the beginning. Too long a one is returned cut short."""
        line = self._buffer[self._position :]
        self._buffer, self._position = b"", 0
        deadline = time.monotonic() + self._line_seconds
        too_long = False
        while True:
            if not too_long and len(line) > _BEGINNING:
                too_long = len(line) > limit(line)
            chunk = self._receive_some(deadline - time.monotonic(), interruptible)
            end = chunk.find(b"\n") + 1
            if not too_long:
                line += chunk[:end] if end else chunk
            if end:
                self._buffer, self._position = chunk, end
                return line

    def _receive_some(self, line_seconds: float, interruptible: bool) -> bytes:
        """What comes next; `line_seconds` are left for the line."""
        self._before_wait()
        seconds = min(self._idle_seconds, line_seconds, self._patience.left())
        if seconds <= 0:
            raise ClientTooSlow(f"a line took longer than {self._line_seconds:.3g} seconds")
        try:
            octets = self._transport.receive(_LINE_READ, seconds, interruptible=interruptible)
        except ClientTooSlow:
            self._patience.left()  # Where it is at an end, that is the reason to tell.
            raise
        if not octets:
            raise ClientGone("the client closed the connection")
        return octets

    def read_some(self, seconds: float, most: int = BODY_READ) -> bytes:
        """Whatever has been received, else what comes within so many seconds; not interruptible.

        It is not more than `most` octets, where that is less than what is read at once anyway.
        Raises ClientTooSlow and ClientGone (also at the end of the stream).
        """
        if not self.empty:
            start = self._position
            end = self._position = min(start + most, len(self._buffer))
            octets = self._buffer[start:end]
            if self.empty:
                self._buffer, self._position = b"", 0
            return octets
        self._before_wait()
        size = min(most, BODY_READ)
        octets = self._transport.receive(size, seconds, interruptible=False)
        if not octets:
            raise ClientGone("the client closed the connection")
        return octets

    def give_back(self, octets: bytes) -> None:
        """Put back what `read_some` returned too much. The buffer is empty then."""
        self._buffer, self._position = octets, 0
