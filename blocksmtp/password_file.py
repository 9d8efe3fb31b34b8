"""A file of users and what is kept of their passwords: a hash, and a verifier for SCRAM.

One user a line, three fields with ":" between them, of which one of the latter two may be empty:

    alice:$argon2id$v=19$m=65536,t=3,p=4$...:SCRAM-SHA-256$100000:salt$stored$...

The hash is Argon2's (RFC 9106), by argon2-cffi; the verifier is written as in RFC 5803. Lines that
begin with "#" and empty ones are nobody. `blocksmtp passwd` writes such files.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .auth import LoginAuth, PlainAuth, ScramAuth
from .saslprep import saslprep
from .scram import ScramVerifier
from .text import has_control_characters

if TYPE_CHECKING:
    import argon2

    from .auth import Auth
    from .session import SMTPSession

_SCHEME = "SCRAM-SHA-256"

_BASE64 = "(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2,3})?"
_HASH = re.compile(
    rf"\$argon2(?:id|i|d)\$(?:v=[0-9]+\$)?m=[0-9]+,t=[0-9]+,p=[0-9]+\${_BASE64}\${_BASE64}"
)

# Each check of a hash takes 64 MB and a core for a moment; clients must not take all there is.
_CHECKS_AT_ONCE = 4


@dataclass(frozen=True)
class StoredUser:
    """What is kept of a user's password."""

    hash: str | None
    verifier: ScramVerifier | None

    @classmethod
    def from_password(cls, password: str, *, scram: bool = True) -> StoredUser:
        """Made of a password, with a verifier if `scram`.

        Raises ValueError for a password that SASLprep forbids, ImportError without argon2-cffi.
        """
        prepared = saslprep(password)
        if not prepared:
            raise ValueError("the password must not be empty")
        return cls(
            _hasher().hash(prepared), ScramVerifier.from_password(password) if scram else None
        )


class PasswordFile:
    """Checks the passwords of users that a file names. Its methods are callbacks for a server:

        passwords = PasswordFile("/etc/blocksmtp/passwords")
        SMTPServer(
            auth_methods=passwords.auth_methods,
            on_auth=passwords.on_auth,
            scram_verifier=passwords.scram_verifier,
        )

    May be used by any number of threads, also while it is read anew.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the file. Raises as `reload`."""
        self.path = os.fspath(path)
        self._users: dict[str, StoredUser] = {}
        self._checks = threading.BoundedSemaphore(_CHECKS_AT_ONCE)
        self._decoy = StoredUser(None, None)
        self.reload()

    def reload(self) -> None:
        """Read the file again; what cannot be read leaves the users as they are.

        Raises OSError, ValueError for what is no such file, and ImportError where it holds hashes
        and argon2-cffi is not installed.
        """
        users = read_users(self.path)
        hashes = any(user.hash for user in users.values())
        if self._decoy.hash is None and hashes:
            # For names that are unknown: as much work as for others, and no password is right.
            self._decoy = StoredUser(_hasher().hash(secrets.token_hex()), None)
        elif self._decoy.verifier is None and not hashes:
            self._decoy = StoredUser(None, ScramVerifier.from_password(secrets.token_hex()))
        self._users = users

    @property
    def auth_methods(self) -> tuple[str, ...]:
        """The mechanisms that make sense, for the option of that name: SCRAM if any can use it."""
        scram = any(user.verifier for user in self._users.values())
        return (*(("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256") if scram else ()), "PLAIN", "LOGIN")

    def check(self, username: str, password: str) -> bool:
        """Whether this is the user's password. A name that is unknown takes as long."""
        user = self._users.get(username)
        try:
            prepared = saslprep(password)
        except ValueError:
            return False
        with self._checks:
            right = self._is_right(user or self._decoy, prepared)
        return right and user is not None

    def _is_right(self, user: StoredUser, prepared: str) -> bool:
        if user.hash is None:
            return user.verifier is not None and user.verifier.validate_password(prepared)
        import argon2

        try:
            return _hasher().verify(user.hash, prepared)
        except argon2.exceptions.VerifyMismatchError:
            return False

    def on_auth(self, auth: Auth, session: SMTPSession) -> str | None:
        """The name of the user, None where the password is wrong. For the callback of this name."""
        if isinstance(auth, ScramAuth):
            # With `scram_verifier` a client of SCRAM gets here after a right proof only.
            return auth.username
        if isinstance(auth, (PlainAuth, LoginAuth)) and self.check(auth.username, auth.password):
            return auth.username
        return None

    def scram_verifier(self, username: str, session: SMTPSession) -> ScramVerifier | None:
        """The verifier of a user, if there is one. For the callback of this name."""
        user = self._users.get(username)
        return None if user is None else user.verifier


def read_users(path: str) -> dict[str, StoredUser]:
    """The users in the file. Raises OSError, and ValueError for a line that is none."""
    users: dict[str, StoredUser] = {}
    with open(path, encoding="utf-8") as file:
        try:
            for number, line in enumerate(file, 1):
                entry = line.rstrip("\n")
                if not entry.strip() or entry.startswith("#"):
                    continue
                try:
                    name, user = _parsed(entry)
                    if name in users:
                        raise ValueError("the user is there already")
                except ValueError as error:
                    # Without the line, which holds a secret.
                    raise ValueError(f"{path}, line {number}: {error}") from None
                users[name] = user
        except UnicodeDecodeError:
            raise ValueError(f"{path} is no text in UTF-8") from None
    return users


def shown_users(users: dict[str, StoredUser]) -> str:
    """The text of a file of these users."""
    lines = []
    for name, user in users.items():
        verifier = "" if user.verifier is None else _shown_verifier(user.verifier)
        lines.append(f"{name}:{user.hash or ''}:{verifier}\n")
    return "".join(lines)


def check_name(name: str) -> None:
    """Raise ValueError for a name that no user can have in such a file."""
    if not name or ":" in name or name.startswith("#") or has_control_characters(name):
        raise ValueError("a user's name must not be empty, hold ':' or begin with '#'")


def _parsed(entry: str) -> tuple[str, StoredUser]:
    name, *rest = entry.split(":", 2)
    check_name(name)
    if len(rest) != 2 or not any(rest):
        raise ValueError("must be a name, a hash and a verifier, with ':' between them")
    if rest[0] and not _HASH.fullmatch(rest[0]):
        raise ValueError("the hash is none of Argon2")
    return name, StoredUser(rest[0] or None, _parsed_verifier(rest[1]) if rest[1] else None)


def _parsed_verifier(text: str) -> ScramVerifier:
    try:
        scheme, parameters, keys = text.split("$")
        iterations, salt = parameters.split(":")
        stored_key, server_key = keys.split(":")
        if scheme == _SCHEME:
            return ScramVerifier(
                _decoded(salt), int(iterations), _decoded(stored_key), _decoded(server_key)
            )
    except (ValueError, binascii.Error):
        pass
    raise ValueError(f"the verifier is none of {_SCHEME}")


def _shown_verifier(verifier: ScramVerifier) -> str:
    salt, stored_key, server_key = (
        base64.b64encode(each).decode("ascii")
        for each in (verifier.salt, verifier.stored_key, verifier.server_key)
    )
    return f"{_SCHEME}${verifier.iterations}:{salt}${stored_key}:{server_key}"


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _hasher() -> argon2.PasswordHasher:
    import argon2

    return argon2.PasswordHasher()
