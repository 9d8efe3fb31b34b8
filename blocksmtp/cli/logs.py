"""What is told on standard error: as text for people, in colour on a terminal, or as JSON."""

from __future__ import annotations

import datetime
import json
import logging
import os
import sys
from typing import IO

from ..logs import shown_traceback
from ..text import printable

_COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31"}


def has_colours(stream: IO[str]) -> bool:
    """Whether it is a terminal that shows colours (https://no-color.org)."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return wanted and stream.isatty()


def coloured(text: str, colour: str) -> str:
    """`text` in a colour; what is in it must not command the terminal."""
    return f"\x1b[{colour}m{text}\x1b[0m"


def set_up(level: int, style: str) -> None:
    """Have the log of blocksmtp from `level` on on standard error, and warnings of others."""
    handler = logging.StreamHandler()
    if style == "json":
        handler.setFormatter(JSONFormatter())
    else:
        # What starts a service may put the time there itself.
        dated = level < logging.ERROR and "JOURNAL_STREAM" not in os.environ
        handler.setFormatter(
            TextFormatter(
                f"{'%(asctime)s ' if dated else ''}blocksmtp: %(message)s",
                colours=has_colours(sys.stderr),
            )
        )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("blocksmtp").setLevel(level)


class TextFormatter(logging.Formatter):
    """A line a record; errors in red, the dialogue in grey."""

    def __init__(self, form: str, *, colours: bool) -> None:
        super().__init__(form)
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        text = super().format(record)
        colour = _COLOURS.get(record.levelno) if self._colours else None
        return text if colour is None else coloured(text, colour)


class JSONFormatter(logging.Formatter):
    """An object a line: time, level, logger, message; session and traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        told = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": printable(record.getMessage()),
        }
        session = getattr(record, "session_id", "-")
        if session != "-":
            told["session"] = session
            told["message"] = str(told["message"]).removeprefix(f"[{session}] ")
        if record.exc_info and record.exc_info[1] is not None:
            told["traceback"] = shown_traceback(record.exc_info[1])
        return json.dumps(told)
