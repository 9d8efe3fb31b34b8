"""A message on its way in: where its octets come from, and every limit they meet."""

from __future__ import annotations

import contextlib
import math
import time

from ..errors import ClientTooSlow, SMTPError, forget_frames
from .dot_stuffing import DotDecoder
from .reader import Reader
from .stream import DataStream


class Pace:
    """Reads body octets, and notices a client that sends too few of them.

    In every `window` seconds of waiting for the client `rate` octets a second must come; 0: any
    number will do. A window without an octet is too slow in any case. What is only thrown away, as
    `hurry` tells, is waited for no longer than `discard_seconds` in all.
    """

    def __init__(self, reader: Reader, window: float, rate: int, discard_seconds: float) -> None:
        self._reader = reader
        self._window = window
        self._rate = rate
        self._discard_seconds = discard_seconds
        self._waited = 0.0
        self._received = 0
        self._left = math.inf

    def hurry(self) -> None:
        """The message is refused: its end is all that is waited for."""
        self._left = min(self._left, self._discard_seconds)

    def read_some(self) -> bytes:
        """The next octets. Raises ClientTooSlow and ClientGone."""
        behind = self._received < self._rate * self._window
        # A client that is fast enough never gets here with much of the window gone.
        seconds = self._window - self._waited if behind else self._window
        started = time.monotonic()
        octets = self._reader.read_some(max(min(seconds, self._left), 0.001))
        waited = time.monotonic() - started
        self._left -= waited
        if self._left <= 0:
            raise ClientTooSlow("the rest of a refused message took too long")
        self._waited += waited
        self._received += len(octets)
        if self._waited >= self._window:
            if self._received < self._rate * self._waited:
                raise ClientTooSlow(f"less than {self._rate} octets a second")
            self._waited, self._received = 0.0, 0
        return octets


class MessageBody:
    """The message that follows DATA.

    `stream` is for the application. `failure` is what a read of it raised, None where the message
    arrived whole: then, and only then, may it be acknowledged.
    """

    def __init__(self, pace: Pace, reader: Reader, bare_newline: str, size: int | None) -> None:
        """`bare_newline` is the policy; `size` the largest message in octets, None for any."""
        self._pace = pace
        self._reader = reader
        self._refuse_bare_newline = bare_newline == "reject"
        self._decoder = DotDecoder(bare_newline)
        self._room = size
        self.size_exceeded = False
        self.discarded = 0
        self.failure: Exception | None = None
        self.stream = DataStream(self)

    def next_piece(self) -> bytes:
        """The next octets of the message for the application, b"" at its end.

        Where the message is larger than allowed the end comes at the limit, after the rest has been
        thrown away. Raises `failure`.
        """
        if self.failure is not None:
            raise self.failure
        while not self._decoder.ended:
            piece = self._within_size(self._decode_some())
            if piece:
                return piece
        return b""

    def discard(self, *, refused: bool) -> None:
        """Throw away what the application did not read, and end its stream for good.

        The rest of a message that is `refused` must come soon. Never raises; a connection that
        breaks meanwhile is in `failure`.
        """
        self.stream.drop()
        if refused:
            self._pace.hurry()
        # `failure` keeps what is raised here; a bare newline does not end the message.
        while not self._decoder.ended and not isinstance(self.failure, ConnectionError):
            with contextlib.suppress(ConnectionError, SMTPError):
                piece = self._within_size(self._decode_some())
                self.discarded += len(piece)
        # The message is over, but an application may keep its stream, and each cycle of references
        # keep the connection.
        del self._pace, self._reader
        if self.failure is not None:
            forget_frames(self.failure)

    def _within_size(self, piece: bytes) -> bytes:
        """As much of `piece` as there is room for; the rest is thrown away."""
        if self._room is None:
            return piece
        if len(piece) > self._room:
            self.size_exceeded = True
            self._pace.hurry()
            self.discarded += len(piece) - self._room
            piece = piece[: self._room]
        self._room -= len(piece)
        return piece

    def _decode_some(self) -> bytes:
        """The next octets of the message, b"" at its end only.

        Raises `failure`, at the moment it comes.
        """
        piece = b""
        while not piece and not self._decoder.ended:
            try:
                octets = self._pace.read_some()
            except ConnectionError as error:
                self.failure = error
                raise
            piece = self._decoder.feed(octets)
            if self._decoder.ended:
                self._reader.give_back(self._decoder.rest)
        if self._refuse_bare_newline and self._decoder.bare_newline and self.failure is None:
            self.discarded += len(piece)
            self.failure = SMTPError("Error: message contains bare CR or LF", 550, "5.6.11")
            self._pace.hurry()
            raise self.failure
        return piece
