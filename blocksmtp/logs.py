"""Log records of a connection: one line each, with the session's id, and without secrets."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from .options import AUTH_METHODS, COMMANDS
from .text import printable

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[Any]
else:
    _Adapter = logging.LoggerAdapter


class ServerLogger(_Adapter):
    """For what belongs to no session: its records carry "-", which a formatter can show as well."""

    def __init__(self, logger: Any) -> None:
        super().__init__(logger, {"session_id": "-"})


class SessionLogger(_Adapter):
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
