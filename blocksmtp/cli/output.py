"""Standard output, which may break at any time: `blocksmtp | head`."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator

from ..text import printable

_logger = logging.getLogger("blocksmtp")


class Output:
    """Standard output, and what is done when nobody sees it any more."""

    def __init__(self) -> None:
        self.broken = False
        self.on_failure: Callable[[], None] = lambda: None

    def say(self, line: str) -> None:
        """Print one line at once."""
        try:
            print(line, flush=True)
        except OSError as error:
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Nobody sees what comes from now on."""
        self.broken = True
        reason = getattr(error, "strerror", None) or printable(str(error))
        _logger.error("standard output: %s", reason)
        # Or Python would complain once more, of what it cannot flush when it exits.
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        self.on_failure()


class ProcessLock:
    """A lock between processes that are forked off; free again when the one that has it dies."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> ProcessLock:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Have the lock. Threads of one process must keep out of each other's way themselves."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
