"""Lines, headers and lists without end, and input that costs more than it should.

CVE-2013-1752 (Python's smtplib and its sisters): readline() without a limit, so that the other end
decides how much memory a line takes. CVE-2019-16928 (Exim): a long EHLO. CVE-2018-6789 (Exim): a
response to AUTH of the wrong length. CVE-2020-28017 (Exim): recipients without number.
CVE-2020-28020 (Exim): the lines of a header that goes on and on. CVE-2024-3651 and CVE-2026-45409
(idna, which domains are given to here): work that grows with the square of a domain's length.

Here a command line has a limit, and what is longer is thrown away as it comes; the application gets
a message in pieces as large as it asks for, and no line or header of it is ever gathered for it;
recipients and bad commands have limits, too. Every command of the greatest length costs time that
grows with its length, and not with its square.
"""

from __future__ import annotations

import functools
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from blocksmtp import DataStream, SMTPSession
from blocksmtp.options import Options
from blocksmtp.protocol.commands import COMMANDS
from blocksmtp.protocol.replies import LONGEST_SASL_LINE
from blocksmtp.session import SMTPAddress
from tests.memory import MemoryConnection
from tests.protocol.bench import Bench, GivenCallbacks

from .talk import Talk, codes, memory_log

LIMIT = 4096  # of a command line, by default
PIECE = b"x" * 16_384
PIECES = 200  # 3 MB of lines, 0.8 MB of messages
ROOM = 400_000  # octets that a connection may take meanwhile


class Pouring:
    """A client that writes what an iterator yields, and keeps nothing."""

    def __init__(self, writes: Iterator[bytes]) -> None:
        self._writes = writes
        self.answers = bytearray()

    def write(self, answers: bytes) -> bytes | None:
        self.answers += answers
        return next(self._writes, None)

    def handshake(self, answers: bytes) -> None:
        raise AssertionError("nobody asked for TLS")

    def ended(self, answers: bytes) -> None:
        self.answers += answers


def pour(
    writes: Callable[[], Iterator[bytes]],
    callbacks: GivenCallbacks | None = None,
    room: int = ROOM,
    **options: Any,
) -> tuple[list[int], SMTPSession]:
    """Serve a client that writes all of this; fails where it takes more memory than `room`."""

    def report(error: BaseException, where: str) -> None:
        raise AssertionError(where) from error

    client = Pouring(writes())
    given = Options(**{"name": "mx.example", "auth_optional": True, **options})
    connection = MemoryConnection(client, given, callbacks or GivenCallbacks(), report, secure=True)
    tracemalloc.start()
    try:
        connection.run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < room, peak
    return codes(bytes(client.answers)), connection.session


ENVELOPE = b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"


# --- lines without end --------------------------------------------------------------------------

ENDLESS = {
    "command": b"",
    "EHLO": b"EHLO ",
    "MAIL": b"EHLO a\r\nMAIL FROM:<",
    "parameters": b"EHLO a\r\nMAIL FROM:<a@b> X=",
    "RCPT": b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<",
    "AUTH": b"EHLO a\r\nAUTH PLAIN ",
    "response": b"EHLO a\r\nAUTH PLAIN\r\n",
    "XCLIENT": b"EHLO a\r\nXCLIENT NAME=",
    "NOOP": b"NOOP ",
    "CR": b"\r",
    "spaces": b"NOOP" + b" " * 20_000,
    "NUL": b"\0" * 20_000,
}


@pytest.mark.parametrize("beginning", ENDLESS.values(), ids=ENDLESS)
def test_a_line_without_end_takes_no_memory(beginning: bytes) -> None:
    """It is thrown away as it comes, and answered once it ends; the next line is a command."""

    def writes() -> Iterator[bytes]:
        yield beginning
        for _ in range(PIECES):
            yield PIECE
        yield b"\r\nNOOP\r\n"

    told, _ = pour(writes, use_xclient=True)
    assert told[-2:] == [500, 250]
    assert told.count(500) == 1


def test_a_line_without_end_that_never_ends() -> None:
    def writes() -> Iterator[bytes]:
        for _ in range(PIECES):
            yield PIECE

    told, _ = pour(writes)
    assert told == [220]


@pytest.mark.parametrize(
    ("verb", "limit"),
    [
        (b"NOOP ", LIMIT),
        (b"EHLO ", LIMIT),
        (b"AUTH ", LONGEST_SASL_LINE),
        (b"auth ", LONGEST_SASL_LINE),
    ],
)
def test_how_long_a_line_may_be(verb: bytes, limit: int) -> None:
    for excess in (0, 1):
        line = verb.ljust(limit - 2 + excess, b"x") + b"\r\n"
        talk = Talk(line, b"NOOP\r\n", secure=True)
        assert (b"line too long" in talk.answers) is bool(excess)
        assert talk.codes[-1] == 250


@pytest.mark.parametrize(
    "length", [*range(8), 9_000, LONGEST_SASL_LINE - 2, LONGEST_SASL_LINE, 50_000]
)
def test_a_response_of_any_length(length: int) -> None:
    """Of base64, complete or not: taken, or malformed, or too long, and never half decoded."""
    asked: list[str] = []
    callbacks = GivenCallbacks(on_auth=lambda auth, session: asked.append(auth.password))
    talk = Talk(
        b"EHLO a\r\nAUTH LOGIN YQ==\r\n",
        b"A" * length + b"\r\n",
        b"NOOP\r\n",
        callbacks=callbacks,
        secure=True,
    )
    whole = length % 4 == 0 and length + 2 <= LONGEST_SASL_LINE
    assert talk.codes[2:] == [334, 535 if whole else 500 if length > 20_000 else 501, 250] or (
        length + 2 > LONGEST_SASL_LINE and talk.codes[2:] == [334, 500, 250]
    )
    assert asked == (["\0" * (length // 4 * 3)] if whole else [])


# --- messages -----------------------------------------------------------------------------------


def read_in_pieces(stream: DataStream, session: SMTPSession) -> None:
    while stream.read(8192):
        pass


def read_short_lines(stream: DataStream, session: SMTPSession) -> None:
    """As careful readers of headers do: so many lines, each with a limit."""
    for _ in range(500):
        assert len(stream.readline(1000)) <= 1000


def read_nothing(stream: DataStream, session: SMTPSession) -> None:
    pass


SMALL = 4096
FLOODS = {
    "a header line without end": [b"Subject: ", b"x" * SMALL],
    "a header that goes on": [b"Subject: x\r\n", b"\tx\r\n" * (SMALL // 4)],
    "headers without number": [b"", b"X: y\r\n" * (SMALL // 6)],
    "empty lines": [b"", b"\r\n" * (SMALL // 2)],
    "dots": [b"\r\n", b"." * SMALL],
    "stuffed dots": [b"", b"..\r\n" * (SMALL // 4)],
    "CR": [b"", b"\r" * SMALL],
    "LF": [b"", b"\n" * SMALL],
    "NUL": [b"", b"\0" * SMALL],
    "nearly the end": [b"", b"\r\n.\r" * (SMALL // 4)],
}


@pytest.mark.parametrize(
    ("read", "size"),
    [
        *((read_in_pieces, None), (read_short_lines, None), (read_nothing, None)),
        (read_nothing, 100_000),
    ],
)
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_message_takes_no_memory(flood: list[bytes], read: Any, size: int | None) -> None:
    beginning, piece = flood

    def writes() -> Iterator[bytes]:
        yield ENVELOPE
        yield beginning
        for _ in range(PIECES):
            yield piece
        yield b"\r\n.\r\n"

    told, _ = pour(writes, GivenCallbacks(on_data=read), size=size)
    assert told[-1] == (250 if size is None else 552)


# --- lists --------------------------------------------------------------------------------------


def test_recipients_without_number() -> None:
    asked: list[int] = []

    def on_rcpt_to(address: SMTPAddress, session: SMTPSession) -> None:
        asked.append(1)

    def writes() -> Iterator[bytes]:
        yield b"EHLO a\r\nMAIL FROM:<a@b>\r\n"
        for _ in range(10):
            yield b"RCPT TO:<c@d>\r\n" * 100
        yield b"DATA\r\n"
        yield b"x\r\n.\r\n"

    callbacks = GivenCallbacks(on_rcpt_to=on_rcpt_to)
    told, session = pour(writes, callbacks, room=1_000_000, max_recipients=200)
    assert told == [220, 250, 250, *[250] * 200, *[452] * 800, 354, 250]
    assert len(asked) == 200
    assert session.transaction == 1


@pytest.mark.parametrize(
    "line", ["", "X", "MAIL FROM:<", "RCPT TO:<c@d>", "AUTH", "DATA", "HELO", "x" * 5000, "\0"]
)
def test_bad_commands_without_number(line: str) -> None:
    told = Talk(f"{line}\r\n".encode() * 1000, max_bad_commands=10).codes
    assert told[0] == 220
    assert len(told) == 11
    assert told[-1] == 421


@pytest.mark.parametrize("command", ["MAIL FROM:<a@b>", "RCPT TO:<a@b>"])
def test_parameters_without_number(command: str) -> None:
    """Each is kept with its address, and there may be as many as recipients times these."""
    bench = Bench()
    bench.codes("EHLO a", "MAIL FROM:<a@b>" if command.startswith("RCPT") else "NOOP")
    for number, code in ((20, 250), (21, 501), (600, 501)):
        many = " ".join(f"A{each}" for each in range(number))
        assert bench.codes(f"{command} {many}"[: LIMIT - 2]) == [code]
        if command.startswith("MAIL"):
            bench.codes("RSET")


def test_parameters_that_are_given_twice() -> None:
    assert Bench().codes("EHLO a", "MAIL FROM:<a@b>" + " A" * 600) == [250, 501]


@pytest.mark.parametrize(
    "address",
    [
        *("a" * 65 + "@b", "a@" + "b" * 64, "a@" + "b." * 127 + "b", "a" * 4000 + "@b"),
        *('"' + "a" * 65 + '"@b', "a@[IPv6:" + "0:" * 500 + "0]", "a@[x:" + "y" * 300 + "]"),
        *("@r" * 900 + ":a@b", "é" * 40 + "@b", "a@" + "é" * 63, "." * 4000 + "@b"),
    ],
    ids=lambda address: f"{address[:12]}…{len(address)}",
)
@pytest.mark.parametrize("lenient", [False, True], ids=["strict", "lenient"])
def test_addresses_have_a_length(address: str, lenient: bool) -> None:
    bench = Bench(lenient_address_parsing=lenient)
    code = bench.codes("EHLO a", f"MAIL FROM:<{address}> SMTPUTF8")[1]
    if bench.session.envelope.mail_from is None:
        assert code == 501
    else:
        assert lenient
        assert len(bench.session.envelope.mail_from.address.encode()) <= 254


# --- time ---------------------------------------------------------------------------------------

LENGTH = 20_000
SECONDS = 0.1  # of this thread alone, for what takes a fiftieth of it
FILLERS = [
    *(
        "x",
        "x ",
        " ",
        "  x",
        "@",
        "a@",
        "@a,",
        ".",
        "a.",
        "-",
        "a-",
        "--a",
        '"',
        '"a',
        '\\"',
        '"\\',
    ),
    *("<", "<<", "<>", "[", "[a", "[]", "[:", "::", ":", "=", "a=", "a=b ", "+", "+41", "+C3+A9"),
    *("\u0660", "\u30fb", "\u6f22", "\xdf"),  # which idna looks at the longest
    *(",", ";", "\t", "\0", "\r", "é", "\u3002", "1", "1.", "1:", "A", "HTTP/1 ", "\\x{41}", "/"),
]
BEGINNINGS = {
    "HELO": ["HELO "],
    "EHLO": ["EHLO ", "EHLO ["],
    "LHLO": ["LHLO "],
    "MAIL": [
        *("MAIL FROM:", "MAIL FROM:<", 'MAIL FROM:<"', "MAIL FROM:<a@", "MAIL FROM:<@", "MAIL "),
        *("MAIL FROM:<a@b> ", "MAIL FROM:<a@b> X=", "MAIL FROM:<a@b> AUTH=", "MAIL FROM:<a@[IPv6:"),
        *("MAIL FROM:<a@b> SIZE=", "MAIL FROM:<a@b> ENVID=", "MAIL FROM:<a@b> BODY="),
    ],
    "RCPT": [
        *("RCPT TO:", "RCPT TO:<", 'RCPT TO:<"', "RCPT TO:<a@", "RCPT TO:<a@b> ORCPT="),
        *("RCPT TO:<a@b> ORCPT=utf-8;", "RCPT TO:<a@b> NOTIFY=", "RCPT TO:<@a:"),
    ],
    "BDAT": ["BDAT ", "BDAT 9", "BDAT 9 ", "BDAT 9 LAST "],
    "AUTH": ["AUTH ", "AUTH PLAIN ", "AUTH LOGIN YQ== "],
    "XCLIENT": [
        "XCLIENT ",
        "XCLIENT NAME=",
        "XCLIENT ADDR=",
        "XCLIENT ADDR=IPV6:",
        "XCLIENT PORT=",
    ],
    "XFORWARD": ["XFORWARD ", "XFORWARD HELO=", "XFORWARD NAME=", "XFORWARD SOURCE="],
    "no command": ["", "GET ", "G" * 1000],
}


def seconds(work: Callable[[], object]) -> float:
    """The processor's time that this takes."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


def test_the_beginnings_are_of_all_commands_with_an_argument() -> None:
    plain = {"STARTTLS", "DATA", "RSET", "VRFY", "HELP", "NOOP", "QUIT"}
    assert {*BEGINNINGS, *plain} - {"no command"} == set(COMMANDS)


@pytest.mark.parametrize("lenient", [False, True], ids=["strict", "lenient"])
@pytest.mark.parametrize("verb", BEGINNINGS)
def test_no_command_costs_more_than_its_length(verb: str, lenient: bool) -> None:
    """Many times as long as a line may be, so that the square of it would show."""
    options: dict[str, Any] = {
        "max_command_length": 10 * LENGTH,
        "max_bad_commands": None,
        "max_auth_failures": None,
        "use_xclient": True,
        "use_xforward": True,
        "lenient_address_parsing": lenient,
        "lmtp": verb == "LHLO",
    }
    bench = Bench(secure=True, **options)
    hello = ["LHLO a" if verb == "LHLO" else "EHLO a"]
    before = {"RCPT": [*hello, "MAIL FROM:<a@b> SMTPUTF8"]}.get(verb, hello)

    def cost(line: bytes) -> float:
        """The time that the machine needs for a line, after what must come before it."""
        bench.machine.authentication = None
        bench.say("RSET", *before)
        return seconds(lambda: bench.machine.feed(line))

    for beginning in BEGINNINGS[verb]:
        for filler in FILLERS:
            line = (beginning + filler * (LENGTH // len(filler))).encode()
            assert cost(line) < SECONDS or min(cost(line) for _ in range(3)) < SECONDS, line[:40]


@pytest.mark.parametrize("filler", [b"x", b"\0", b"\xff", "é".encode(), b"\xf0\x9f\x98"])
def test_nor_does_its_place_in_the_log(filler: bytes) -> None:
    line = b"NOOP " + filler * (LENGTH // len(filler)) + b"\r\n"
    with memory_log() as log:
        talks: list[Talk] = []
        say = functools.partial(Talk, line, max_command_length=10 * LENGTH)
        assert min(seconds(lambda: talks.append(say())) for _ in range(3)) < SECONDS
    assert talks[0].codes == [220, 250]
    assert any(shown.startswith("DEBUG [memory] C: NOOP ") for shown in log.shown)
