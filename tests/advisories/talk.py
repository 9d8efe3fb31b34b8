"""A client that says what it is told, to a server in memory, and what came of it."""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from blocksmtp import SMTPServer
from blocksmtp.options import Options
from blocksmtp.text import has_control_characters
from tests.certificates import Leaf
from tests.client import Reply, serving
from tests.memory import Cut, MemoryConnection, whole
from tests.protocol.bench import GivenCallbacks
from tests.test_logs import Log as PlainLog

LONGEST_REPLY_LINE = 512  # RFC 5321, section 4.5.3.1.5

_REPLY_LINE = re.compile(rb"([2-5]\d\d)([ -])([^\r\n]*)\r\n")


def replies(answers: bytes) -> list[Reply]:
    """The replies that `answers` are; fails on whatever is no reply (RFC 5321, section 4.2)."""
    found: list[Reply] = []
    lines: list[str] = []
    position = 0
    while position < len(answers):
        line = _REPLY_LINE.match(answers, position)
        assert line is not None, answers[position:]
        position = line.end()
        # A challenge of SASL is one line, of any length that base64 makes it.
        assert len(line[0]) <= LONGEST_REPLY_LINE or line[1] == b"334", line[0]
        text = line[0][:-2].decode()
        assert not has_control_characters(text), line[0]
        assert not lines or lines[0][:3] == text[:3], (lines, text)
        lines.append(text)
        if line[2] == b" ":
            found.append(Reply("\n".join(lines)))
            lines = []
    assert not lines, lines
    return found


def codes(answers: bytes) -> list[int]:
    """The code of each reply in `answers`."""
    return [reply.code for reply in replies(answers)]


def every_string(letters: Iterable[bytes], length: int) -> list[bytes]:
    """All strings of at most so many letters, the empty one too."""
    letters = tuple(letters)
    counts = range(length + 1)
    return [b"".join(word) for n in counts for word in itertools.product(letters, repeat=n)]


class Talk:
    """A whole connection in memory: the client writes each of `writes` and closes.

    It does not listen to what it is answered, and waits for it before each write.
    """

    def __init__(
        self,
        *writes: bytes,
        callbacks: GivenCallbacks | None = None,
        secure: bool = False,
        cut: Cut = whole,
        **options: Any,
    ) -> None:
        self._writes = deque(writes)
        self.turns: list[bytes] = []
        """What the server answered to each write; to none, the greeting, first."""
        self.closed_by_server = False
        self.handshakes = 0
        self.defects: list[str] = []
        """The callback and the type of the exception, for each defect."""
        self.errors: list[BaseException] = []
        """The exceptions themselves."""
        given = {"name": "mx.example", "auth_optional": True, "max_bad_commands": None, **options}
        connection = MemoryConnection(
            self,
            Options(**given),
            callbacks or GivenCallbacks(),
            self._report,
            secure=secure,
            cut=cut,
        )
        self.session = connection.session
        connection.run()

    @property
    def answers(self) -> bytes:
        """All that the server said."""
        return b"".join(self.turns)

    @property
    def codes(self) -> list[int]:
        """The code of each reply, the greeting's first."""
        return codes(self.answers)

    def _report(self, error: BaseException, where: str) -> None:
        self.defects.append(f"{where} {type(error).__name__}")
        self.errors.append(error)

    # --- a client of MemoryConnection ------------------------------------------------------

    def write(self, answers: bytes) -> bytes | None:
        self.turns.append(answers)
        return self._writes.popleft() if self._writes else None

    def handshake(self, answers: bytes) -> None:
        self.turns.append(answers)
        self.handshakes += 1

    def ended(self, answers: bytes) -> None:
        self.turns.append(answers)
        self.closed_by_server = True


class Log(PlainLog):
    """All that is logged at any level, and how a plain formatter shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        self.shown: list[str] = []
        """The text of each record, with its traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        self.shown.append(self.format(record))

    def at_least(self, level: int) -> list[str]:
        """The messages of this level and above, without the session's id."""
        return [
            record.getMessage().partition("] ")[2]
            for record in self.records
            if record.levelno >= level and record.getMessage().startswith("[")
        ]


@contextlib.contextmanager
def memory_log() -> Iterator[Log]:
    """What dialogues in memory log meanwhile."""
    log = Log()
    logger = logging.getLogger("tests.memory")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(log)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield log
    finally:
        logger.removeHandler(log)
        logger.setLevel(level)
        logger.propagate = propagate


CALLBACKS = (
    *("on_connect", "on_secure", "on_auth", "on_mail_from", "on_rcpt_to", "on_data", "on_close"),
)


class Heard:
    """A server, the names of the callbacks that ran, and its log."""

    def __init__(self, leaf: Leaf, **options: Any) -> None:
        self.calls: list[str] = []
        self.log = Log()
        self.errors: list[Exception] = []
        self.options = {
            "cert": leaf.cert,
            "key": leaf.key,
            "disabled_commands": (),
            "logger": self.log.logger,
            **{name: self._noted(name) for name in CALLBACKS},
            **options,
        }

    def _noted(self, name: str) -> Any:
        def note(*arguments: object) -> str | None:
            self.calls.append(name)
            return "mallory" if name == "on_auth" else None

        return note

    def serving(self, **options: Any) -> contextlib.AbstractContextManager[SMTPServer]:
        """As `client.serving`, with these options changed."""
        return serving(**{**self.options, **options})

    def about(self) -> list[str]:
        """What the log tells at INFO and above besides that a client came and went."""
        return [
            message
            for message in self.log.at_least(logging.INFO)
            if not message.startswith(("connection from", "connection closed"))
        ]
