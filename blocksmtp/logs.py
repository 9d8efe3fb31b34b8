"""Log records of a connection: one line each, with the session's id, and without secrets."""

from __future__ import annotations

import builtins
import logging
import traceback
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from .options import AUTH_METHODS, COMMANDS
from .text import printable

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[Any]
else:
    _Adapter = logging.LoggerAdapter

# An exception may quote a whole message, and a group hold a group.
_LONGEST_TEXT = 10_000
_DEEPEST_GROUP = 10

# Python 3.10 does not know it: nothing is an instance of no type.
_GROUP: Any = vars(builtins).get("BaseExceptionGroup", ())


class _Logger(_Adapter):
    """Logs failures in a way that what they quote cannot pass for anything else."""

    def failure(self, message: str, name: str, error: BaseException) -> None:
        """Log `message`, which holds one "%s" for `name`, as an error, and the traceback.

        The record's path, line and function are those where `error` was raised.
        """
        if not self.isEnabledFor(logging.ERROR):
            return
        message, keywords = self.process(message, {})
        frames = traceback.extract_tb(error.__traceback__, -1) or [
            ("(unknown)", 0, "(unknown)", "")
        ]
        path, number, function, _ = frames[0]
        about = (type(error), error, error.__traceback__)
        logger = self.logger
        record = logger.makeRecord(
            *(logger.name, logging.ERROR, path, number or 0, message, (name,), about, function),
            extra=keywords["extra"],
        )
        # Where it is there already, a formatter does not make its own.
        record.exc_text = shown_traceback(error)
        logger.handle(record)


class ServerLogger(_Logger):
    """For what belongs to no session: its records carry "-", which a formatter can show as well."""

    def __init__(self, logger: Any) -> None:
        super().__init__(logger, {"session_id": "-"})


class SessionLogger(_Logger):
    """Puts the session's id in front of each message, and as `session_id` into each record."""

    def __init__(self, logger: Any, session_id: str) -> None:
        super().__init__(logger, {"session_id": session_id})

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """See logging.LoggerAdapter."""
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return f"[{kwargs['extra']['session_id']}] {msg}", kwargs


def shown_command(line: bytes) -> str:
    """A client's line for the log.

    Only a command that is known is shown, and of AUTH only the mechanism: anything else may be a
    password, sent at the wrong moment.
    """
    text = printable(line.rstrip(b"\r\n"))
    verb, _, rest = text.partition(" ")
    if verb.upper() == "AUTH":
        mechanism = rest.partition(" ")[0].upper()
        return f"AUTH {mechanism if mechanism in AUTH_METHODS else ''} ***"
    return text if verb.upper() in COMMANDS else "***"


def shown_traceback(error: BaseException) -> str:
    """The traceback of `error`, and of those that led to it, the text of each on one line.

    An application's exception may quote what a client sent, line ends included: in the log they
    are escapes, so that no client can write a line of its own.
    """
    chain = [error]
    # By identity: an exception of the application's may be equal to anything.
    while (cause := _led_to(chain[-1])) is not None and not any(cause is each for each in chain):
        chain.append(cause)
    return "\n".join(line for each in reversed(chain) for line in _traceback_lines(each))


def _led_to(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None or error.__suppress_context__:
        return error.__cause__
    return error.__context__


def _traceback_lines(error: BaseException, depth: int = 0) -> Iterator[str]:
    yield "Traceback (most recent call last):"
    for entry in traceback.format_tb(error.__traceback__):
        yield entry.rstrip("\n")
    text = "".join(traceback.format_exception_only(error)).rstrip("\n")
    yield printable(text[:_LONGEST_TEXT])
    if isinstance(error, _GROUP) and depth < _DEEPEST_GROUP:
        for each in error.exceptions:
            yield from _traceback_lines(each, depth + 1)
