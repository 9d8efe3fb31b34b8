"""A message on its way in: where its octets come from, and every limit they meet."""

from __future__ import annotations

import abc
import contextlib
import math
import time

from ..errors import ClientTooSlow, SMTPError, forget_frames
from .dot_stuffing import DotDecoder
from .reader import BODY_READ, Reader
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

    def read_some(self, most: int = BODY_READ) -> bytes:
        """The next octets, at most so many. Raises ClientTooSlow and ClientGone."""
        behind = self._received < self._rate * self._window
        # A client that is fast enough never gets here with much of the window gone.
        seconds = self._window - self._waited if behind else self._window
        started = time.monotonic()
        octets = self._reader.read_some(max(min(seconds, self._left), 0.001), most)
        self.count(time.monotonic() - started, len(octets))
        return octets

    def count(self, waited: float, received: int) -> None:
        """So many seconds were waited, for so many octets. Raises ClientTooSlow."""
        self._left -= waited
        if self._left <= 0:
            raise ClientTooSlow("the rest of a refused message took too long")
        self._waited += waited
        self._received += received
        if self._waited >= self._window:
            if self._received < self._rate * self._waited:
                raise ClientTooSlow(f"less than {self._rate} octets a second")
            self._waited, self._received = 0.0, 0


class MessageBody(abc.ABC):
    """A message on its way in; how its octets are framed is a subclass's matter.

    `stream` is for the application. `failure` is what a read of it raised, None where the message
    arrived whole: then, and only then, may it be acknowledged.
    """

    def __init__(self, pace: Pace, size: int | None) -> None:
        """`size` is the largest message in octets, None for any."""
        self._pace = pace
        self._room = size
        self._ended = False
        self.size_exceeded = False
        self.discarded = 0
        self.failure: Exception | None = None
        self.stream = self._make_stream()

    def _make_stream(self) -> DataStream:
        return DataStream(self)

    @property
    @abc.abstractmethod
    def complete(self) -> bool:
        """Whether the client has sent the message's end, so that each recipient is owed a reply."""

    @abc.abstractmethod
    def _receive_some(self) -> bytes:
        """The next octets of the message, b"" at its end only.

        Sets `_ended` with the last. Raises what becomes `failure`, at the moment it comes.
        """

    def next_piece(self) -> bytes:
        """The next octets of the message for the application, b"" at its end.

        Where the message is larger than allowed the end comes at the limit, after the rest has been
        thrown away. Raises `failure`.
        """
        if self.failure is not None:
            raise self.failure
        while not self._ended:
            piece = self._take_some()
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
            self._refuse()
        # `failure` keeps what is raised here; a bare newline does not end the message.
        while not self._ended and not isinstance(self.failure, ConnectionError):
            with contextlib.suppress(ConnectionError, SMTPError):
                piece = self._take_some()  # It may add to `discarded` itself.
                self.discarded += len(piece)
        # The message is over, but an application may keep its stream, and each cycle of references
        # keep the connection.
        self._let_go()
        if self.failure is not None:
            forget_frames(self.failure)

    def _take_some(self) -> bytes:
        """The next octets that the application may have; b"" is not the end. Raises `failure`."""
        try:
            piece = self._receive_some()
            if self._room is not None:
                piece = self._within_size(piece, self._room)
        except (ConnectionError, SMTPError) as error:
            self.failure = error
            raise
        return piece

    def _within_size(self, piece: bytes, room: int) -> bytes:
        """As much of `piece` as there is room for; the rest is thrown away."""
        if len(piece) > room:
            self.size_exceeded = True
            self._refuse()
            self.discarded += len(piece) - room
            piece = piece[:room]
        self._room = room - len(piece)
        return piece

    def _refuse(self) -> None:
        """Whatever comes is only thrown away: it shall be over soon."""
        self._pace.hurry()

    def _let_go(self) -> None:
        """Forget the connection."""
        del self._pace


class DotStuffedBody(MessageBody):
    """The message that follows DATA (RFC 5321, section 4.5.2)."""

    def __init__(self, pace: Pace, reader: Reader, bare_newline: str, size: int | None) -> None:
        """`bare_newline` is the policy; `size` the largest message in octets, None for any."""
        super().__init__(pace, size)
        self._reader = reader
        self._refuse_bare_newline = bare_newline == "reject"
        self._decoder = DotDecoder(bare_newline)

    @property
    def complete(self) -> bool:
        """See MessageBody: nothing is said before the end mark."""
        return True

    def _receive_some(self) -> bytes:
        """See MessageBody."""
        piece = b""
        while not piece and not self._decoder.ended:
            piece = self._decoder.feed(self._pace.read_some())
            if self._decoder.ended:
                self._ended = True
                self._reader.give_back(self._decoder.rest)
        if self._refuse_bare_newline and self._decoder.bare_newline:
            self._refuse_bare_newline = False
            self.discarded += len(piece)
            self._refuse()
            raise SMTPError("Error: message contains bare CR or LF", 550, "5.6.11")
        return piece

    def _let_go(self) -> None:
        """See MessageBody."""
        super()._let_go()
        del self._reader
