"""The buffered reader: lines at every split, their limits, and the time they may take."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksmtp.errors import ClientGone, ClientTooSlow, ServerClosing
from blocksmtp.wire.reader import LineTooLong, Patience, Reader
from tests.wire.scripted import Clock, Pause, Scripted, Step, split_at

LIMIT = 4096


def limit(start: bytes) -> int:
    """As the protocol has it: the length depends on how a line begins."""
    return 12288 if start[:5].upper() == b"AUTH " else LIMIT


def all_lines(reader: Reader) -> list[bytes | None]:
    """Every line up to the end of the connection; None for one that was too long."""
    found: list[bytes | None] = []
    while True:
        try:
            found.append(reader.readline(limit))
        except LineTooLong:
            found.append(None)
        except ClientGone:
            return found


# --- lines ----------------------------------------------------------------------------------------


GROUP = b"EHLO a\r\nMAIL FROM:<>\r\n\r\nRCPT TO:<b>\nDATA\r\r\nQ\rUIT\r\n\n"
LINES = [b"EHLO a\r\n", b"MAIL FROM:<>\r\n", b"\r\n", b"RCPT TO:<b>\n"]
LINES += [b"DATA\r\r\n", b"Q\rUIT\r\n", b"\n"]


def test_lines_whole_and_octet_by_octet() -> None:
    assert all_lines(Scripted(GROUP).reader()) == LINES
    assert all_lines(Scripted(*[bytes([octet]) for octet in GROUP]).reader()) == LINES


def test_lines_at_every_pair_of_splits() -> None:
    for first in range(1, len(GROUP)):
        for second in range(first, len(GROUP)):
            pieces = split_at(GROUP, [first, second])
            assert all_lines(Scripted(*pieces).reader()) == LINES, (first, second)


@given(
    lines=st.lists(st.binary(max_size=30).map(lambda text: text.replace(b"\n", b"") + b"\n")),
    cuts=st.lists(st.integers(0, 500), max_size=20),
)
def test_random_lines_in_random_pieces(lines: list[bytes], cuts: list[int]) -> None:
    assert all_lines(Scripted(*split_at(b"".join(lines), cuts)).reader()) == lines


def test_it_says_so_before_each_wait_and_only_then() -> None:
    transport = Scripted(b"one\r\ntwo\r\nthr", b"ee\r\n")
    reader = transport.reader()
    assert reader.empty
    for line, waits, empty in ((b"one", 1, False), (b"two", 1, False), (b"three", 2, True)):
        assert reader.readline(limit) == line + b"\r\n"
        assert (transport.waits, len(transport.calls)) == (waits, waits)
        assert reader.empty == empty


@pytest.mark.parametrize("received", [b"", b"QUI", b"NOOP\r\nQUI", b"x" * 10_000])
def test_the_end_of_the_connection(received: bytes) -> None:
    reader = Scripted(*([received] if received else [])).reader()
    if b"\n" in received:
        assert reader.readline(limit) == b"NOOP\r\n"
    with pytest.raises(ClientGone):
        reader.readline(limit)
    with pytest.raises(ClientGone):
        reader.read_some(1.0)


@pytest.mark.parametrize("error", [ClientGone("reset"), ServerClosing("now")])
def test_what_the_transport_raises_comes_out(error: Exception) -> None:
    reader = Scripted(b"QUI", error).reader()
    with pytest.raises(type(error)) as caught:
        reader.readline(limit)
    assert caught.value is error


# --- how long a line may be -----------------------------------------------------------------------


def line_of(octets: int, start: bytes = b"NOOP ") -> bytes:
    return start + b"x" * (octets - len(start) - 2) + b"\r\n"


LENGTHS = [
    pytest.param(b"NOOP ", 4096, id="command"),
    pytest.param(b"AUTH ", 12288, id="AUTH"),
    pytest.param(b"auth ", 12288, id="auth"),
    pytest.param(b"AUTHX ", 4096, id="another verb"),
]


@pytest.mark.parametrize(("start", "longest"), LENGTHS)
@pytest.mark.parametrize("piece", [1, 5, 100, 4095, 4096, 4097, 100_000])
def test_the_limit_counts_the_line_end(start: bytes, longest: int, piece: int) -> None:
    lines = [line_of(longest + more, start) for more in (-1, 0, 1, 0, 2, 20_000, 0)]
    wire = b"".join(lines) + b"QUIT\r\n"
    pieces = [wire[at : at + piece] for at in range(0, len(wire), piece)]
    expected = [line if len(line) <= longest else None for line in lines]
    assert all_lines(Scripted(*pieces).reader()) == [*expected, b"QUIT\r\n"]


@pytest.mark.parametrize("longest", [1, 2, 6, 100, 511, 512, 513, 600])
def test_a_short_limit(longest: int) -> None:
    for length in range(1, 620):
        line = b"x" * (length - 1) + b"\n"
        for pieces in ([line], [line[:-1], line[-1:]], [line[:3], line[3:]]):
            reader = Scripted(*filter(None, pieces), b"\n").reader()
            if length <= longest:
                assert reader.readline(lambda _: longest) == line
            else:
                with pytest.raises(LineTooLong):
                    reader.readline(lambda _: longest)
            assert reader.readline(lambda _: longest) == b"\n"


def test_the_start_decides_even_if_it_comes_in_pieces() -> None:
    line = line_of(12288, b"AUTH ")
    for cut in range(1, 8):
        assert all_lines(Scripted(line[:cut], line[cut:]).reader()) == [line]


class Forgetful(Scripted):
    """Keeps no record of the calls, which would be what takes the memory."""

    def receive(self, size: int, seconds: float, *, interruptible: bool) -> bytes:
        self.calls.clear()
        return super().receive(size, seconds, interruptible=interruptible)


def test_an_endless_line_takes_no_memory() -> None:
    piece = b"x" * 16_384
    reader = Forgetful(*[piece] * 3200, b"\r\nQUIT\r\n").reader()  # 50 MB
    tracemalloc.start()
    try:
        with pytest.raises(LineTooLong):
            reader.readline(limit)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
    assert reader.readline(limit) == b"QUIT\r\n"


def test_an_endless_line_that_ends_with_the_connection() -> None:
    with pytest.raises(ClientGone):
        Scripted(*[b"x" * 10_000] * 10).reader().readline(limit)


# --- how long a line may take ---------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock().install(monkeypatch)


def dripping(line: bytes, seconds: float) -> list[Step]:
    """One octet every so many seconds."""
    return [step for octet in line for step in (Pause(seconds), bytes([octet]))]


def test_silence(clock: Clock) -> None:
    with pytest.raises(ClientTooSlow):
        Scripted(Pause(1000), clock=clock).reader().readline(limit)
    assert clock.now == 1060


def test_silence_after_a_line(clock: Clock) -> None:
    reader = Scripted(Pause(59), b"NOOP\r\n", Pause(1000), clock=clock).reader()
    assert reader.readline(limit) == b"NOOP\r\n"
    with pytest.raises(ClientTooSlow):
        reader.readline(limit)
    assert clock.now == 1059 + 60


@pytest.mark.parametrize("length", [100, 100_000], ids=["within the limit", "too long"])
def test_a_dripping_line(clock: Clock, length: int) -> None:
    steps: list[Step] = [b"y" * length]
    reader = Scripted(Pause(50), *steps, *dripping(b"x" * 100, 7), clock=clock).reader()
    with pytest.raises(ClientTooSlow):
        reader.readline(limit)
    # From its first octet on.
    assert clock.now == 1050 + 300


def test_a_line_in_time(clock: Clock) -> None:
    reader = Scripted(*dripping(b"NOOP\r\n", 59), clock=clock).reader()
    assert reader.readline(limit) == b"NOOP\r\n"


def test_each_line_has_its_own_time(clock: Clock) -> None:
    reader = Scripted(*dripping(b"NOOP\r\n" * 20, 40), clock=clock).reader()
    assert all_lines(reader) == [b"NOOP\r\n"] * 20


def test_a_line_that_began_in_the_buffer_has_the_same_time(clock: Clock) -> None:
    steps = dripping(b"x" * 100, 10)
    reader = Scripted(b"NOOP\r\nNO", *steps, clock=clock).reader()
    assert reader.readline(limit) == b"NOOP\r\n"
    with pytest.raises(ClientTooSlow):
        reader.readline(limit)
    assert clock.now == 1300


def test_time_that_has_passed_before_the_wait(clock: Clock) -> None:
    # Sending the replies that were due took too long.
    def pass_time() -> None:
        clock.now += 301

    reader = Scripted(b"NO", pass_time, b"O", b"P\r\n", clock=clock).reader()
    with pytest.raises(ClientTooSlow):
        reader.readline(limit)


def test_waits_are_bounded_by_both_times(clock: Clock) -> None:
    transport = Scripted(b"N", Pause(30), b"O", b"OP\r\n", clock=clock)
    assert transport.reader(60.0, 45.0).readline(limit) == b"NOOP\r\n"
    assert [seconds for _, seconds, _ in transport.calls] == [60.0, 45.0, 15.0]
    transport = Scripted(b"N", b"OOP\r\n", clock=clock)
    assert transport.reader(7.0, 45.0).readline(limit) == b"NOOP\r\n"
    assert [seconds for _, seconds, _ in transport.calls] == [7.0, 7.0]


def test_patience_is_for_all_waits_together(clock: Clock) -> None:
    patience = Patience(100.0)
    transport = Scripted(*dripping(b"NOOP\r\n" * 50, 1), clock=clock)
    reader = transport.reader(patience=patience)
    for _ in range(16):
        assert reader.readline(limit) == b"NOOP\r\n"
    with pytest.raises(ClientTooSlow, match="no message in 100 seconds"):
        reader.readline(limit)
    assert clock.now == 1100


def test_patience_ends_a_wait(clock: Clock) -> None:
    reader = Scripted(Pause(1000), clock=clock).reader(patience=Patience(7.0))
    with pytest.raises(ClientTooSlow):
        reader.readline(limit)
    assert clock.now == 1007


def test_patience_is_no_limit_for_what_has_come(clock: Clock) -> None:
    patience = Patience(7.0)
    reader = Scripted(Pause(6.5), b"NOOP\r\n" * 3, clock=clock).reader(patience=patience)
    assert reader.readline(limit) == b"NOOP\r\n"
    clock.now += 10
    assert [reader.readline(limit) for _ in range(2)] == [b"NOOP\r\n"] * 2


def test_patience_ends_also_for_a_client_that_is_never_waited_for(clock: Clock) -> None:
    def pass_time() -> None:
        clock.now += 1

    steps: list[Step] = [step for _ in range(10) for step in (pass_time, b"NOOP\r\n")]
    reader = Scripted(*steps, clock=clock).reader(patience=Patience(7.0))
    with pytest.raises(ClientTooSlow, match="no message"):
        all_lines(reader)
    assert clock.now == 1007


def test_a_body_uses_patience_up_but_is_not_ended_by_it(clock: Clock) -> None:
    patience = Patience(7.0)
    reader = Scripted(Pause(5), b"a", Pause(5), b"b", clock=clock).reader(patience=patience)
    assert (reader.read_some(60.0), reader.read_some(60.0)) == (b"a", b"b")
    with pytest.raises(ClientTooSlow, match="no message"):
        reader.readline(limit)


def test_patience_is_renewed(clock: Clock) -> None:
    patience = Patience(7.0)
    steps = [step for _ in range(10) for step in (Pause(5), b"NOOP\r\n")]
    reader = Scripted(*steps, clock=clock).reader(patience=patience)
    for _ in range(10):
        assert reader.readline(limit) == b"NOOP\r\n"
        patience.renew()


def test_patience_without_end(clock: Clock) -> None:
    reader = Scripted(*dripping(b"NOOP\r\n" * 1000, 40), clock=clock).reader()
    assert len(all_lines(reader)) == 1000


# --- bodies ---------------------------------------------------------------------------------------


def test_octets_after_lines() -> None:
    transport = Scripted(b"DATA\r\nabc", b"x" * 200_000, b"y")
    reader = transport.reader()
    assert reader.readline(limit) == b"DATA\r\n"
    assert reader.read_some(5.0) == b"abc"
    assert transport.waits == 1
    assert reader.empty
    got = reader.read_some(5.0)
    while not got.endswith(b"y"):
        got += reader.read_some(6.0)
    assert got == b"x" * 200_000 + b"y"
    # In bulk, and never so much at once that it costs the C library a mapping.
    sizes = [size for size, _, _ in transport.calls]
    assert max(sizes) < 131_072
    assert len(sizes) <= 6


def test_a_wait_for_a_line_can_be_interrupted_and_one_for_a_body_cannot() -> None:
    transport = Scripted(b"DATA\r\n", b"abc")
    reader = transport.reader()
    reader.readline(limit)
    reader.read_some(5.0)
    assert [(seconds, interruptible) for _, seconds, interruptible in transport.calls] == [
        (60.0, True),
        (5.0, False),
    ]


@pytest.mark.parametrize("rest", [b"", b"MAIL", b"MAIL\r\n", b"MAIL\r\nRCPT\r\nDA"])
def test_octets_that_are_given_back(rest: bytes) -> None:
    reader = Scripted(b".\r\n" + rest, b"\r\nTA\r\n").reader()
    assert reader.read_some(1.0) == b".\r\n" + rest
    reader.give_back(rest)
    assert reader.empty == (not rest)
    whole = rest + b"\r\nTA\r\n"
    assert all_lines(reader) == whole.splitlines(keepends=True)
