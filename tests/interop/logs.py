"""What a daemon says, line by line, for a test to wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .serving import TIMEOUT


class Log:
    """The lines of a daemon's log. A thread of the daemon's helper adds them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()

    def lines(self, *texts: str) -> list[str]:
        """The lines so far that hold all of `texts`."""
        with self._changed:
            return self._matching(texts)

    def wait_for(self, *texts: str, count: int = 1) -> list[str]:
        """The lines that hold all of `texts`, once there are `count`. Fails when time is up."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._matching(texts)) >= count, TIMEOUT):
                raise AssertionError(f"{texts} not logged {count} times")
            return self._matching(texts)

    def show(self) -> None:
        """Print it all, which pytest shows if the test has failed."""
        print(*self.lines(), sep="\n")

    def _matching(self, texts: tuple[str, ...]) -> list[str]:
        return [line for line in self._lines if all(text in line for text in texts)]


def in_thread(name: str, target: Callable[[], None]) -> threading.Thread:
    """`target` in a thread that has started."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread
