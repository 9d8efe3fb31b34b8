"""DataStream as a binary file: io.BytesIO is the judge."""

from __future__ import annotations

import email
import email.policy
import hashlib
import io
import shutil
from collections.abc import Callable, Iterable
from email.parser import BytesFeedParser, BytesParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksmtp.errors import ClientGone, SMTPError
from blocksmtp.wire.body import MessageBody
from blocksmtp.wire.stream import DataStream
from tests.wire.scripted import dot_stuffed, message_body, split_at

MESSAGE = (
    b"From: a@client.example\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + "Zwölf Boxkämpfer\r\n".encode()
    + b".\r\n..\r\n\r\nend\r\n"
)


def pieces_of(octets: bytes, size: int) -> list[bytes]:
    return [octets[at : at + size] for at in range(0, len(octets), size)]


def stream_of(message: bytes, size: int = 7) -> DataStream:
    """A stream of `message`, which arrives `size` octets at a time; nothing is changed in it."""
    return message_body(*pieces_of(dot_stuffed(message), size), policy="keep").stream


# --- every mix of calls ---------------------------------------------------------------------------

_sizes = st.integers(0, 40)
_limits = st.one_of(_sizes, st.just(-1), st.none())
_calls = st.one_of(
    st.tuples(st.sampled_from(["read", "readline", "readlines"]), _limits),
    st.tuples(st.sampled_from(["read", "readline", "readlines", "read1", "next"])),
    st.tuples(st.just("read1"), st.one_of(_sizes, st.just(-1))),
    st.tuples(st.sampled_from(["readinto", "readinto1"]), _sizes),
)
_fragments = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b".", b"\r\n.", b"a", b"\0", b"\xff", b"words "]
)
_messages = st.lists(_fragments, max_size=40).map(lambda parts: b"".join([*parts, b"\r\n"]))


def call(file: io.BufferedIOBase, name: str, arguments: tuple[Any, ...]) -> Any:
    """The result of a call; for the `into` ones, what was put into the buffer."""
    if name == "next":
        return next(file, b"")
    if name in ("readinto", "readinto1"):
        buffer = bytearray(b"-" * arguments[0])
        count = getattr(file, name)(buffer)
        assert buffer[count:] == b"-" * (len(buffer) - count)
        return bytes(buffer[:count])
    return getattr(file, name)(*arguments)


@given(
    message=st.one_of(st.just(b""), _messages),
    cuts=st.lists(st.integers(0, 120), max_size=10),
    calls=st.lists(_calls, max_size=25),
)
def test_any_calls_in_any_order(
    message: bytes, cuts: list[int], calls: list[tuple[Any, ...]]
) -> None:
    pieces = split_at(dot_stuffed(message), cuts)
    stream = message_body(*pieces, policy="keep").stream
    oracle = io.BytesIO(message)
    for name, *arguments in calls:
        got = call(stream, name, tuple(arguments))
        if name in ("read1", "readinto1"):
            # How much of it is at hand is nobody's promise, but b"" is the end.
            wanted = arguments[0] if arguments else -1
            assert len(got) <= wanted or wanted < 0
            assert bool(got) == bool(wanted and message[oracle.tell() :])
            assert got == oracle.read(len(got))
        else:
            assert got == call(oracle, name, tuple(arguments)), name
        assert stream.byte_length == oracle.tell()
    assert stream.read() == oracle.read()
    assert stream.byte_length == len(message)
    assert not stream.size_exceeded


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1000])
@pytest.mark.parametrize(
    "read",
    [
        lambda file: file.read(),
        lambda file: file.read(None),
        lambda file: b"".join(iter(lambda: file.read(3), b"")),
        lambda file: b"".join(iter(file.read1, b"")),
        lambda file: b"".join(iter(lambda: file.read1(3), b"")),
        b"".join,
        lambda file: b"".join(iter(file.readline, b"")),
        lambda file: b"".join(iter(lambda: file.readline(3), b"")),
        lambda file: b"".join(file.readlines()),
        lambda file: b"".join(line for line in file),
    ],
)
def test_one_way_of_reading(read: Callable[[io.BufferedIOBase], bytes], size: int) -> None:
    assert read(stream_of(MESSAGE, size)) == MESSAGE


def test_iteration_goes_on_after_a_break_and_mixes_with_reads() -> None:
    stream = stream_of(b"one\r\ntwo\nthree\r\nfour\r\nfive\r\n", 1000)
    for line in stream:
        assert line == b"one\r\n"
        assert stream.read(2) == b"tw"
        break
    assert list(stream) == [b"o\n", b"three\r\n", b"four\r\n", b"five\r\n"]
    assert iter(stream) is stream


def test_a_long_line_comes_whole() -> None:
    message = b"x" * 1_000_000 + b"\r\n"
    assert stream_of(message, 60_000).readline() == message
    assert stream_of(message, 60_000).readline(700_000) == message[:700_000]


def test_read1_does_not_wait_for_more() -> None:
    asked = []
    body = message_body(b"first ", lambda: asked.append(True), b"second\r\n.\r\n")
    assert body.stream.read1() == b"first "
    assert not asked
    assert body.stream.read1(3) == b"sec"
    assert body.stream.read1(100) == b"ond\r\n"


# --- as the standard library's own files ----------------------------------------------------------


def test_it_is_a_binary_file_to_read() -> None:
    stream = stream_of(MESSAGE)
    assert isinstance(stream, io.BufferedIOBase)
    assert stream.readable()
    assert not stream.writable()
    assert not stream.seekable()
    assert not stream.isatty()
    stream.flush()
    refused: Iterable[Callable[[], object]] = (
        lambda: stream.write(b"a"),
        lambda: stream.writelines([b"a"]),
        lambda: stream.seek(0),
        stream.tell,
        stream.truncate,
        stream.fileno,
        stream.detach,
    )
    for operation in refused:
        with pytest.raises(io.UnsupportedOperation):
            operation()
    assert stream.read() == MESSAGE


def test_readinto_takes_any_writable_buffer() -> None:
    import array

    numbers = array.array("H", [0] * 5)
    stream = stream_of(b"0123456789ab\r\n", 3)
    assert stream.readinto(numbers) == 10
    assert numbers.tobytes() == b"0123456789"
    assert stream.readinto1(memoryview(bytearray(100))[::1]) > 0
    for readinto in (stream.readinto, stream.readinto1):
        with pytest.raises(TypeError):
            readinto(b"1234")


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_message_from_binary_file(size: int) -> None:
    stream = stream_of(MESSAGE, size)
    parsed = email.message_from_binary_file(stream, policy=email.policy.SMTP)
    assert parsed["Subject"] == "café"
    assert parsed.get_content() == "Zwölf Boxkämpfer\n.\n..\n\nend\n"
    assert (
        parsed.as_bytes() == email.message_from_bytes(MESSAGE, policy=email.policy.SMTP).as_bytes()
    )
    assert not stream.closed


def test_the_parsers_of_email() -> None:
    expected = email.message_from_bytes(MESSAGE, policy=email.policy.SMTP).as_bytes()
    assert BytesParser(policy=email.policy.SMTP).parse(stream_of(MESSAGE)).as_bytes() == expected
    headers = BytesParser(policy=email.policy.SMTP).parsebytes(stream_of(MESSAGE).read(), True)
    assert headers["From"] == "a@client.example"
    feed = BytesFeedParser(policy=email.policy.SMTP)
    for line in stream_of(MESSAGE):
        feed.feed(line)
    assert feed.close().as_bytes() == expected


def test_copyfileobj() -> None:
    copy = io.BytesIO()
    shutil.copyfileobj(stream_of(MESSAGE), copy)
    assert copy.getvalue() == MESSAGE
    copy = io.BytesIO()
    shutil.copyfileobj(stream_of(MESSAGE), copy, 3)
    assert copy.getvalue() == MESSAGE


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_inside_other_files(size: int) -> None:
    text = io.TextIOWrapper(stream_of(MESSAGE, size), encoding="utf-8", newline="")
    assert text.read().encode() == MESSAGE
    text = io.TextIOWrapper(stream_of(MESSAGE, size), encoding="utf-8")
    assert text.name == "<message>"
    assert [line.rstrip("\n") for line in text] == MESSAGE.decode().splitlines()
    # It has all that a raw file needs to have.
    buffered = io.BufferedReader(stream_of(MESSAGE, size))
    assert buffered.peek(4)[:4] == b"From"
    assert buffered.readlines() == MESSAGE.splitlines(keepends=True)


def test_hashlib_reads_it() -> None:
    if hasattr(hashlib, "file_digest"):  # from 3.11 on
        digest = hashlib.file_digest(stream_of(MESSAGE), "sha256").digest()
        assert digest == hashlib.sha256(MESSAGE).digest()


# --- the end, and after it ------------------------------------------------------------------------


def exhausted(stream: DataStream) -> None:
    """It has ended, however one asks."""
    assert stream.read() == stream.read(5) == stream.read1() == stream.readline() == b""
    assert stream.readlines() == list(stream) == []
    assert stream.readinto(bytearray(5)) == stream.readinto1(bytearray(5)) == 0


def test_after_the_end_there_is_nothing() -> None:
    body = message_body(dot_stuffed(MESSAGE) + b"MAIL FROM:<>\r\n", b"RCPT TO:<>\r\n")
    assert body.stream.read() == MESSAGE
    exhausted(body.stream)
    assert body.stream.byte_length == len(MESSAGE)


@pytest.mark.parametrize("read", [0, 1, 10, len(MESSAGE)])
def test_after_the_callback_there_is_nothing(read: int) -> None:
    body = message_body(*pieces_of(dot_stuffed(MESSAGE) + b"QUIT\r\n", 7))
    assert body.stream.read(read) == MESSAGE[:read]
    body.discard(refused=False)
    exhausted(body.stream)
    assert body.stream.byte_length == len(MESSAGE)
    assert body.failure is None


def closed(stream: DataStream) -> None:
    """Nothing works any more, as with any closed file."""
    operations: Iterable[Callable[[], object]] = (
        stream.read,
        lambda: stream.read(0),
        lambda: stream.read(1),
        stream.read1,
        stream.readline,
        lambda: stream.readline(0),
        stream.readlines,
        lambda: stream.readinto(bytearray(1)),
        lambda: stream.readinto(bytearray()),
        lambda: stream.readinto1(bytearray(1)),
        lambda: iter(stream),
        lambda: next(stream),
        stream.readable,
        stream.__enter__,
    )
    for operation in operations:
        with pytest.raises(ValueError, match="closed"):
            operation()


def test_a_closed_stream() -> None:
    body = message_body(*pieces_of(dot_stuffed(MESSAGE), 150))
    # Lines are at hand that must not be read any more.
    assert body.stream.readline() == b"From: a@client.example\r\n"
    with body.stream as stream:
        pass
    assert stream.closed
    closed(stream)
    stream.close()
    closed(stream)
    body.discard(refused=False)
    assert body.failure is None
    assert stream.byte_length == len(MESSAGE)
    closed(stream)


def test_a_stream_that_is_dropped_while_open() -> None:
    # The last reference to a text wrapper closes what is inside.
    body = message_body(*pieces_of(dot_stuffed(MESSAGE), 10))
    io.TextIOWrapper(body.stream, encoding="ascii").readline()
    assert body.stream.closed
    body.discard(refused=False)
    assert body.failure is None
    assert body.stream.byte_length == len(MESSAGE)


# --- byte_length and size_exceeded ----------------------------------------------------------------


def test_byte_length_counts_what_the_application_gets() -> None:
    # Dots are unstuffed, and a bare LF is two octets.
    body = message_body(b"..one\ntwo\r\n", b"three\r\n.\r\n")
    assert body.stream.byte_length == 0
    assert body.stream.readline() == b".one\r\n"
    assert body.stream.byte_length == 6
    assert body.stream.read(1) == b"t"
    assert body.stream.byte_length == 7
    body.discard(refused=False)
    assert body.stream.byte_length == len(b".one\r\ntwo\r\nthree\r\n")


def sized(message: bytes, size: int, piece: int = 4) -> MessageBody:
    return message_body(*pieces_of(dot_stuffed(message) + b"QUIT\r\n", piece), size=size)


@pytest.mark.parametrize("piece", [1, 2, 4, 11, 1000])
@pytest.mark.parametrize("excess", [-2, -1, 0, 1, 2, 500])
def test_the_stream_ends_at_the_size(excess: int, piece: int) -> None:
    message = b".2345\r\n.9\r\n" + b"x" * max(0, excess - 3) + b"\r\n"
    size = len(message) - excess
    body = sized(message, size, piece)
    assert body.stream.read() == message[:size]
    assert body.stream.size_exceeded == (excess > 0)
    exhausted(body.stream)
    assert body.stream.byte_length == len(message)
    body.discard(refused=False)
    assert body.stream.byte_length == len(message)
    assert body.stream.size_exceeded == (excess > 0)
    assert body.failure is None


@pytest.mark.parametrize("excess", [0, 1, 500])
def test_the_size_counts_where_nothing_is_read(excess: int) -> None:
    message = b"x" * 1000 + b"\r\n"
    body = sized(message, len(message) - excess)
    body.discard(refused=False)
    assert body.stream.size_exceeded == (excess > 0)
    assert body.stream.byte_length == len(message)
    exhausted(body.stream)


def test_the_excess_shows_as_soon_as_it_is_there() -> None:
    body = message_body(b"12345678", b"9", b"\r\n.\r\n", size=8)
    stream = body.stream
    assert stream.read(8) == b"12345678"
    assert not stream.size_exceeded
    assert stream.byte_length == 8
    assert stream.read(1) == b""
    assert stream.size_exceeded
    assert stream.byte_length == 11

    # It may be known before the application has read up to it.
    body = message_body(b"123456789\r\n.\r\n", size=8)
    assert body.stream.read(1) == b"1"
    assert body.stream.size_exceeded


# --- what goes wrong ------------------------------------------------------------------------------

READS: tuple[Callable[[DataStream], object], ...] = (
    DataStream.read,
    lambda stream: stream.read(100),
    lambda stream: [stream.read1() for _ in range(9)],
    DataStream.readlines,
    lambda stream: [stream.readline() for _ in range(9)],
    lambda stream: stream.readinto(bytearray(100)),
    lambda stream: [stream.readinto1(bytearray(100)) for _ in range(9)],
    list,
    email.message_from_binary_file,
    lambda stream: shutil.copyfileobj(stream, io.BytesIO()),
    lambda stream: io.TextIOWrapper(stream, encoding="utf-8").read(),
)


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("error", [ClientGone("reset"), None])
def test_a_broken_connection_is_never_a_silent_end(
    read: Callable[[DataStream], object], error: Exception | None
) -> None:
    body = message_body(b"a\r\n", b"b\r\n.", *([] if error is None else [error]))
    with pytest.raises(ConnectionError) as caught:
        read(body.stream)
    assert caught.value is body.failure


@pytest.mark.parametrize("read", READS)
def test_a_bare_newline_to_be_rejected(read: Callable[[DataStream], object]) -> None:
    body = message_body(b"a\r\n", b"b\n", b"c\r\n.\r\n", policy="reject")
    with pytest.raises(SMTPError) as caught:
        read(body.stream)
    assert caught.value is body.failure


def test_the_failure_stays() -> None:
    stream = message_body(b"a\r\nb").stream
    assert stream.readline() == b"a\r\n"
    for _ in range(3):
        with pytest.raises(ConnectionError):
            stream.read()
        with pytest.raises(ConnectionError):
            stream.readline()
        with pytest.raises(ConnectionError):
            next(stream)
