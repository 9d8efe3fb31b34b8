"""Where messages are kept: a database of SQLite, and the news that one has come."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .reading import opened

if TYPE_CHECKING:
    from blocksmtp.message import IncomingMessage

# Of the text, for the search; what lies behind is found by nobody.
_SEARCHED = 100_000
_LONGEST_SUBJECT = 1000

_TABLE = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received REAL NOT NULL,
    sender TEXT NOT NULL,
    recipients TEXT NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL,
    content BLOB NOT NULL
)
"""
_SUMMARY = "id, received, sender, recipients, subject, length(content)"


@dataclass(frozen=True)
class Summary:
    """A line of the list."""

    id: int
    received: float
    sender: str
    recipients: str
    subject: str
    size: int

    @property
    def time(self) -> str:
        """When it came, on this machine's clock."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.received))


class Storage:
    """The messages. For use by several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._version = 0
        self._closed = False
        with self._database() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(_TABLE)

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=30)) as database, database:
            yield database

    def add(self, message: IncomingMessage) -> int:
        """Keep a message; returns its number."""
        sender = message.envelope.mail_from
        read = opened(message.content)
        row = (
            time.time(),
            sender.address if sender else "",
            ", ".join(address.address for address in message.envelope.rcpt_to),
            read.subject[:_LONGEST_SUBJECT],
            (read.text or read.html or "")[:_SEARCHED],
            message.content,
        )
        with self._database() as database:
            cursor = database.execute(
                "INSERT INTO messages (received, sender, recipients, subject, text, content) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
        self._tell()
        return cursor.lastrowid or 0

    def search(self, words: str = "", most: int = 200) -> list[Summary]:
        """The newest messages in which all of `words` are, in any column, capitals or not."""
        wanted = words.casefold().split()

        # In place of LIKE, which knows the capitals of ASCII only, and ends at a NUL.
        def matches(*columns: str) -> bool:
            text = " ".join(columns).casefold()
            return all(word in text for word in wanted)

        where = "matches(sender, recipients, subject, text)" if wanted else "1"
        with self._database() as database:
            database.create_function("matches", 4, matches)
            rows = database.execute(
                f"SELECT {_SUMMARY} FROM messages WHERE {where} ORDER BY id DESC LIMIT ?",  # noqa: S608
                [most],
            )
            return [Summary(*row) for row in rows]

    def get(self, number: int) -> tuple[Summary, bytes] | None:
        """A message with its octets; None where there is none."""
        with self._database() as database:
            query = f"SELECT {_SUMMARY}, content FROM messages WHERE id = ?"  # noqa: S608
            try:
                row = database.execute(query, [number]).fetchone()
            except OverflowError:  # no number that SQLite gives
                row = None
        return None if row is None else (Summary(*row[:-1]), row[-1])

    def clear(self) -> None:
        """Throw all away."""
        with self._database() as database:
            database.execute("DELETE FROM messages")
        self._tell()

    def close(self) -> None:
        """End every `wait`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _tell(self) -> None:
        with self._changed:
            self._version += 1
            self._changed.notify_all()

    def wait(self, version: int, seconds: float) -> int | None:
        """Wait until something is newer than `version`; the newest version, None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._version != version, seconds)
            return None if self._closed else self._version
