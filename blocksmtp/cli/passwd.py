"""`blocksmtp passwd`: a file of users and what is kept of their passwords."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import getpass
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence

from ..password_file import StoredUser, check_name, read_users, shown_users
from ..text import printable
from .arguments import Parser
from .errors import CannotStart, reason_of

_DESCRIPTION = """\
Set the password of a user in FILE, for --auth-file; a FILE that is not there is made. The password
is asked for, or read from standard input if that is no terminal. What is kept of it is a hash
(Argon2) and, for logins that do not send it at all, a verifier (SCRAM-SHA-256). A server that runs
reads the file again on SIGHUP.
"""


def run(arguments: Sequence[str]) -> int:
    """Do what `arguments` say; the exit status. Raises CannotStart, SystemExit as argparse does."""
    parser = Parser(
        prog="blocksmtp passwd",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("user", metavar="USER", nargs="?")
    parser.add_argument("--delete", action="store_true", help="remove the user")
    parser.add_argument("--list", action="store_true", help="show the names of all users")
    parser.add_argument(
        "--no-scram",
        action="store_true",
        help="keep the hash only: a verifier is less work to guess a password from, should the "
        "file be stolen",
    )
    chosen = parser.parse_args(arguments)
    if chosen.list == (chosen.user is not None) or (chosen.list and chosen.delete):
        parser.error("either a USER or --list")
    try:
        if chosen.list:
            for name in read_users(chosen.file):
                print(printable(name))
            return 0
        check_name(chosen.user)
        user = None if chosen.delete else _made(scram=not chosen.no_scram)
        _change(chosen.file, chosen.user, user)
    except OSError as error:
        raise CannotStart(f"{chosen.file}: {reason_of(error)}") from error
    except ValueError as error:
        raise CannotStart(str(error)) from error
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)  # The prompt has no end of line.
        raise CannotStart("broken off") from None
    return 0


def _made(*, scram: bool) -> StoredUser:
    password = _password()
    try:
        return StoredUser.from_password(password, scram=scram)
    except ImportError:
        raise CannotStart("passwords need argon2: pip install 'blocksmtp[passwords]'") from None


def _password() -> str:
    if sys.stdin is None:
        raise ValueError("standard input, which the password is read from, is closed")
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("New password: ")
    if getpass.getpass("Once more: ") != password:
        raise ValueError("the two are not the same")
    return password


def _change(path: str, name: str, user: StoredUser | None) -> None:
    """Put a user into the file, or take it out. Raises OSError and ValueError."""
    with _alone(path):
        try:
            users = read_users(path)
            before = os.stat(path)
        except FileNotFoundError:
            users, before = {}, None
        if user is not None:
            users[name] = user
        elif users.pop(name, None) is None:
            raise ValueError(f"{path} has no user {name!r}")
        _replace(path, shown_users(users), before)


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    """Keep other processes that change the file out. Raises OSError."""
    folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _replace(path: str, text: str, before: os.stat_result | None) -> None:
    """Write the file anew: it is the old one or the new one, never half of it. Raises OSError."""
    path = os.path.realpath(path)
    descriptor, new = tempfile.mkstemp(prefix=".passwd-", dir=os.path.dirname(path))
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            if before is not None:
                os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, before.st_mode & 0o7777)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        raise
