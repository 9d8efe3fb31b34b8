"""A fuzzed conversation: what is said from both ends, and when.

The whole dialogue runs in memory and in the calling thread, through the same code as over a
socket. Where the octets hold a line `<handshake>` the client waits for STARTTLS to be answered; it
ends TLS without a word where nothing follows.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from blocksmtp.options import AUTH_METHODS, Options
from blocksmtp.protocol.machine import Machine
from tests.fuzz.application import FuzzedApplication
from tests.fuzz.inputs import cut
from tests.memory import MemoryConnection

HANDSHAKE = b"<handshake>\r\n"

# What each letter of a plan does to the options. Small limits, so that short inputs reach them.
LETTERS: dict[str, dict[str, Any]] = {
    "L": {"lmtp": True},
    "A": {"auth_optional": False},
    "I": {"allow_insecure_auth": True},
    "U": {"needs_upgrade": True},
    "R": {"bare_newline": "reject"},
    "K": {"bare_newline": "keep"},
    "Z": {"size": 40},
    "X": {"use_xclient": True, "use_xforward": True},
    "N": {"max_bad_commands": None, "max_allowed_unauthenticated_commands": None},
    "B": {"max_bad_commands": 3},
    "V": {"max_allowed_unauthenticated_commands": 4},
    "M": {"max_recipients": 2},
    "T": {"max_command_length": 64},
    "F": {"max_auth_failures": 1},
    "H": {"hide_enhanced_status_codes": True},
    "Y": {"lenient_address_parsing": True},
    "D": {"disabled_commands": ("VRFY", "RSET", "AUTH")},
    "S": {},  # TLS from the start
}


class Reply(NamedTuple):
    """A whole reply, and how much of the client's octets the server had by then."""

    code: int
    octets: bytes
    segment: int
    """How many handshakes there had been."""
    received: int
    """Octets of that segment."""


_LINE = re.compile(rb"([2-5][0-9][0-9])([- ])([^\r\n]*)\r\n")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class PiecewiseClient:
    """A client that writes piece after piece, and notes what it was answered meanwhile."""

    def __init__(self, octets: bytes, lengths: tuple[int, ...]) -> None:
        self.segments = octets.split(HANDSHAKE)
        self._pieces = [cut(segment, lengths) for segment in self.segments]
        self.boundaries: list[list[int]] = [[0]]
        """How much of each segment the server had, at each moment when it waited."""
        self.replies: list[Reply] = []
        self.broke_off = False
        """It was left in a handshake with octets still to say in clear."""

    def write(self, answers: bytes) -> bytes | None:
        """See tests.memory.Client."""
        self._note(answers)
        segment = len(self.boundaries) - 1
        if self.broke_off or segment == len(self._pieces) or not self._pieces[segment]:
            return None
        piece = self._pieces[segment].pop(0)
        self.boundaries[segment].append(self.boundaries[segment][-1] + len(piece))
        return piece

    def handshake(self, answers: bytes) -> None:
        """See tests.memory.Client."""
        self._note(answers)
        self.broke_off = bool(self._pieces[len(self.boundaries) - 1])
        self.boundaries.append([0])

    def ended(self, answers: bytes) -> None:
        """See tests.memory.Client."""
        self._note(answers)

    def _note(self, answers: bytes) -> None:
        segment = len(self.boundaries) - 1
        for reply in whole_replies(answers):
            code = int(reply[:3])
            self.replies.append(Reply(code, reply, segment, self.boundaries[segment][-1]))


def whole_replies(answers: bytes) -> list[bytes]:
    """The replies that `answers` are; fails on one that is malformed or cut short."""
    replies = []
    start = end = 0
    while end < len(answers):
        line = _LINE.match(answers, end)
        assert line is not None, answers[end:]
        assert line[1] == answers[start : start + 3], "one reply with two codes"
        longest = 12288 if line[1] == b"334" else 512
        assert len(line[0]) <= longest, line[0]
        assert _CONTROL.search(line[3].decode()) is None, line[0]
        end = line.end()
        if line[2] == b" ":
            replies.append(answers[start:end])
            start = end
    assert start == end, "a reply without an end"
    return replies


class Conversation:
    """One conversation, after it has ended."""

    def __init__(
        self, letters: frozenset[str], octets: bytes, lengths: tuple[int, ...], *, logged: bool
    ) -> None:
        keywords: dict[str, Any] = {
            "name": "mx.example.org",
            "auth_optional": True,
            "auth_methods": AUTH_METHODS,
        }
        for letter in sorted(letters & set(LETTERS)):
            keywords.update(LETTERS[letter])
        self.options = Options(**keywords)
        self.letters = letters
        self.client = PiecewiseClient(octets, lengths)
        self.application = FuzzedApplication(letters)
        connection = MemoryConnection(
            self.client,
            self.options,
            self.application.callbacks,
            self.application.report,
            secure="S" in letters,
        )
        self.session = connection.session
        self._hearing = False
        for name in ("feed", "reject", "between_chunks", "resume"):
            self._listen_in(connection._machine, name)
        with _log_of_the_server(logged) as self.log:
            connection.run()

    def _listen_in(self, machine: Machine, name: str) -> None:
        """Note by which line the application is called, and how a response is logged."""
        method = getattr(machine, name)

        def heard(*arguments: Any) -> Any:
            # One may call the other, and `resume` runs a line that has been heard.
            if not self._hearing and name != "resume":
                self.application.line += 1
                if self.log and name == "feed" and machine.authentication is not None:
                    assert self.log[-1].endswith("] C: ***"), "a response in the log"
            before, self._hearing = self._hearing, True
            try:
                return method(*arguments)
            finally:
                self._hearing = before

        setattr(machine, name, heard)


@contextlib.contextmanager
def _log_of_the_server(logged: bool) -> Iterator[list[str]]:
    """The lines that the server's records come to, everything from DEBUG on if `logged`."""
    logger = logging.getLogger("tests.memory")
    level, propagate = logger.level, logger.propagate
    handler = _Lines()
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.DEBUG if logged else logging.CRITICAL)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def handle(self, record: logging.LogRecord) -> bool:
        self.emit(record)  # An exception in here is a finding, not something to swallow.
        return True
