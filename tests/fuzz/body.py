"""Target `body`: a message on its way in, against the reader that looks at one octet at a time.

Letters: `r` reads all at once, `l` by lines, `i` into a buffer, `1` what is at hand, `p` in small
pieces (by default), `s` with a size limit that the message may pass, `q` reads only a little.
"""

from __future__ import annotations

from blocksmtp.errors import SMTPError
from blocksmtp.wire.dot_stuffing import DotDecoder
from blocksmtp.wire.reader import Reader
from blocksmtp.wire.stream import DataStream
from tests.fuzz.inputs import Plan, read_plan
from tests.wire.scripted import message_body
from tests.wire.test_dot_stuffing import END, POLICIES, reference

_LIMIT = 10
_LITTLE = 5


def body_target(octets: bytes) -> None:
    """A message, under each policy for bare newlines."""
    plan = read_plan(octets)
    for policy in POLICIES:
        expected = _Expected(plan, policy)
        _decode(plan, expected, policy)
        _receive(plan, expected, policy)


class _Expected:
    """The reference's reading of a plan's octets."""

    def __init__(self, plan: Plan, policy: str) -> None:
        self.complete = END in b"\r\n" + plan.octets
        wire = plan.octets if self.complete else plan.octets + END
        self.message, self.bare, self.rest = reference(wire, policy)


def _decode(plan: Plan, expected: _Expected, policy: str) -> None:
    decoder = DotDecoder(policy)
    message, rest = b"", b""
    for piece in plan.pieces():
        if decoder.ended:
            rest += piece
        else:
            message += decoder.feed(piece)
    assert decoder.ended is expected.complete
    if expected.complete:
        assert message == expected.message
        assert decoder.rest + rest == expected.rest
        assert decoder.bare_newline is expected.bare
    else:
        # What is handed out early is never taken back.
        assert expected.message.startswith(message)
        assert decoder.bare_newline <= expected.bare


def _receive(plan: Plan, expected: _Expected, policy: str) -> None:
    size = _LIMIT if "s" in plan.letters else None
    body = message_body(*plan.pieces(), policy=policy, size=size)
    reader = body._reader
    got, error = _read(body.stream, plan.letters)
    noticed = policy == "reject" and expected.bare
    if isinstance(error, SMTPError):
        assert noticed
        assert (error.response_code, error.enhanced_code) == (550, "5.6.11")
    elif error is not None:
        assert not expected.complete, error
    elif "q" not in plan.letters:
        assert expected.complete, "the end of a message that broke off"
        assert not noticed, "a bare newline passed"
        assert got == expected.message[:size]
    assert expected.message[:size].startswith(got)

    body.discard(refused=error is not None)
    assert body.failure is not None or body.stream.read() == b"", "something after the end"
    if not expected.complete:
        assert isinstance(body.failure, ConnectionError), body.failure
        return
    assert isinstance(body.failure, SMTPError) if noticed else body.failure is None
    assert body.size_exceeded is body.stream.size_exceeded
    if not noticed:
        assert body.size_exceeded is (size is not None and len(expected.message) > size)
        assert body.stream.byte_length == len(expected.message)
    assert _rest(reader) == expected.rest, "the dialogue is out of step"


def _read(stream: DataStream, letters: frozenset[str]) -> tuple[bytes, Exception | None]:
    """What the stream gave, and what a read raised."""
    got: list[bytes] = []
    try:
        if "q" in letters:
            got.append(stream.read(_LITTLE))
        elif "r" in letters:
            got.append(stream.read())
        elif "l" in letters:
            for line in stream:
                assert line.find(b"\n") in (-1, len(line) - 1), line
                got.append(line)
        elif "i" in letters:
            buffer = bytearray(7)
            while count := stream.readinto(buffer):
                got.append(bytes(buffer[:count]))
        elif "1" in letters:
            while piece := stream.read1():
                got.append(piece)
        else:
            while piece := stream.read(3):
                got.append(piece)
                assert stream.byte_length >= sum(map(len, got))
            assert stream.read(3) == b"", "something after the end"
    except (ConnectionError, SMTPError) as error:
        return b"".join(got), error
    return b"".join(got), None


def _rest(reader: Reader) -> bytes:
    """What the reader has for the dialogue."""
    octets = []
    try:
        while True:
            octets.append(reader.read_some(1.0))
    except ConnectionError:
        return b"".join(octets)
