"""Several processes on the same sockets: started again when they die, stopped together.

The process that was started binds, reads what must be read, and then only watches: it has no
thread, so that a fork copies nothing in mid-motion, and no client. The sockets are the same for
all; a client that waits to be accepted is taken by whichever process is left.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.popen_fork  # now, since later the files may be closed to us
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import NoReturn

_logger = logging.getLogger("blocksmtp")

_context = multiprocessing.get_context("fork")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Another number than the first: two of one are one to a process that has not yet heard the first.
_AT_ONCE = signal.SIGUSR1

CLOSING = (signal.SIGTERM, _AT_ONCE)
"""What ends a worker: the first gracefully, the second without waiting for clients."""

FOR_GOOD = 3
"""Exit status of a worker that need not be started again: it has told why."""

# One that dies before it serves is not started again at once.
_PAUSE_SECONDS = 1.0


@dataclass
class _Worker:
    process: BaseProcess
    work: Callable[[Callable[[], None]], int]
    told: socket.socket
    """Readable when the worker serves, or has ended."""
    starting: bool = True
    served: bool = False


class Workers:
    """The processes, and the watch over them.

    Each `work(ready)` runs in a process of its own, calls `ready()` when it serves, and returns
    the exit status. SIGTERM, which is blocked at first, should end it; what is to be done when this
    process dies is up to `orphaned`.
    """

    def __init__(
        self,
        *works: Callable[[Callable[[], None]], int],
        ready: Callable[[], None],
        stopping: Callable[[], None],
        reload: Callable[[], None],
        died: Callable[[int], None],
    ) -> None:
        """`ready()` is called when all serve, `stopping()` when they are told to end, `reload()` on
        SIGHUP, before the workers are told, and `died(process_id)` for each that has ended."""
        self._works = works
        self._ready = ready
        self._stopping_callback = stopping
        self._reload = reload
        self._workers: list[_Worker] = []
        # Its end is seen by all workers, since only this process keeps it open.
        self._alive, self._life = socket.socketpair()
        self._due: list[tuple[float, Callable[[Callable[[], None]], int]]] = []
        self._all_served = False
        self._stops = 0
        self._status = 0
        self._died = died

    def run(self) -> int:
        """Start them, and watch until all have ended; the exit status."""
        with self._alive, self._life, _heard() as signals:
            for work in self._works:
                self._start(work)
            while self._workers or self._due:
                self._watch(signals)
        return self._status

    def _watch(self, signals: socket.socket) -> None:
        now = time.monotonic()
        for moment, work in list(self._due):
            if moment <= now:
                self._due.remove((moment, work))
                try:
                    self._start(work)
                except OSError as error:
                    _logger.error("cannot start a worker: %s", error)
                    self._due.append((now + _PAUSE_SECONDS, work))
        by_sentinel = {worker.process.sentinel: worker for worker in self._workers}
        starting = {worker.told: worker for worker in self._workers if worker.starting}
        pause = max(0.0, min(each for each, _ in self._due) - now) if self._due else None
        for event in wait([signals, *starting, *by_sentinel], pause):
            if event is signals:
                for number in signals.recv(64):
                    self._hear(number)
            elif isinstance(event, socket.socket):
                self._is_ready(starting[event])
            elif isinstance(event, int):
                self._ended(by_sentinel[event])

    def _start(self, work: Callable[[Callable[[], None]], int]) -> None:
        told, tells = socket.socketpair()
        process = _context.Process(target=self._child, args=(work, told, tells))
        # Until the worker hears them, they wait.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, _AT_ONCE))
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        tells.close()
        self._workers.append(_Worker(process, work, told))

    def _child(
        self,
        work: Callable[[Callable[[], None]], int],
        told: socket.socket,
        tells: socket.socket,
    ) -> NoReturn:
        self._life.close()
        told.close()
        for other in self._workers:
            other.told.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # A terminal sends it to all: one is enough.

        def ready() -> None:
            with contextlib.suppress(OSError):
                tells.sendall(b"+")
            tells.close()

        threading.Thread(target=self._wait_for_death, name="blocksmtp orphan", daemon=True).start()
        raise SystemExit(work(ready))

    def _wait_for_death(self) -> None:
        """In a worker: end as by SIGTERM when the process that watches has died."""
        self._alive.recv(1)
        os.kill(os.getpid(), signal.SIGTERM)

    def _is_ready(self, worker: _Worker) -> None:
        if worker not in self._workers:
            return
        worker.starting = False
        worker.served = bool(worker.told.recv(1))
        if not self._all_served and all(each.served for each in self._workers):
            self._all_served = True
            self._ready()

    def _ended(self, worker: _Worker) -> None:
        worker.process.join()
        code = worker.process.exitcode or 0
        worker.told.close()
        self._workers.remove(worker)
        self._died(worker.process.pid or 0)
        worker.process.close()
        if self._stops:
            return
        if code == FOR_GOOD or not self._all_served:
            # What fails before anything was served will fail again.
            self._status = 1
            self._stop()
            return
        how = f"exit status {code}" if code >= 0 else f"signal {-code}"
        _logger.error("a worker has ended (%s): starting another", how)
        pause = 0.0 if worker.served else _PAUSE_SECONDS
        self._due.append((time.monotonic() + pause, worker.work))

    def _hear(self, number: int) -> None:
        if number in (signal.SIGINT, signal.SIGTERM):
            self._stop()
        elif number == signal.SIGHUP and not self._stops:
            self._reload()
            self._send(signal.SIGHUP)

    def _stop(self) -> None:
        """Gracefully the first time, without waiting for clients the second, at once the third."""
        if not self._stops:
            self._stopping_callback()
        self._stops += 1
        self._due.clear()
        self._send({1: signal.SIGTERM, 2: _AT_ONCE}.get(self._stops, signal.SIGKILL))

    def _send(self, number: int) -> None:
        for worker in self._workers:
            # None has been waited for, so each number is still that of our own.
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.process.pid or 0, number)


@contextlib.contextmanager
def _heard() -> Iterator[socket.socket]:
    """Signals as octets that can be read, one each, where no thread can watch for them."""
    received, told = socket.socketpair()
    with received, told, contextlib.ExitStack() as undo:
        told.setblocking(False)
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(told.fileno()))
        for number in SIGNALS:
            undo.callback(signal.signal, number, signal.signal(number, _do_nothing))
        yield received


def _do_nothing(_number: int, _frame: object) -> None:
    pass


def hear_signals() -> None:
    """In a worker: let come what was blocked until it could be heard."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*SIGNALS, _AT_ONCE))
