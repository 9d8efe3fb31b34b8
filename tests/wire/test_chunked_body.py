"""A message in chunks: its octets, its limits, and the answers that are due."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from typing import NamedTuple

import pytest

from blocksmtp.errors import ClientGone, ClientTooSlow, MessageAborted
from blocksmtp.wire.body import Pace
from blocksmtp.wire.chunked_body import ChunkedBody
from tests.wire.scripted import Clock, Pause, Scripted, Step, split_at


class Chunk(NamedTuple):
    size: int
    last: bool = False


class Chunks:
    """The commands that announce the chunks, played from a list; the octets come from a script."""

    def __init__(
        self,
        chunks: Iterable[Chunk | Exception],
        *steps: Step,
        size: int | None = None,
        clock: Clock | None = None,
        rate: int = 0,
        seconds_between: float = 0.0,
    ) -> None:
        first, *self.coming = chunks
        self.events: list[str] = []
        self._clock = clock
        self._seconds_between = seconds_between
        reader = Scripted(*steps, clock=clock).reader()
        assert isinstance(first, Chunk)
        pace = Pace(reader, 60.0, rate, 300.0)
        self.body = ChunkedBody(pace, first, self.acknowledge, self.next_chunk, size)

    def acknowledge(self) -> None:
        self.events.append(f"acknowledged after {self.body.stream.byte_length}")

    def next_chunk(self) -> Chunk:
        self.events.append("next")
        if self._clock is not None:
            self._clock.now += self._seconds_between
        chunk = self.coming.pop(0)
        if isinstance(chunk, Exception):
            raise chunk
        return chunk


def test_the_octets_of_all_chunks_whatever_they_are() -> None:
    octets = b"..\r\n.\r\nQUIT\r\n\n\r\0\xff"
    for cuts in ([], list(range(len(octets))), [3, 7]):
        chunks = Chunks([Chunk(5), Chunk(0), Chunk(11, last=True)], *split_at(octets, cuts))
        assert chunks.body.stream.read() == octets[:16]
        assert chunks.body.complete
        chunks.body.discard(refused=False)
        assert chunks.body.failure is None
        assert chunks.body.stream.byte_length == 16
        assert [event for event in chunks.events if event == "next"] == ["next", "next"]


@pytest.mark.parametrize("pieces", [(b"abcdefg",), (b"a", b"bcdefg"), (b"ab", b"c", b"de", b"fg")])
def test_a_chunk_is_acknowledged_once_it_was_read_and_the_last_one_is_not(
    pieces: tuple[bytes, ...],
) -> None:
    chunks = Chunks([Chunk(3), Chunk(2), Chunk(2, last=True)], *pieces)
    stream = chunks.body.stream
    assert stream.read(2) == b"ab"
    assert chunks.events == []
    assert stream.read(1) == b"c"
    assert chunks.events == ["acknowledged after 3"]
    assert stream.read() == b"defg"
    assert chunks.events == ["acknowledged after 3", "next", "acknowledged after 5", "next"]
    chunks.body.discard(refused=False)
    assert chunks.body.complete


def test_a_line_that_ends_a_chunk_is_all_of_it() -> None:
    chunks = Chunks([Chunk(6), Chunk(2, last=True)], b"a\r\nb\r\nc\n")
    stream = chunks.body.stream
    assert stream.readline() == b"a\r\n"
    assert chunks.events == []
    assert stream.readline() == b"b\r\n"
    assert chunks.events == ["acknowledged after 6"]
    assert stream.readline() == b"c\n"
    assert stream.readline() == b""


def test_no_octet_beyond_the_chunk_is_taken() -> None:
    reader = Scripted(b"HelloQUIT\r\n").reader()
    pace = Pace(reader, 60.0, 0, 300.0)
    body = ChunkedBody(pace, Chunk(5, last=True), lambda: None, lambda: Chunk(0, last=True), None)
    assert body.stream.read() == b"Hello"
    body.discard(refused=False)
    assert reader.readline(lambda line: 100) == b"QUIT\r\n"


def test_what_is_left_unread_is_read_away_chunk_by_chunk() -> None:
    chunks = Chunks([Chunk(3), Chunk(3), Chunk(3, last=True)], b"abcdefghi")
    assert chunks.body.stream.read(1) == b"a"
    chunks.body.discard(refused=False)
    assert chunks.body.complete
    assert chunks.body.stream.byte_length == 9
    assert len([event for event in chunks.events if event != "next"]) == 2


@pytest.mark.parametrize("pieces", [(b"abcdefghi",), (b"abc", b"defghi")])
def test_a_refusal_in_a_chunk_is_the_answer_to_it(pieces: tuple[bytes, ...]) -> None:
    chunks = Chunks([Chunk(6), Chunk(3, last=True)], *pieces)
    assert chunks.body.stream.read(1) == b"a"
    chunks.body.discard(refused=True)
    assert not chunks.body.complete
    assert chunks.events == []
    assert chunks.body.stream.byte_length == 6


def test_a_refusal_after_an_acknowledged_chunk_waits_for_the_next() -> None:
    chunks = Chunks([Chunk(3), Chunk(3), Chunk(3, last=True)], b"abcdefghi")
    assert chunks.body.stream.read(3) == b"abc"
    chunks.body.discard(refused=True)
    assert not chunks.body.complete
    assert chunks.events == ["acknowledged after 3", "next"]
    assert chunks.coming == [Chunk(3, last=True)]


def test_the_chunk_that_passes_the_size_ends_the_message() -> None:
    chunks = Chunks([Chunk(3), Chunk(4), Chunk(3, last=True)], b"abcdefghij", size=5)
    assert chunks.body.stream.read() == b"abcde"
    assert chunks.body.size_exceeded
    assert not chunks.body.complete
    chunks.body.discard(refused=False)
    assert chunks.coming == [Chunk(3, last=True)]
    assert chunks.body.stream.byte_length == 7


def test_a_message_given_up_between_chunks_is_no_end() -> None:
    chunks = Chunks([Chunk(3), MessageAborted("given up")], b"abc")
    assert chunks.body.stream.read(3) == b"abc"
    for _ in range(2):
        with pytest.raises(ConnectionAbortedError):
            chunks.body.stream.read()
    chunks.body.discard(refused=False)
    assert isinstance(chunks.body.failure, MessageAborted)


def test_a_connection_that_ends_in_a_chunk_is_no_end() -> None:
    chunks = Chunks([Chunk(9, last=True)], b"abc")
    with pytest.raises(ClientGone):
        chunks.body.stream.read()
    assert not chunks.body.complete


def test_an_acknowledgement_that_cannot_be_sent_is_a_broken_connection() -> None:
    chunks = Chunks([Chunk(3), Chunk(3, last=True)], b"abcdef")

    def gone() -> None:
        raise ClientGone("gone")

    chunks.body._acknowledge = gone
    with pytest.raises(ClientGone):
        chunks.body.stream.read()
    assert isinstance(chunks.body.failure, ClientGone)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock().install(monkeypatch)


def test_the_rate_holds_in_a_chunk(clock: Clock) -> None:
    drip: list[Step] = [step for _ in range(100) for step in (Pause(1), b"x")]
    chunks = Chunks([Chunk(100, last=True)], *drip, clock=clock, rate=500)
    started = clock.now
    with pytest.raises(ClientTooSlow):
        chunks.body.stream.read()
    assert clock.now - started <= 61


def test_the_rate_holds_between_chunks(clock: Clock) -> None:
    octets: list[Step] = [b"x"] * 100
    chunks = Chunks([Chunk(1)] * 100, *octets, clock=clock, rate=500, seconds_between=10)
    started = clock.now
    with pytest.raises(ClientTooSlow):
        chunks.body.stream.read()
    assert clock.now - started <= 70


def test_the_rest_of_a_refused_chunk_must_come_soon(clock: Clock) -> None:
    drip: list[Step] = [step for _ in range(1000) for step in (Pause(1), b"x" * 1000)]
    chunks = Chunks([Chunk(1_000_000, last=True)], *drip, clock=clock, rate=500)
    started = clock.now
    chunks.body.discard(refused=True)
    assert isinstance(chunks.body.failure, ClientTooSlow)
    assert clock.now - started <= 301


def test_a_stream_that_is_kept_keeps_nothing_else() -> None:
    chunks = Chunks([Chunk(3, last=True)], b"abc")
    stream = chunks.body.stream
    chunks.body.discard(refused=False)
    kept = weakref.ref(chunks)
    gc.disable()
    try:
        del chunks
        assert kept() is None
    finally:
        gc.enable()
    assert stream.read() == b""
