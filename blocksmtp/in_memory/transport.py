"""A connection's end that is in memory only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..errors import ClientGone

if TYPE_CHECKING:
    from ..wire.transport import WakeUp


class MemoryTransport:
    """The server's end of a connection that is in memory only: see Transport."""

    def __init__(self) -> None:
        self._pieces: Iterator[bytes] = iter(())
        self._piece = b""
        self._answers = bytearray()
        self.ended = False
        """Whether the client has closed its end."""
        self.starved = False
        """Whether the server wanted more than the client had said."""
        self.failure: Exception | None = None
        """What the client's own pieces raised."""

    def say(self, pieces: Iterable[bytes]) -> None:
        """Have the server receive `pieces`, one after the other, when it wants them."""
        self._pieces = iter(pieces)

    @property
    def has_octets(self) -> bool:
        """Whether there is more to receive."""
        try:
            while not self._piece:
                self._piece = next(self._pieces)
        except StopIteration:
            return False
        except Exception as error:  # noqa: BLE001 - the test's, not the application's
            self.failure = error
            raise ClientGone("the client failed") from None
        return True

    def receive(self, size: int, seconds: float, *, interruptible: bool) -> bytes:
        """See Transport; `seconds` never pass."""
        if not self.has_octets:
            if self.ended:
                return b""
            self.starved = True
            raise ClientGone("the client says no more")
        octets, self._piece = self._piece[:size], self._piece[size:]
        return octets

    def send(self, octets: bytes, seconds: float, total_seconds: float) -> None:
        """See Transport."""
        self._answers += octets

    def take_answers(self) -> bytes:
        """What was sent since the last call."""
        answers = bytes(self._answers)
        self._answers.clear()
        return answers

    def wait_readable(self, seconds: float, wake_up: WakeUp) -> bool:
        """See Transport."""
        return self.has_octets

    def interrupt(self) -> None:
        """See Transport. It never waits."""

    def abort(self) -> None:
        """See Transport."""
        self.ended = True

    def close(self, *, linger: bool) -> None:
        """See Transport."""
        self.ended = True
