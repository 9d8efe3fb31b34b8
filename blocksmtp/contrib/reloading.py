"""Starting a command anew when code changes, as the frameworks' own do, but without violence.

Their reloaders run in a child. The parent that they come with kills it as soon as somebody presses
Ctrl-C or sends SIGTERM, in the middle of a message, and ends with it when a change does not even
load.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import FrameType

_CODE_HAS_CHANGED = 3
"""The exit status by which the reloaders of Django and werkzeug ask for another start."""
_STOPPING = (signal.SIGINT, signal.SIGTERM)
_LOOKS_EVERY = 1.0  # seconds, as those do


def is_child(variable: str) -> bool:
    """Whether this process is the one that reloads; its framework's `variable` says so."""
    return os.environ.get(variable) == "true"


def run_children(variable: str) -> int:
    """Run this program in one child after the other; returns the exit status.

    A child that ends with an error is followed by another once code has changed. SIGTERM is passed
    on, and the child's end awaited; Ctrl-C a terminal tells both. Of the main thread only.
    """
    return _Parent({**os.environ, variable: "true"}).run()


@contextlib.contextmanager
def ended_once() -> Iterator[None]:
    """In the child: let the first SIGTERM end the block, and none what is finished after that."""
    try:
        yield
    finally:
        # It may have come from the parent as well as from who told both.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


class _Parent:
    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._stop: signal.Signals | None = None
        # What a signal handler can do while something else is waiting, without a lock.
        self._woken, self._waking = os.pipe()
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        before = {each: signal.signal(each, self._on_signal) for each in _STOPPING}
        try:
            status = self._run_until_done()
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)
            os.close(self._waking)
            os.close(self._woken)
        return status if status >= 0 else 128 - status

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop = signal.Signals(number)
        os.write(self._waking, b"\0")
        self._pass_on()

    def _pass_on(self) -> None:
        if self._stop is signal.SIGTERM and self._child is not None:
            self._child.send_signal(self._stop)

    def _run_until_done(self) -> int:
        while True:
            code = _times_of_code()
            self._child = subprocess.Popen(  # noqa: S603 - the program that runs already
                [sys.executable, *sys.orig_argv[1:]],
                env=self._environment,
                # Listening sockets and the like, handed over by who started us.
                close_fds=False,
            )
            self._pass_on()  # It may have come before there was a child.
            status = self._child.wait()
            if status > 0 and status != _CODE_HAS_CHANGED and self._stop is None:
                print("Waiting for a change of code.", file=sys.stderr, flush=True)
                while self._stop is None and _times_of_code() == code:
                    select.select([self._woken], [], [], _LOOKS_EVERY)
            if status <= 0 or self._stop is not None:
                return status


def _times_of_code() -> dict[str, float]:
    """When each file of the modules that this process has loaded was last changed."""
    times = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file:
            # An editor may be just about to replace it.
            with contextlib.suppress(OSError):
                times[file] = os.stat(file).st_mtime
    return times
