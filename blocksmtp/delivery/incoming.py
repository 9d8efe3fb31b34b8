"""What the deliveries have in common: a message as it comes in, and how failures become replies."""

from __future__ import annotations

import contextlib
import errno
import logging
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

from ..errors import SMTPError
from ..logs import SessionLogger
from ..text import printable

if TYPE_CHECKING:
    from ..session import SMTPAddress, SMTPSession
    from ..wire.stream import DataStream

    Results = list[SMTPError | str | None]
    """One a recipient, as LMTP wants them (RFC 2033, section 4.2)."""

PIECE = 65_536
_IN_MEMORY = 1_048_576

# What the administrator must make room for, and a sender may try again after.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_logger = logging.getLogger("blocksmtp.delivery")


def log_of(session: SMTPSession) -> SessionLogger:
    """The log of the deliveries, for what happens in this session."""
    return SessionLogger(_logger, session.id)


@contextlib.contextmanager
def refusing_failures(session: SMTPSession, task: str) -> Iterator[None]:
    """An OSError of the system is logged, and refuses the message for now.

    The reply is 452 where room is lacking, else 451; it says nothing of this machine's files, and
    the log all: `task` is what could not be done. Not for what reads from the connection, whose
    end is an OSError, too.
    """
    try:
        yield
    except OSError as error:
        log_of(session).error("%s: %s", task, printable(str(error)))
        if error.errno in _NO_ROOM:
            raise SMTPError("Error: no room for the message", 452, "4.3.1") from error
        raise SMTPError("Error: cannot store the message now", 451, "4.3.0") from error


def for_each_recipient(session: SMTPSession, deliver: Callable[[SMTPAddress], None]) -> Results:
    """What becomes of each recipient's copy, where each has a reply of its own, as in LMTP."""
    results: Results = []
    for recipient in session.envelope.rcpt_to:
        try:
            deliver(recipient)
        except SMTPError as error:
            results.append(error)
        else:
            results.append(None)
    return results


def pieces(stream: DataStream) -> Iterator[bytes]:
    """The message as it comes. Raises ConnectionError where it breaks off."""
    while piece := stream.read1(PIECE):
        yield piece


def spooled_pieces(spool: IO[bytes]) -> Iterator[bytes]:
    """What is in `spool`, from its beginning."""
    spool.seek(0)
    while piece := spool.read(PIECE):
        yield piece


@contextlib.contextmanager
def thrown_away(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """A temporary file, closed at the end.

    To close it writes what is still in its buffer, which fails on a full disk; nobody needs that
    any more, and the error would take the place of the refusal that is on its way.
    """
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):
            file.close()


@contextlib.contextmanager
def _refusing_without_room(session: SMTPSession) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log_of(session).error("cannot spool a message: %s", printable(str(error)))
        raise SMTPError("Error: no room for the message", 452, "4.3.1") from error


@contextlib.contextmanager
def spooled(stream: DataStream, session: SMTPSession) -> Iterator[IO[bytes] | None]:
    """The whole message in a file of its own, beyond 1 MB on disk; None if it is beyond `size`.

    For who must not make something else wait for the client. Raises ConnectionError where the
    message breaks off, SMTPError where there is no room.
    """
    with thrown_away(tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)) as spool:
        for piece in pieces(stream):
            with _refusing_without_room(session):
                spool.write(piece)
        with _refusing_without_room(session):
            spool.seek(0)  # It writes what is still in the buffer.
        yield None if stream.size_exceeded else spool


def with_unix_line_ends(message: Iterator[bytes]) -> Iterator[bytes]:
    """`message` with LF for CRLF, as programs on Unix keep mail in files."""
    held = b""
    for piece in message:
        octets = held + piece
        # Whether a CR belongs to a line end is only known with what follows.
        held = b"\r" if octets.endswith(b"\r") else b""
        yield octets.removesuffix(b"\r").replace(b"\r\n", b"\n")
    if held:
        yield held


def stored_form(message: Iterator[bytes], session: SMTPSession) -> Iterator[bytes]:
    """`message` as it is stored: with LF, unless it is binary, where CRLF may be anything."""
    is_text = session.envelope.body_type != "binarymime"
    return with_unix_line_ends(message) if is_text else message
