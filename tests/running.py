"""Servers in processes of their own: started, waited for until they listen, and ended.

with Running([sys.executable, "-m", "blocksmtp", "--port", "0"]) as server:
    connect(server.address)
assert server.status == 0
"""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

_LISTENS = re.compile(r"[Ll]istening on (?:\('([^']+)', (\d+)\)|\[?([^\]]+?)\]?:(\d+) )")
_SECONDS = 30


class Running:
    """A server process that says on standard output, or in its log, where it listens."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        log: bool = False,
        folder: Path | None = None,
        listens: str | None = None,
        **options: Any,
    ) -> None:
        """`log`: standard error is read together with standard output. `folder`: to run in.

        `listens`: what it says in place of an address, where it has none. `options` are Popen's.
        """
        self.process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            cwd=folder,
            **{"stderr": subprocess.STDOUT if log else subprocess.PIPE, **options},
        )
        self.output = ""
        """What has been read so far; all of it after `end`."""
        self.errors = ""
        """Standard error, after `end`."""
        try:
            if listens is None:
                self.address = self._find_address()
            else:
                while listens not in self.readline():
                    pass
        except BaseException:
            self.kill()
            raise

    def readline(self) -> str:
        """The next line of output, which must come."""
        assert self.process.stdout is not None
        line: str = self.process.stdout.readline()
        self.output += line
        if not line:
            status = self.end(0)
            message = f"ended early, with {status}, after:\n{self.output}{self.errors}"
            raise AssertionError(message)
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
        # Not communicate(): it forgets what readline() has buffered.
        watch = threading.Timer(_SECONDS, self.process.kill)
        reader = threading.Thread(target=self._read_errors)
        watch.start()
        reader.start()
        try:
            if self.process.stdout is not None:
                self.output += self.process.stdout.read()
                self.process.stdout.close()
            reader.join()
            return self.process.wait()
        finally:
            watch.cancel()
            watch.join()

    def _read_errors(self) -> None:
        if self.process.stderr is not None:
            self.errors += self.process.stderr.read()
            self.process.stderr.close()

    def kill(self) -> None:
        """End it at once, if it still runs."""
        self.process.kill()
        if self.process.stdout is not None and not self.process.stdout.closed:
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
