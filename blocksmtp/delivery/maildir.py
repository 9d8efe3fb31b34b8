"""Maildir: a file for each message, which is there whole or not at all.

The format is D. J. Bernstein's (https://cr.yp.to/proto/maildir.html).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SMTPError
from ..trace import stored_header
from .incoming import (
    for_each_recipient,
    pieces,
    refusing_failures,
    spooled,
    spooled_pieces,
    stored_form,
)

if TYPE_CHECKING:
    from ..session import SMTPAddress, SMTPSession
    from ..wire.stream import DataStream
    from .incoming import Results

_FOLDERS = ("tmp", "new", "cur")
# What is left in tmp of processes that were killed may go after this time, says the format.
_ABANDONED_SECONDS = 36 * 60 * 60

# What the system says of a folder that is not there, or could not be there under its name. Anything
# else, a lack of permission above all, says nothing of whether there is one.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL)

_count = itertools.count()
_TASK = "cannot deliver to Maildir"


class MaildirDelivery:
    """Stores each message as a file in a Maildir. An instance is an `on_data`.

    The file is written in `tmp`, brought to the disk (fsync), moved to `new`, and the move is
    brought to the disk as well; only then does the client get its 250. Whatever happens before,
    nothing is in `new`. A full disk or quota is answered with 452, any other failure with 451.
    Messages have LF line ends, and `Return-Path` and `Received` in front (RFC 5321, section 4.4).

    `path` is one Maildir for all messages, which is made if it is not there, or a pattern with
    `{user}`, `{domain}` or `{recipient}`: then each recipient has a Maildir, which must be there,
    and a copy with `Delivered-To`. Addresses are looked for in lower case. Assign `on_rcpt_to` as
    well, so that recipients without one are refused with 550. Where that cannot be told, as the
    folder in front of the first `{` is not there or something may not be looked at, it is 451: no
    mail bounces for what somebody will mend. (In place of a disk that is not mounted there may be
    an empty folder; so have that folder on the disk: "/mnt/disk/mail/{user}".) In SMTP either all
    recipients get the message or none; in LMTP each has a reply (RFC 2033, section 4.2).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises OSError where the one Maildir cannot be made, ValueError for a pattern that is
        none."""
        self._path = os.fspath(path)
        fixed, brace, _ = self._path.partition("{")
        self._is_pattern = bool(brace)
        self._base = os.path.dirname(fixed) or os.curdir
        if self._is_pattern:
            _filled(self._path, "user", "domain")
        else:
            make_maildir(self._path)
            remove_abandoned(self._path)

    def on_rcpt_to(self, address: SMTPAddress, session: SMTPSession) -> None:
        """Refuse a recipient who has no Maildir: 550, or 451 where that cannot be told. For the
        callback of this name."""
        self._maildir_of(address, session)

    def __call__(self, stream: DataStream, session: SMTPSession) -> Results | None:
        """Receive the message and store it. Raises SMTPError where it cannot be stored."""
        if not self._is_pattern:
            entry = _Entry(self._path, session)
            with entry:
                entry.write_all(stored_header(session), stored_form(pieces(stream), session))
                if not stream.size_exceeded:
                    entry.deliver()
            return None
        with spooled(stream, session) as spool:
            if spool is None:
                return None

            def deliver(recipient: SMTPAddress) -> None:
                with self._copy(recipient, session) as entry:
                    entry.write_copy(spooled_pieces(spool))
                    entry.deliver()

            if session.lmtp:
                return for_each_recipient(session, deliver)
            with contextlib.ExitStack() as undo:
                entries = [
                    undo.enter_context(self._copy(recipient, session))
                    for recipient in self._distinct(session)
                ]
                for entry in entries:
                    entry.write_copy(spooled_pieces(spool))
                for entry in entries:
                    entry.deliver()
        return None

    def _distinct(self, session: SMTPSession) -> list[SMTPAddress]:
        """A recipient for each Maildir: who is named twice, gets one copy."""
        by_maildir = {self._maildir_of(each, session): each for each in session.envelope.rcpt_to}
        return list(by_maildir.values())

    def _copy(self, recipient: SMTPAddress, session: SMTPSession) -> _Entry:
        return _Entry(self._maildir_of(recipient, session), session, recipient)

    def _maildir_of(self, recipient: SMTPAddress, session: SMTPSession) -> str:
        if not self._is_pattern:
            return self._path
        user, _, domain = recipient.address.lower().rpartition("@")
        if not user:  # "postmaster" alone
            user, domain = domain, ""
        path = _filled(self._path, user, domain)
        with refusing_failures(session, _TASK):
            if path is not None and self._is_maildir(path):
                return path
        raise SMTPError("Error: no such mailbox", 550, "5.1.1")

    def _is_maildir(self, path: str) -> bool:
        """Whether `path`, one of the pattern's, is a Maildir. Raises OSError if nobody can tell."""
        try:
            os.stat(os.path.join(path, "new", ""))
        except ValueError:  # A name that the file system's encoding lacks characters for.
            return False
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            # Only where the others could be is it known that this one is not.
            os.stat(os.path.join(self._base, ""))
            return False
        return True


def _filled(pattern: str, user: str, domain: str) -> str | None:
    """The pattern with the parts of an address; None where a part is no name for a folder."""
    unsafe = any("/" in part or "\0" in part or part.startswith(".") for part in (user, domain))
    if unsafe or not user or ("{domain}" in pattern and not domain):
        return None
    names = {"user": user, "domain": domain, "recipient": f"{user}@{domain}"}
    try:
        return pattern.format_map(names)
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise ValueError(
            f"a pattern may hold {{user}}, {{domain}} and {{recipient}} only: {pattern!r}"
        ) from error


def make_maildir(path: str) -> None:
    """Make `path` a Maildir, if it is none, for its owner alone. Raises OSError.

    What is made is on the disk afterwards, up to the first folder that was there: what is delivered
    then cannot be lost with it.
    """
    maildir = Path(path)
    folders = [*maildir.parents, maildir, *(maildir / name for name in _FOLDERS)]
    missing = [folder for folder in folders if not folder.exists()]
    for name in ("", *_FOLDERS):
        (maildir / name).mkdir(mode=0o700, parents=not name, exist_ok=True)
    for parent in {folder.parent for folder in missing}:
        bring_to_disk(str(parent))


def remove_abandoned(path: str) -> None:
    """Remove what killed processes left in `tmp` long ago, as far as that may be done."""
    oldest = time.time() - _ABANDONED_SECONDS
    with contextlib.suppress(OSError), os.scandir(os.path.join(path, "tmp")) as files:
        for file in files:
            with contextlib.suppress(OSError):
                if file.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(file.path)


class _Entry:
    """A message on its way into a Maildir. A context manager: what is not delivered is undone."""

    def __init__(
        self, maildir: str, session: SMTPSession, recipient: SMTPAddress | None = None
    ) -> None:
        self._session = session
        self._recipient = recipient
        self._name = _unique_name()
        self._maildir = maildir
        self._in_tmp = os.path.join(maildir, "tmp", self._name)
        self._in_new = os.path.join(maildir, "new", self._name)
        self._delivered = False
        with refusing_failures(session, _TASK):
            # Its error names the file.
            self._descriptor = os.open(
                self._in_tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )

    def write_copy(self, message: Iterator[bytes]) -> None:
        """The message, with a header for the one recipient that the copy is for."""
        header = stored_header(self._session, self._recipient)
        self.write_all(header, stored_form(message, self._session))

    def write_all(self, header: bytes, message: Iterator[bytes]) -> None:
        """Write the file and bring it to the disk."""
        self._write(header.replace(b"\r\n", b"\n"))
        for piece in message:
            self._write(piece)
        with refusing_failures(self._session, _TASK):
            os.fsync(self._descriptor)

    def _write(self, piece: bytes) -> None:
        with refusing_failures(self._session, _TASK):
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def deliver(self) -> None:
        """Let readers see the message, for good when this returns and the block ends well."""
        with refusing_failures(self._session, _TASK):
            os.rename(self._in_tmp, self._in_new)
            self._delivered = True
            bring_to_disk(os.path.join(self._maildir, "new"))

    def __enter__(self) -> _Entry:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        os.close(self._descriptor)
        if self._delivered and kind is None:
            return
        with contextlib.suppress(OSError):
            os.unlink(self._in_new if self._delivered else self._in_tmp)


def bring_to_disk(folder: str) -> None:
    """Have the names in `folder` survive a loss of power. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unique_name() -> str:
    """As the format advises: the time, who is at it on this machine, and the machine."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    host = socket.gethostname().replace("/", r"\057").replace(":", r"\072")
    delivery = f"M{nanoseconds // 1000}P{os.getpid()}Q{next(_count)}R{secrets.token_hex(4)}"
    return f"{seconds}.{delivery}.{host}"
