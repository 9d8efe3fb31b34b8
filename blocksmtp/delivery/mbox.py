"""mbox: all messages in one file, one after the other.

The format is "mboxrd" (RFC 4155 with reversible quoting): a line that could be taken for the
beginning of a message, however often it is quoted already, gets one more ">".
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import threading
import time
import weakref
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from ..errors import SMTPError
from ..trace import stored_header
from .incoming import (
    PIECE,
    log_of,
    refusing_failures,
    spooled,
    spooled_pieces,
    with_unix_line_ends,
)
from .maildir import bring_to_disk

if TYPE_CHECKING:
    from ..session import SMTPSession
    from ..wire.stream import DataStream

_FROM = re.compile(rb">*From ")
_PAUSE_SECONDS = 0.05
_TASK = "cannot deliver to mbox"

# Locks of fcntl are those of the process: among its threads they say nothing, and it loses them as
# soon as it closes the file, wherever else it is still open. So each file has one lock for all of
# the process, whoever opens it, by the path without symbolic links: unlike the number of the file,
# that is there before the file, and stays when another takes its place. (Two hard links are two
# paths.) Only who uses a lock keeps it.
_locks: weakref.WeakValueDictionary[str, threading.Lock] = weakref.WeakValueDictionary()
_locks_lock = threading.Lock()


def _lock_of(real_path: str) -> threading.Lock:
    with _locks_lock:
        return _locks.setdefault(real_path, threading.Lock())


class MboxDelivery:
    """Appends each message to a file in mbox format. An instance is an `on_data`.

    The message is received completely first; then the file is locked (fcntl, as other mail programs
    do), appended to and brought to the disk, and the client gets its 250. What fails is cut off
    again, and answered with 452 where room is lacking, else 451; so is a file that others keep
    locked for `lock_timeout` seconds. `Return-Path` and `Received` are in front (RFC 5321, section
    4.4). Binary messages are refused with 554: the format has lines only.

    Any number of instances may have the same file. Other code of the process must not open and
    close it meanwhile: that gives the lock back, says POSIX, and other processes may append, too.

    A process that is killed in the very middle of appending may leave the beginning of a message
    that nobody was told was accepted. A Maildir has no such moment.
    """

    def __init__(self, path: str | os.PathLike[str], *, lock_timeout: float = 30.0) -> None:
        """The file is made when the first message comes; raises OSError if it could not be."""
        self._path = os.fspath(path)
        self._lock_timeout = lock_timeout
        path = os.path.realpath(self._path)
        with _lock_of(path), contextlib.closing(_File(path)):
            pass

    def __call__(self, stream: DataStream, session: SMTPSession) -> None:
        """Receive the message and append it. Raises SMTPError where that cannot be done."""
        if session.envelope.body_type == "binarymime":
            raise SMTPError("Error: binary messages cannot be stored here", 554, "5.6.3")
        with spooled(stream, session) as spool:
            if spool is None:
                return
            deadline = time.monotonic() + self._lock_timeout
            path = os.path.realpath(self._path)
            lock = _lock_of(path)
            if not lock.acquire(timeout=self._lock_timeout):
                raise self._busy(session)
            try:
                with (
                    refusing_failures(session, _TASK),
                    contextlib.closing(_locked(path, deadline)) as file,
                ):
                    if not file.is_locked:
                        raise self._busy(session)
                    file.append(_message(spool, session))
            finally:
                lock.release()

    def _busy(self, session: SMTPSession) -> SMTPError:
        log_of(session).error("%s: it stays locked", _TASK)
        return SMTPError("Error: the mailbox is locked", 451, "4.2.0")


def _locked(path: str, deadline: float) -> _File:
    """The file, locked unless the deadline has come. Raises OSError."""
    while True:
        file = _File(path)
        try:
            file.lock(deadline)
            # Another program may have put a new file in its place.
            if not file.is_locked or file.is_at(path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


class _File:
    """An mbox, open to be appended to."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        is_new = not os.path.exists(path)
        self._descriptor = os.open(path, flags, 0o600)
        self.is_locked = False
        try:
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                raise OSError(f"{path} is no regular file")
            if is_new:
                bring_to_disk(os.path.dirname(os.path.abspath(path)))
        except BaseException:
            os.close(self._descriptor)
            raise

    def lock(self, deadline: float) -> None:
        """Lock the file; `is_locked` stays false where others have it until `deadline`."""
        never = threading.Event()
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                if time.monotonic() >= deadline:
                    return
                # POSIX has no lock that one could wait for with a time limit.
                never.wait(_PAUSE_SECONDS)
            else:
                self.is_locked = True
                return

    def is_at(self, path: str) -> bool:
        """Whether this is still the file of that name."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(path))
        except FileNotFoundError:
            return False

    def append(self, message: Iterator[bytes]) -> None:
        """Append `message` and bring it to the disk, or leave the file as it was."""
        size = os.fstat(self._descriptor).st_size
        try:
            self._write(self._separator(size))
            batch = bytearray()
            for piece in message:
                batch += piece
                if len(batch) >= PIECE:
                    self._write(batch)
                    batch = bytearray()
            self._write(batch)
            os.fsync(self._descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
                os.fsync(self._descriptor)
            raise

    def _separator(self, size: int) -> bytes:
        """What there must be between the file's end and another message."""
        end = os.pread(self._descriptor, 2, max(0, size - 2))
        if not size or end == b"\n\n":
            return b""
        return b"\n" if end.endswith(b"\n") else b"\n\n"

    def _write(self, octets: bytes | bytearray) -> None:
        rest = memoryview(octets)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def close(self) -> None:
        """Close the file, which also gives the lock back."""
        os.close(self._descriptor)


def _message(spool: IO[bytes], session: SMTPSession) -> Iterator[bytes]:
    """All that is appended for one message."""
    mail_from = session.envelope.mail_from
    sender = re.sub(r"[^!-~]", "?", mail_from.address if mail_from else "") or "MAILER-DAEMON"
    yield f"From {sender} {time.asctime(time.gmtime())}\n".encode("ascii")
    yield stored_header(session).replace(b"\r\n", b"\n")
    last = b"\n"
    for line in _quoted(with_unix_line_ends(spooled_pieces(spool))):
        yield line
        last = line[-1:] or last
    yield b"\n" if last == b"\n" else b"\n\n"


def _quoted(message: Iterator[bytes]) -> Iterator[bytes]:
    """`message` with ">" in front of each line that looks like the beginning of a message."""
    held = b""
    begins_line = True
    for piece in message:
        *lines, held = (held + piece).split(b"\n")
        if lines:
            yield _quoted_line(lines[0], begins_line=begins_line) + b"\n"
            yield b"".join(_quoted_line(line) + b"\n" for line in lines[1:])
            begins_line = True
        # A line may be of any length, but what makes it suspicious is not.
        if len(held) >= PIECE:
            yield _quoted_line(held, begins_line=begins_line)
            held, begins_line = b"", False
    if held:
        yield _quoted_line(held, begins_line=begins_line)


def _quoted_line(line: bytes, *, begins_line: bool = True) -> bytes:
    return b">" + line if begins_line and _FROM.match(line) else line
