"""Servers in processes of their own: started, waited for until they listen, and ended.

with Running([sys.executable, "-m", "blocksmtp", "--port", "0"]) as server:
    connect(server.address)
assert server.status == 0
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

_LISTENS = re.compile(r"[Ll]istening on (?:\('([^']+)', (\d+)\)|\[?([^\]]+?)\]?:(\d+) )")
_SECONDS = 30


class Running:
    """A server process that says on standard output, or in its log, where it listens."""

    def __init__(
        self, arguments: Sequence[str], *, log: bool = False, folder: Path | None = None
    ) -> None:
        """`log`: standard error is read together with standard output. `folder`: to run in."""
        self.process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if log else subprocess.PIPE,
            text=True,
            encoding="utf-8",
            cwd=folder,
        )
        self.output = ""
        """What has been read so far; all of it after `end`."""
        self.errors = ""
        """Standard error, after `end`."""
        try:
            self.address = self._find_address()
        except BaseException:
            self.kill()
            raise

    def readline(self) -> str:
        """The next line of output, which must come."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.output += line
        assert line, f"ended early, after:\n{self.output}"
        return line

    def _find_address(self) -> tuple[str, int]:
        while (found := _LISTENS.search(self.readline())) is None:
            pass
        return found[1] or found[3], int(found[2] or found[4])

    @property
    def status(self) -> int | None:
        """The exit status, None before the end."""
        return self.process.returncode

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, 0 for none, and wait for the end; returns the exit status."""
        if number:
            self.process.send_signal(number)
        try:
            output, errors = self.process.communicate(timeout=_SECONDS)
        except BaseException:
            self.kill()
            raise
        self.output += output
        self.errors += errors or ""
        return self.process.returncode

    def kill(self) -> None:
        """End it at once, if it still runs."""
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.status is not None:
            return
        if kind is None:
            self.end()
        else:
            self.kill()
