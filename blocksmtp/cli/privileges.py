"""Giving up root, once what needs it is done."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass

from .errors import CannotStart, reason_of


@dataclass(frozen=True)
class Identity:
    """Whom to become. None stays as it is."""

    user: int | None
    group: int | None
    name: str | None
    """The user's, where it has one: its other groups are looked up by it."""

    @classmethod
    def named(cls, user: str | None, group: str | None) -> Identity:
        """From names or numbers; the group is the user's own unless given. Raises CannotStart."""
        name = user_id = group_id = None
        if user is not None:
            try:
                entry = pwd.getpwuid(int(user)) if _is_number(user) else pwd.getpwnam(user)
            except (KeyError, ValueError, OverflowError):
                raise CannotStart(f"--user: there is no {user!r}") from None
            name, user_id, group_id = entry.pw_name, entry.pw_uid, entry.pw_gid
        if group is not None:
            try:
                found = grp.getgrgid(int(group)) if _is_number(group) else grp.getgrnam(group)
            except (KeyError, ValueError, OverflowError):
                raise CannotStart(f"--group: there is no {group!r}") from None
            group_id = found.gr_gid
        return cls(user_id, group_id, name)

    def own(self, path: str) -> None:
        """Have the file belong to this user and group. Raises OSError."""
        if (self.user, self.group) != (None, None):
            os.chown(path, *(-1 if each is None else each for each in (self.user, self.group)))

    def become(self) -> None:
        """Be this user and group from now on, for good. Raises CannotStart."""
        if (self.user, self.group) in ((None, None), (os.geteuid(), os.getegid())):
            return
        try:
            if self.group is not None:
                if self.name is not None:
                    os.initgroups(self.name, self.group)
                else:
                    os.setgroups([self.group])
                os.setgid(self.group)
            if self.user is not None:
                os.setuid(self.user)
        except OSError as error:
            option = "--group" if self.user is None else "--user"
            raise CannotStart(f"{option}: {reason_of(error)}; only root may change it") from error


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
