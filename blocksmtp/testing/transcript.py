"""What was said in a test run, as a text that a person reads."""

from __future__ import annotations

import logging
import threading
from collections import deque

# More is no text that a person reads.
_MOST_LINES = 10_000


class Transcript(logging.Handler):
    """Keeps the dialogues of a server's clients, as its log shows them.

    Each line begins with the number of the client. Passwords are not shown, nor are messages. What
    the server's log would have held is handed on to `onward`.
    """

    def __init__(self, onward: logging.Logger) -> None:
        super().__init__()
        self._onward = onward
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._numbers: dict[str, int] = {}
        self._guard = threading.Lock()
        # It belongs to no hierarchy: what the test does to other loggers is without effect.
        self.logger = logging.Logger("blocksmtp.testing", logging.DEBUG)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        session = getattr(record, "session_id", "-")
        text = record.getMessage().removeprefix(f"[{session}] ")
        if session != "-":
            with self._guard:
                number = self._numbers.setdefault(session, len(self._numbers) + 1)
                self._lines += [f"{number} {line}" for line in self._shown(record, text)]
        if self._onward.isEnabledFor(record.levelno):
            self._onward.handle(record)

    def _shown(self, record: logging.LogRecord, text: str) -> list[str]:
        if text.startswith(("C: ", "S: ")):
            # A reply of several lines is one record.
            return [text[:3] + line for line in text[3:].removesuffix("\\r\\n").split("\\r\\n")]
        lines = [f"-- {text}"]
        if record.exc_text:
            lines += [f"   {line}" for line in record.exc_text.splitlines()]
        return lines

    def clear(self) -> None:
        """Forget it all."""
        with self._guard:
            self._lines.clear()
            self._numbers.clear()

    def __str__(self) -> str:
        with self._guard:
            return "\n".join(self._lines)
