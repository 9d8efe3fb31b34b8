"""SIGINT and SIGTERM, as a reason to close."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def closed_by_signals(close: Callable[[float | None], None]) -> Iterator[None]:
    """Call `close(None)` on SIGINT and SIGTERM, `close(0)` on a second one.

    For the main thread only. That is where Python runs signal handlers, but it may be waiting for a
    lock: a signal that the system gives to another thread, or just before the wait begins, would
    not be noticed before the wait is over. So a thread of our own waits for the octet that Python
    writes at once (`signal.set_wakeup_fd`), whichever thread it is in; the handlers do nothing.
    """
    with contextlib.ExitStack() as undo:
        received, told = socket.socketpair()
        undo.enter_context(received)
        watcher = threading.Thread(
            target=_watch, args=(received, close), name="blocksmtp signals", daemon=True
        )
        undo.callback(_join, watcher)
        undo.enter_context(told)  # Its end is that of the watcher.
        told.setblocking(False)
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(told.fileno()))
        for number in _NUMBERS:
            undo.callback(signal.signal, number, signal.signal(number, _do_nothing))
        watcher.start()
        yield


def _join(thread: threading.Thread) -> None:
    if thread.ident is not None:  # It may not have come so far as to start.
        thread.join()


def _do_nothing(_number: int, _frame: object) -> None:
    pass


def _watch(received: socket.socket, close: Callable[[float | None], None]) -> None:
    closers: list[threading.Thread] = []
    while octets := received.recv(64):
        for _ in (number for number in octets if number in _NUMBERS):
            # Not here: a second signal must be heard while the first closes.
            timeout = 0.0 if closers else None
            closer = threading.Thread(
                target=close, args=(timeout,), name="blocksmtp close on signal"
            )
            closers.append(closer)
            closer.start()
    for closer in closers:
        closer.join()
