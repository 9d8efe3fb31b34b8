"""A transport that plays a script, and a clock that only moves when the script says so.

clock = Clock()
transport = Scripted(b"NOOP\\r\\n", Pause(3.0), b"QUIT\\r\\n", clock=clock)
reader = transport.reader()
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import pytest

from blocksmtp.errors import ClientTooSlow
from blocksmtp.wire.body import DotStuffedBody, Pace
from blocksmtp.wire.reader import Patience, Reader
from blocksmtp.wire.transport import Transport


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        """Have reader and bodies look at this clock."""
        monkeypatch.setattr("blocksmtp.wire.reader.time", self)
        monkeypatch.setattr("blocksmtp.wire.body.time", self)
        monkeypatch.setattr("blocksmtp.wire.chunked_body.time", self)
        return self


@dataclass
class Pause:
    """The client sends nothing for so many seconds."""

    seconds: float


Step = bytes | Pause | Exception | Callable[[], None]


class Scripted:
    """Plays steps: octets arrive, time passes, errors are raised, functions called; then the end.

    Octets arrive together only where they are one step; none are handed out beyond the `size` that
    was asked for. A pause at least as long as the time limit of the call is a ClientTooSlow.
    """

    def __init__(self, *steps: Step, clock: Clock | None = None) -> None:
        self._steps = list(steps)
        self._clock = clock
        self.calls: list[tuple[int, float, bool]] = []
        """Size, seconds and `interruptible` of each call of `receive`."""
        self.waits = 0
        """How often the reader said that it was about to wait."""

    @property
    def left(self) -> list[Step]:
        """The steps that have not been played."""
        return self._steps

    def receive(self, size: int, seconds: float, *, interruptible: bool) -> bytes:
        self.calls.append((size, seconds, interruptible))
        waited = 0.0
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, bytes):
                if len(step) > size:
                    self._steps.insert(0, step[size:])
                return step[:size]
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Pause):
                assert self._clock is not None, "a pause needs a clock"
                passing = min(step.seconds, seconds - waited)
                waited += passing
                self._clock.now += passing
                if waited >= seconds:
                    if step.seconds > passing:
                        self._steps.insert(0, Pause(step.seconds - passing))
                    raise ClientTooSlow("nothing came")
            else:
                step()
        return b""

    def _about_to_wait(self) -> None:
        self.waits += 1

    def reader(
        self,
        idle_seconds: float = 60.0,
        line_seconds: float = 300.0,
        patience: Patience | None = None,
    ) -> Reader:
        """A reader of this transport."""
        return Reader(
            cast(Transport, self),
            self._about_to_wait,
            idle_seconds,
            line_seconds,
            patience or Patience(None),
        )


def message_body(
    *steps: Step,
    policy: str = "normalize",
    size: int | None = None,
    clock: Clock | None = None,
    window: float = 60.0,
    rate: int = 0,
    discard_seconds: float = 300.0,
) -> DotStuffedBody:
    """The body of a message that arrives as the script says."""
    reader = Scripted(*steps, clock=clock).reader()
    return DotStuffedBody(Pace(reader, window, rate, discard_seconds), reader, policy, size)


def dot_stuffed(message: bytes) -> bytes:
    """`message`, which ends in CRLF or is empty, as a client sends it, with the end mark."""
    stuffed = (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")
    return stuffed[2:] + b".\r\n"


def split_at(octets: bytes, cuts: list[int]) -> list[bytes]:
    """`octets` cut at these positions; no piece is empty."""
    borders = sorted({0, len(octets), *(cut for cut in cuts if 0 < cut < len(octets))})
    return [octets[start:end] for start, end in itertools.pairwise(borders)]
