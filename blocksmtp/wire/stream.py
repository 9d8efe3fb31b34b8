"""The message as the application reads it: a binary file object, fed from the connection."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .body import MessageBody


class DataStream(io.BufferedIOBase):
    """A message, octet for octet as it was sent, dots unstuffed; readable once, from its start.

    It needs no more memory than the pieces that are asked for. A read raises ConnectionError when
    the connection breaks inside the message, or when the client is too slow, and SMTPError when the
    message is refused for a bare newline.
    """

    def __init__(self, body: MessageBody) -> None:
        self._body = body
        self._piece = b""
        self._position = 0
        # Octets handed out before `_piece`; a counter of all would make each line cost more.
        self._before = 0

    def __del__(self) -> None:
        """Nothing, where io.IOBase would close: there is nothing to give back."""

    @property
    def name(self) -> str:
        """What the standard library calls this where it names a file, as in "<stdin>"."""
        return "<message>"

    @property
    def byte_length(self) -> int:
        """Octets of the message so far; all of them once it has ended.

        What is thrown away, after `size` was passed or unread by the callback, counts as well.
        """
        return self._before + self._position + self._body.discarded

    @property
    def size_exceeded(self) -> bool:
        """Whether the message has passed the option `size`; the stream ends there."""
        return self._body.size_exceeded

    def readable(self) -> bool:
        """True: this can be read."""
        self._check_open()
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """`size` octets, fewer only at the end of the message; all that is left by default."""
        if size is None or size < 0:
            pieces = []
            while piece := self._take(-1):
                pieces.append(piece)
            return b"".join(pieces)
        taken = self._take(size)
        if len(taken) == size or not taken:
            return taken
        pieces, missing = [taken], size - len(taken)
        while missing and (taken := self._take(missing)):
            pieces.append(taken)
            missing -= len(taken)
        return b"".join(pieces)

    def read1(self, size: int = -1, /) -> bytes:
        """What is at hand, waiting only if that is nothing: at most `size` octets."""
        return self._take(size)

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer`, with less only at the end of the message; how many octets."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            taken = self._take(len(view) - filled)
            if not taken:
                break
            view[filled : filled + len(taken)] = taken
            filled += len(taken)
        return filled

    def readinto1(self, buffer: Buffer, /) -> int:
        """What is at hand, into `buffer`; how many octets."""
        view = memoryview(buffer).cast("B")
        taken = self._take(len(view))
        view[: len(taken)] = taken
        return len(taken)

    def readline(self, size: int | None = -1, /) -> bytes:
        """The octets up to and with the next LF, at most `size` of them."""
        if size is None or size < 0:
            # A closed stream has nothing at hand.
            start = self._position
            end = self._piece.find(b"\n", start) + 1
            if end:
                self._position = end
                return self._piece[start:end]
            size = sys.maxsize
        self._check_open()
        pieces: list[bytes] = []
        while size and self._fill():
            end = self._piece.find(b"\n", self._position) + 1
            room = (end or len(self._piece)) - self._position
            taken = self._take(min(size, room))
            pieces.append(taken)
            size -= len(taken)
            if taken.endswith(b"\n"):
                break
        return b"".join(pieces)

    def close(self) -> None:
        """Read no more. What is left of the message is thrown away when the callback returns."""
        self.drop()
        super().close()

    def drop(self) -> None:
        """Throw away what is at hand, so that the next read needs the connection."""
        self._body.discarded += len(self._piece) - self._position
        self._before += self._position
        self._piece, self._position = b"", 0

    def _take(self, size: int) -> bytes:
        """Up to `size` octets (all at hand if negative), b"" at the end only."""
        self._check_open()
        if not size or not self._fill():
            return b""
        start, end = self._position, len(self._piece)
        if 0 <= size < end - start:
            end = start + size
        self._position = end
        return self._piece[start:end]

    def _fill(self) -> bool:
        """Have octets at hand, waiting for them; False at the end of the message."""
        if self._position == len(self._piece):
            self._before += self._position
            # Should the next one not come, this is not to be handed out again.
            self._piece, self._position = b"", 0
            self._piece = self._body.next_piece()
        return bool(self._piece)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
