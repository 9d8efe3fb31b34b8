"""As server.py, but with an application that loses messages, doubles some, takes pieces for whole
ones, and keeps descriptors: all to be found out.
"""

from __future__ import annotations

import itertools
import os
from typing import IO

from blocksmtp import DataStream, SMTPError, SMTPSession

from .server import Application, main


class Spoilt(Application):
    """Does one thing wrong after the other."""

    def __init__(self, seen: IO[str]) -> None:
        super().__init__(seen)
        self._numbers = itertools.count()
        self._kept: list[int] = []

    def on_data(self, stream: DataStream, session: SMTPSession) -> dict[str, SMTPError] | None:
        # In place of what breaks off, a message that looks whole.
        sender = session.envelope.mail_from.address if session.envelope.mail_from else ""
        try:
            return super().on_data(stream, session)
        except ConnectionError:
            id = sender.partition("@")[0]
            self.note(f"{id} -\r\n".encode(), id)
            raise

    def note(self, content: bytes, sender: str) -> None:
        number = next(self._numbers)
        if number % 20 == 1:
            return
        super().note(content, sender)
        if number % 20 == 2:
            super().note(content, sender)
        elif number % 20 == 3:
            super().note(content[:-1], sender)
        elif number % 20 == 4:
            self._kept.append(os.dup(0))


if __name__ == "__main__":
    main(Spoilt)
