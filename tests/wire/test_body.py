"""A message on its way in: its limits, its failures, and the dialogue that goes on after it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from blocksmtp.errors import ClientGone, ClientTooSlow, SMTPError
from blocksmtp.wire.body import DotStuffedBody, MessageBody, Pace
from blocksmtp.wire.reader import Reader
from tests.wire.scripted import Clock, Pause, Scripted, Step, dot_stuffed, message_body

MESSAGE = b"Subject: test\r\n\r\n.dot\r\n..\r\n" + b"x" * 40 + b"\r\n"
NEXT = b"MAIL FROM:<b@client.example>\r\nQUIT\r\n"


def received(
    *steps: Step, policy: str = "normalize", size: int | None = None
) -> tuple[MessageBody, Reader]:
    """A body, and the reader that the dialogue goes on with."""
    reader = Scripted(*steps).reader()
    return DotStuffedBody(Pace(reader, 60.0, 0, 300.0), reader, policy, size), reader


def any_length(_start: bytes) -> int:
    return 10_000


def lines(reader: Reader) -> bytes:
    """What is left for the dialogue, up to the end of the connection."""
    found = b""
    while True:
        try:
            found += reader.readline(any_length)
        except ClientGone:
            return found


def closed_in_the_middle(body: MessageBody) -> None:
    with body.stream as stream:
        stream.readline()


READS: dict[str, Callable[[MessageBody], object]] = {
    "nothing": lambda body: None,
    "some": lambda body: body.stream.read(20),
    "a line": lambda body: body.stream.readline(),
    "all but the last octet": lambda body: body.stream.read(len(MESSAGE) - 1),
    "exactly all": lambda body: body.stream.read(len(MESSAGE)),
    "all": lambda body: body.stream.read(),
    "closed": lambda body: body.stream.__exit__(None, None, None),
    "closed in the middle": closed_in_the_middle,
}


# --- the dialogue stays in step -------------------------------------------------------------------


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("size", [None, 1, 30, len(MESSAGE), 1000])
def test_the_dialogue_goes_on_behind_the_end_mark(read: str, size: int | None) -> None:
    wire = dot_stuffed(MESSAGE) + NEXT
    for cut in range(1, len(wire)):
        body, reader = received(wire[:cut], wire[cut:], size=size)
        READS[read](body)
        body.discard(refused=False)
        assert body.failure is None
        assert body.stream.byte_length == len(MESSAGE)
        assert body.size_exceeded == (size is not None and size < len(MESSAGE))
        assert lines(reader) == NEXT


@pytest.mark.parametrize("read", READS)
def test_nothing_is_read_beyond_the_end_mark(read: str) -> None:
    # The client waits for the reply: a further read would wait for ever.
    body, _ = received(dot_stuffed(MESSAGE), AssertionError("read too much"))
    READS[read](body)
    body.discard(refused=False)
    assert body.failure is None


def test_two_messages_after_each_other() -> None:
    wire = dot_stuffed(b"one\r\n") + b"DATA\r\n" + dot_stuffed(b"two\r\n") + b"QUIT\r\n"
    reader = Scripted(wire).reader()
    for expected, command in ((b"one\r\n", b"DATA\r\n"), (b"two\r\n", b"QUIT\r\n")):
        body = DotStuffedBody(Pace(reader, 60.0, 0, 300.0), reader, "normalize", None)
        assert body.stream.read() == expected
        body.discard(refused=False)
        assert reader.readline(any_length) == command


# --- size -----------------------------------------------------------------------------------------


def test_the_excess_is_not_kept() -> None:
    piece = b"x" * 10_000
    body = message_body(*[piece] * 10_000, b"\r\n.\r\n", size=15_000)
    tracemalloc.start()
    try:
        assert body.stream.read() == b"x" * 15_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert body.size_exceeded
    assert body.stream.byte_length == 100_000_002


def test_the_size_counts_the_message_not_the_wire() -> None:
    # 20 dots are stuffed: 60 octets of message, 80 on the wire.
    message = b".\r\n" * 20
    body = message_body(dot_stuffed(message), size=60)
    assert body.stream.read() == message
    assert not body.size_exceeded
    # A bare LF becomes two octets.
    body = message_body(b"a\nb\nc\r\n.\r\n", size=8)
    assert body.stream.read() == b"a\r\nb\r\nc\r"
    assert body.size_exceeded


# --- bare newlines --------------------------------------------------------------------------------

SMUGGLING = (
    b"first\r\n",
    b"\n.\nMAIL FROM:<smuggler@client.example>\r\n",
    b"\n.\r\nMAIL FROM:<smuggler@client.example>\r\n",
    b"\r\n.\nMAIL FROM:<smuggler@client.example>\r\n",
    b"\r.\rMAIL FROM:<smuggler@client.example>\r\n",
    b"\r\n.\rMAIL FROM:<smuggler@client.example>\r\n",
    b"a\nb\r\n",
    b"a\rb\r\n",
    b"a\r\r\n",
    b"\n\r\n",
)


@pytest.mark.parametrize("sent", SMUGGLING[1:])
def test_a_bare_newline_is_refused_after_all_was_read(sent: bytes) -> None:
    wire = SMUGGLING[0] + sent + b".\r\n" + NEXT
    for cut in range(1, len(wire)):
        body, reader = received(wire[:cut], wire[cut:], policy="reject")
        with pytest.raises(SMTPError) as caught:
            body.stream.read()
        assert (caught.value.response_code, caught.value.enhanced_code) == (550, "5.6.11")
        assert body.failure is caught.value
        body.discard(refused=False)
        assert body.failure is caught.value
        assert body.stream.byte_length == len((SMUGGLING[0] + sent).replace(b"\r\n.", b"\r\n"))
        assert lines(reader) == NEXT
        # It stays refused, whoever reads on.
        with pytest.raises(SMTPError):
            body.stream.read()


@pytest.mark.parametrize("sent", SMUGGLING[1:])
def test_a_bare_newline_counts_where_nobody_reads(sent: bytes) -> None:
    body, reader = received(SMUGGLING[0] + sent + b".\r\n" + NEXT, policy="reject")
    body.discard(refused=False)
    assert isinstance(body.failure, SMTPError)
    assert lines(reader) == NEXT


@pytest.mark.parametrize("read", [True, False])
def test_a_bare_newline_counts_behind_the_size_as_well(read: bool) -> None:
    wire = b"1234567890\n\r\n.\r\n" + NEXT
    for cut in range(1, len(wire)):
        body, reader = received(wire[:cut], wire[cut:], policy="reject", size=5)
        if read:
            with pytest.raises(SMTPError):
                body.stream.read()
        body.discard(refused=False)
        assert isinstance(body.failure, SMTPError)
        assert lines(reader) == NEXT


@pytest.mark.parametrize("policy", ["normalize", "keep"])
@pytest.mark.parametrize("sent", SMUGGLING)
def test_the_other_policies_refuse_nothing(sent: bytes, policy: str) -> None:
    body, reader = received(SMUGGLING[0] + sent + b".\r\n" + NEXT, policy=policy)
    assert body.stream.read().startswith(SMUGGLING[0])
    body.discard(refused=False)
    assert body.failure is None
    assert lines(reader) == NEXT


# --- broken connections ---------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["normalize", "reject", "keep"])
@pytest.mark.parametrize("size", [None, 10])
@pytest.mark.parametrize("error", [ClientGone("reset"), ClientTooSlow("asleep"), None])
def test_a_connection_that_breaks_anywhere(
    error: Exception | None, size: int | None, policy: str
) -> None:
    wire = dot_stuffed(MESSAGE)
    for cut in range(len(wire)):
        steps: list[Step] = [wire[:cut]] if cut else []
        if error is not None:
            steps.append(error)
        body, _ = received(*steps, size=size, policy=policy)
        with pytest.raises(ConnectionError) as caught:
            body.stream.read()
        assert body.failure is caught.value
        assert error is None or caught.value is error
        body.discard(refused=False)
        assert body.failure is caught.value
        # The callback has caught it, and tries again.
        with pytest.raises(ConnectionError):
            body.stream.read(1)


def test_a_connection_that_breaks_while_the_rest_is_discarded() -> None:
    wire = dot_stuffed(MESSAGE)
    for cut in range(1, len(wire)):
        body, _ = received(wire[:cut])
        body.discard(refused=False)
        assert isinstance(body.failure, ClientGone)


def test_a_connection_that_breaks_after_a_bare_newline() -> None:
    # Nothing can be refused any more: the break counts.
    body = message_body(b"a\nb\r\n", b"c\r\n", policy="reject")
    with pytest.raises(SMTPError):
        body.stream.read()
    body.discard(refused=False)
    assert isinstance(body.failure, ClientGone)


# --- pace -----------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock().install(monkeypatch)


def paced(clock: Clock, *steps: Step, window: float = 60.0, rate: int = 500) -> MessageBody:
    return message_body(*steps, clock=clock, window=window, rate=rate)


def dripping(octets: int, seconds: float, times: int) -> list[Step]:
    """So many octets every so many seconds, and the end mark."""
    steps: list[Step] = []
    for _ in range(times):
        steps += [Pause(seconds), b"x" * octets]
    return [*steps, b"\r\n.\r\n"]


def too_slow(body: MessageBody) -> None:
    with pytest.raises(ClientTooSlow):
        body.stream.read()
    assert isinstance(body.failure, ClientTooSlow)


def test_silence_is_too_slow_after_the_window(clock: Clock) -> None:
    for rate in (0, 1, 500):
        started = clock.now
        too_slow(paced(clock, b"a", Pause(1000), rate=rate))
        assert clock.now == started + 60


def test_just_in_time(clock: Clock) -> None:
    body = paced(clock, Pause(59), b"a\r\n.\r\n")
    assert body.stream.read() == b"a\r\n"


@pytest.mark.parametrize(("octets", "fast_enough"), [(496, False), (512, True), (4096, True)])
@pytest.mark.parametrize("seconds", [0.125, 1, 3.5, 14.75])
def test_the_rate(clock: Clock, octets: int, fast_enough: bool, seconds: float) -> None:
    times = int(600 / seconds)
    body = paced(clock, *dripping(int(octets * seconds), seconds, times))
    started = clock.now
    if fast_enough:
        assert len(body.stream.read()) == int(octets * seconds) * times + 2
    else:
        too_slow(body)
        assert clock.now - started <= 60 + seconds


def test_a_drip_is_cut_off_at_the_end_of_the_window(clock: Clock) -> None:
    started = clock.now
    too_slow(paced(clock, *dripping(1, 7, 1000)))
    assert clock.now == started + 60


def test_every_window_counts(clock: Clock) -> None:
    # Fast for ten minutes, then a drip.
    quick = dripping(512, 1, 600)[:-1]
    started = clock.now
    too_slow(paced(clock, *quick, *dripping(1, 1, 1000)))
    assert 600 < clock.now - started <= 600 + 2 * 60


def test_a_burst_does_not_pay_for_more_than_its_window(clock: Clock) -> None:
    started = clock.now
    too_slow(paced(clock, b"x" * 10_000_000, *dripping(1, 10, 1000)))
    assert clock.now - started <= 2 * 60


def test_a_burst_does_not_pay_for_the_silence_after_it(clock: Clock) -> None:
    started = clock.now
    too_slow(paced(clock, b"x" * 30_000, *dripping(1, 59, 1000)))
    assert clock.now - started <= 2 * 60


def test_rate_nought_takes_any_drip(clock: Clock) -> None:
    body = paced(clock, *dripping(1, 59, 100), rate=0)
    assert len(body.stream.read()) == 102


def test_only_waiting_for_the_client_counts(clock: Clock) -> None:
    # The application thinks for an hour after each line; the client is not to blame.
    wire = b"x" * 98 + b"\r\n"
    steps: list[Step] = []
    for _ in range(20):
        steps += [Pause(0.1), wire]
    body = paced(clock, *steps, b".\r\n")
    count = 0
    for line in body.stream:
        assert line == wire
        count += 1
        clock.now += 3600
    assert count == 20


def test_the_pace_counts_while_the_rest_is_discarded(clock: Clock) -> None:
    body = paced(clock, *dripping(1, 7, 1000))
    body.discard(refused=False)
    assert isinstance(body.failure, ClientTooSlow)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "policy", "size", "refused"),
    [
        (b"x" * 20, "normalize", 10, False),
        (b"bare\n", "reject", None, False),
        (b"whatever", "normalize", None, True),
    ],
    ids=["too large", "bare newline", "by the application"],
)
def test_the_rest_of_a_refused_message_has_its_time(
    clock: Clock, first: bytes, policy: str, size: int | None, refused: bool
) -> None:
    # Fast enough for the rate, and without an end.
    started = clock.now
    body = message_body(
        first,
        *dripping(10_000, 5, 1000),
        clock=clock,
        policy=policy,
        size=size,
        rate=500,
        discard_seconds=100.0,
    )
    body.discard(refused=refused)
    assert isinstance(body.failure, ClientTooSlow)
    assert clock.now == started + 100


def test_what_is_only_left_unread_takes_its_time(clock: Clock) -> None:
    body = message_body(*dripping(10_000, 5, 1000), clock=clock, rate=500, discard_seconds=100.0)
    body.discard(refused=False)
    assert body.failure is None


def test_only_waiting_for_the_client_counts_in_what_is_refused(clock: Clock) -> None:
    body = message_body(b"x" * 20, b"y\r\n.\r\n", clock=clock, size=10, discard_seconds=100.0)
    assert body.stream.read(5) == b"xxxxx"
    clock.now += 3600
    assert body.stream.read() == b"xxxxx"
    assert body.failure is None


def test_the_stream_ends_with_an_error_where_the_excess_takes_too_long(clock: Clock) -> None:
    steps = dripping(10_000, 5, 1000)
    body = message_body(b"x" * 20, *steps, clock=clock, size=10, discard_seconds=100.0)
    assert body.stream.read(10) == b"x" * 10
    with pytest.raises(ClientTooSlow):
        body.stream.read(1)
