"""Messages as text on a stream, for people to read."""

from __future__ import annotations

import codecs
import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING, TextIO

from ..errors import SMTPError
from .incoming import PIECE, spooled

if TYPE_CHECKING:
    from ..session import SMTPAddress, SMTPSession
    from ..wire.stream import DataStream

# Bold and green, and green (ECMA-48, section 8.3.117).
_TITLE = "1;32"
_ENVELOPE = "32"

# What could command the terminal: C0 without tab and line feed, DEL, C1; and what could make the
# text look like another: Unicode's line ends, and the characters that reorder what is around them.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class PrintDelivery:
    """Prints each message to a text stream, its envelope first. An instance is an `on_data`.

    The message is shown as it was received, as UTF-8; octets that are not UTF-8, control characters
    other than tab and line end, and characters that reorder text appear as escapes such as `\\x1b`.
    That holds wherever the text goes, since it may reach a terminal by way of a pipe or a file; so
    it is for reading, and not a way to store messages. The lines around it name the session, whose
    id nobody can know beforehand: no message can feign the beginning of another.

    May be called by any number of threads. A message is received completely, beyond 1 MB in a
    temporary file, and then printed and flushed in one go; only then does the client get its 250.
    A message larger than the server's `size` is not printed. When the stream fails, it has failed
    for good: this message and every later one is refused with 451.
    """

    def __init__(
        self,
        stream: TextIO,
        on_failure: Callable[[Exception], None] | None = None,
        *,
        colours: bool = False,
        exclusively: Callable[[], AbstractContextManager[None]] | None = None,
    ) -> None:
        """`on_failure(error)` is called once, when `stream` has failed. `colours`: the lines around
        the message in colour, for a terminal. `exclusively()` is entered around each message, to
        keep other processes that print to the same place out."""
        self._stream = stream
        self._on_failure = on_failure
        self._encoding = stream.encoding or "utf-8"
        self._lock = threading.Lock()
        self._failed = False
        self._colours = colours
        self._exclusively = exclusively or contextlib.nullcontext

    def __call__(self, stream: DataStream, session: SMTPSession) -> None:
        """Receive the message and print it.

        Raises SMTPError: 451 where it cannot be printed, 452 where there is no room for it.
        """
        with spooled(stream, session) as spool:
            if spool is not None:
                self._print(self._shown(session, spool, stream.byte_length))

    def _print(self, texts: Iterator[str]) -> None:
        first_failure = None
        with self._lock, self._exclusively():
            if not self._failed:
                try:
                    for text in texts:
                        self._stream.write(self._encodable(text))
                    self._stream.flush()
                except (OSError, ValueError) as error:  # ValueError: the stream was closed
                    self._failed = True
                    first_failure = error
            failed = self._failed
        if first_failure is not None and self._on_failure is not None:
            self._on_failure(first_failure)
        if failed:
            raise SMTPError("Error: cannot print the message", 451, "4.3.0")

    def _shown(self, session: SMTPSession, spool: IO[bytes], length: int) -> Iterator[str]:
        """All that is printed of one message, in pieces."""
        title = f"message {session.transaction + 1} of session {session.id}"
        yield self._coloured(f"---- {title} ----", _TITLE)
        for line in _envelope(session):
            yield self._coloured(_one_line(line), _ENVELOPE)
        yield "\n"
        last = "\n"
        for text in filter(None, _readable(spool)):
            yield text
            last = text[-1]
        if last != "\n":
            yield "\n"
        yield self._coloured(f"---- end of {title}, {length} bytes ----", _TITLE)

    def _coloured(self, line: str, colour: str) -> str:
        return f"\x1b[{colour}m{line}\x1b[0m\n" if self._colours else f"{line}\n"

    def _encodable(self, text: str) -> str:
        """`text` with escapes for what the stream's encoding does not have."""
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)


def _envelope(session: SMTPSession) -> Iterator[str]:
    address, name = session.remote_address, session.client_hostname
    client = f"{address} port {session.remote_port}" if address else "a Unix socket"
    if address and name != f"[{address}]":
        client += f" ({name})"
    hello = f"{session.opening_command} {session.host_name_appears_as}"
    yield f"Client: {client}, {hello}, {session.transmission_type}"
    tls = session.tls_options
    if tls is None:
        yield "TLS: none"
    else:
        server = f", for {session.servername}" if session.servername else ""
        yield f"TLS: {tls.version}, {tls.name}{server}"
    # A user that is more than a name may hold what is not to be shown.
    if isinstance(session.user, str):
        yield f"User: {session.user}"
    envelope = session.envelope
    if envelope.mail_from is not None:
        yield "MAIL FROM:" + _path(envelope.mail_from)
    for recipient in envelope.rcpt_to:
        yield "RCPT TO:" + _path(recipient)


def _path(address: SMTPAddress) -> str:
    """The address and its parameters, as in the command."""
    parameters = (
        f" {keyword}" if value is True else f" {keyword}={value}"
        for keyword, value in address.args.items()
    )
    return f"<{address.address}>" + "".join(parameters)


def _readable(message: IO[bytes]) -> Iterator[str]:
    """The message as text with plain line feeds, in pieces that are safe to show."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    held = ""
    while piece := message.read(PIECE):
        text = held + decoder.decode(piece)
        # Whether it belongs to a line end is only known with what follows.
        held = "\r" if text.endswith("\r") else ""
        yield _safe(text.removesuffix("\r"))
    yield _safe(held + decoder.decode(b"", final=True))


def _safe(text: str) -> str:
    return _UNSAFE.sub(_escape, text.replace("\r\n", "\n"))


def _one_line(text: str) -> str:
    """`text` without any control character, line ends included."""
    return _safe(text).replace("\n", r"\n").replace("\t", r"\t")


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
