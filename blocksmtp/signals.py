"""SIGINT and SIGTERM, as a reason to close."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping

CLOSING = (signal.SIGINT, signal.SIGTERM)

# What is in force undoes itself in a process that is forked off: signals to that one are its own.
# Of the process, as signal handlers are.
_in_force: list[contextlib.ExitStack] = []


@contextlib.contextmanager
def closed_by_signals(
    close: Callable[[float | None], None],
    closing: Collection[int] = CLOSING,
    others: Mapping[int, Callable[[], None]] | None = None,
) -> Iterator[None]:
    """Call `close(None)` on SIGINT and SIGTERM, or on those in `closing`, `close(0)` on a second.

    `others` has what is called on other signals, one call after the other.

    For the main thread only. That is where Python runs signal handlers, but it may be waiting for a
    lock: a signal that the system gives to another thread, or just before the wait begins, would
    not be noticed before the wait is over. So a thread of our own waits for the octet that Python
    writes at once (`signal.set_wakeup_fd`), whichever thread it is in; the handlers do nothing.
    """
    received, told = socket.socketpair()
    told.setblocking(False)
    others = others or {}
    watcher = threading.Thread(
        target=_watch,
        args=(received, close, closing, others),
        name="blocksmtp signals",
        daemon=True,
    )
    with received, contextlib.ExitStack() as undo:
        undo.enter_context(told)  # Its end is that of the watcher.
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(told.fileno()))
        for number in (*closing, *others):
            undo.callback(signal.signal, number, signal.signal(number, _do_nothing))
        watcher.start()
        _in_force.append(undo)
        try:
            yield
        finally:
            if undo in _in_force:
                _in_force.remove(undo)
            undo.close()
            watcher.join()


def _do_nothing(_number: int, _frame: object) -> None:
    pass


def _undo_in_child() -> None:
    while _in_force:
        _in_force.pop().close()


os.register_at_fork(after_in_child=_undo_in_child)


def _watch(
    received: socket.socket,
    close: Callable[[float | None], None],
    closing: Collection[int],
    others: Mapping[int, Callable[[], None]],
) -> None:
    closers: list[threading.Thread] = []
    timeout: float | None = None
    while octets := received.recv(64):
        for number in octets:
            if number in others:
                others[number]()
            if number not in closing:
                continue
            # Not here: a second signal must be heard while the first closes.
            closer = threading.Thread(
                target=close, args=(timeout,), name="blocksmtp close on signal"
            )
            try:
                closer.start()
            except (RuntimeError, MemoryError):
                close(timeout)  # Here after all.
            else:
                closers.append(closer)
            timeout = 0.0
    for closer in closers:
        closer.join()
