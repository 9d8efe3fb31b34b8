"""The exceptions that cross module borders."""

from __future__ import annotations

import re

_ENHANCED_CODE = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")


class SMTPError(Exception):
    """Raised by a callback to refuse, with this text and reply code.

    `message` is the text of the reply. `response_code` is a reply code from 400 to 599; None takes
    the default of the callback that raises it. `enhanced_code` is a status code of RFC 3463 such as
    "5.7.1", of the same class as the reply code; None takes one that fits the reply code.

    Raises TypeError for a value of the wrong type, ValueError for a code out of range.
    """

    def __init__(
        self, message: str, response_code: int | None = None, enhanced_code: str | None = None
    ) -> None:
        if not isinstance(message, str):
            raise TypeError(f"message must be str, not {type(message).__name__}")
        if response_code is not None:
            if not isinstance(response_code, int) or isinstance(response_code, bool):
                raise TypeError(f"response_code must be int, not {type(response_code).__name__}")
            if not 400 <= response_code <= 599:
                raise ValueError(f"response_code must be from 400 to 599, not {response_code}")
        if enhanced_code is not None:
            check_enhanced_code(enhanced_code)
            if enhanced_code[0] == "2":
                raise ValueError(f"enhanced_code {enhanced_code} tells of success")
            if response_code is not None and enhanced_code[0] != str(response_code)[0]:
                raise ValueError(
                    f"enhanced_code {enhanced_code} and response_code {response_code} "
                    "are of different classes (RFC 2034, section 4)"
                )
        super().__init__(message)
        self.message = message
        # An enumeration's member would not look like a number in the reply.
        self.response_code = None if response_code is None else int(response_code)
        self.enhanced_code = enhanced_code


def check_enhanced_code(code: str) -> None:
    """Raise TypeError or ValueError unless `code` is a status code of RFC 3463, section 2."""
    if not isinstance(code, str):
        raise TypeError(f"enhanced_code must be str, not {type(code).__name__}")
    if _ENHANCED_CODE.fullmatch(code) is None:
        raise ValueError(f"enhanced_code must look like '5.7.1', not {code!r}")


class ClientGone(ConnectionError):
    """The client closed or broke the connection."""


class MessageAborted(ConnectionAbortedError):
    """The client gave a message up before its end; the connection goes on."""


class ClientTooSlow(ConnectionError):
    """The client made no progress, or too little, within the time it has."""


class ServerClosing(ConnectionError):
    """The server is closing, and the wait for the client was given up for it."""


class HandshakeFailed(ConnectionError):
    """The TLS handshake failed."""


class ProxyHeaderBroken(ConnectionError):
    """What a trusted proxy sent is no PROXY protocol header."""


def forget_frames(error: BaseException) -> None:
    """Take from `error` all that leads to the frames it came through, for who goes on to keep it.

    A frame that refers to what keeps the error makes a cycle, which outlasts the connection.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
