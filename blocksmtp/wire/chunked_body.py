"""A message that comes in chunks of binary octets, each announced by a command (RFC 3030)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from .body import MessageBody, Pace
from .stream import DataStream


class Chunk(Protocol):
    """What a command says of the octets that follow it."""

    @property
    def size(self) -> int:
        """How many they are."""

    @property
    def last(self) -> bool:
        """Whether the message ends with them."""


class ChunkedBody(MessageBody):
    """The message that the chunks of BDAT make together.

    A chunk is acknowledged as soon as the application has read all of it: not when it arrives, or
    it would be the network's affair which chunk a refusal is the answer to. The exception is the
    last one, whose answer is that to the message; and once the message is refused, or too large,
    the next answer that is due, and the end of the message, is that.
    """

    def __init__(
        self,
        pace: Pace,
        chunk: Chunk,
        acknowledge: Callable[[], None],
        next_chunk: Callable[[], Chunk],
        size: int | None,
    ) -> None:
        """`chunk` is the first. `acknowledge()` answers for the latest chunk; `next_chunk()` reads
        commands until another comes, and raises ConnectionError where none does.
        """
        super().__init__(pace, size)
        self._acknowledge = acknowledge
        self._next_chunk = next_chunk
        self._refused = False
        self._begin(chunk)

    @property
    def complete(self) -> bool:
        """See MessageBody."""
        return self._is_last and not self._left

    def _make_stream(self) -> DataStream:
        return _ChunkedStream(self)

    def _begin(self, chunk: Chunk) -> None:
        self._left = chunk.size
        self._is_last = chunk.last
        self._is_answered = False

    def _receive_some(self) -> bytes:
        """See MessageBody."""
        if self._left == 0 and self._is_answered:
            started = time.monotonic()
            chunk = self._next_chunk()
            # That is waiting for the message, too: a client must not dribble it between chunks.
            self._pace.count(time.monotonic() - started, 0)
            self._begin(chunk)
        if self._left == 0:
            return b""
        octets = self._pace.read_some(self._left)
        self._left -= len(octets)
        return octets

    def _take_some(self) -> bytes:
        """See MessageBody."""
        piece = super()._take_some()
        if not piece:
            self.consumed()
        return piece

    def consumed(self) -> None:
        """All that was handed out has been read. Never raises: the next read tells what failed."""
        if self._left or self._is_answered:
            return
        self._is_answered = True
        if self._is_last or self._refused:
            self._ended = True
            return
        try:
            self._acknowledge()
        except ConnectionError as error:
            self.failure = error

    def _refuse(self) -> None:
        """See MessageBody."""
        super()._refuse()
        self._refused = True

    def _let_go(self) -> None:
        """See MessageBody."""
        super()._let_go()
        del self._acknowledge, self._next_chunk


class _ChunkedStream(DataStream):
    """A stream that tells when all that it was given has been read."""

    def __init__(self, body: ChunkedBody) -> None:
        super().__init__(body)
        self._chunks = body

    def readline(self, size: int | None = -1, /) -> bytes:
        """See DataStream."""
        line = super().readline(size)
        self._tell()
        return line

    def _take(self, size: int) -> bytes:
        """See DataStream."""
        taken = super()._take(size)
        self._tell()
        return taken

    def _tell(self) -> None:
        if self._position == len(self._piece):
            self._chunks.consumed()
