"""Connection threads: one for each client, kept for a moment for the next one.

To start a thread and to see it end takes longer than to serve a client who brings one message; so
a thread whose client has gone waits for another. What belongs to a context begins anew with each
client; what is local to a thread stays, as in any server that has a pool of them.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
from collections.abc import Callable

from .scheduling import let_others_finish

# There are never more than there were clients at once.
_IDLE_SECONDS = 5.0


class ConnectionThreads:
    """The threads of a server's connections."""

    def __init__(self) -> None:
        self._process: int | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._all: set[_ConnectionThread] = set()
        self._idle: list[_ConnectionThread] = []
        self._ended: list[_ConnectionThread] = []

    def start(self, name: str, job: Callable[[], object]) -> None:
        """Call `job` in a thread, which has the `name` meanwhile.

        Raises RuntimeError or MemoryError where the machine has no thread left.
        """
        # Not before: a server may be made here and serve in a process that is forked off.
        self._process = os.getpid()
        if self._ended:
            self._join_ended()
        with self._lock:
            thread = self._idle.pop() if self._idle else None
        if thread is not None:
            thread.go_on(name, job)
            return
        thread = _ConnectionThread(self, name, job)
        with self._lock:
            self._all.add(thread)
        try:
            thread.start()
        except BaseException:
            with self._lock:
                self._all.discard(thread)
            raise

    def _join_ended(self) -> None:
        """Let no ended thread linger.

        Those are left for later whose end takes its time: what is local to a thread goes with it,
        and may have something to do for that.
        """
        with self._lock:
            ended = [thread for thread in self._ended if not thread.is_alive()]
            self._ended = [thread for thread in self._ended if thread not in ended]
        for thread in ended:
            thread.join()

    def close(self) -> None:
        """Send idle threads home, and wait until all threads have ended.

        Where an exception such as KeyboardInterrupt ends it early, another call goes on.
        """
        with self._lock:
            self._closed = True
            idle = list(self._idle)
            everyone = [*self._all, *self._ended]
        for thread in idle:
            thread.go_home()
        for thread in everyone:
            thread.join()

    # --- called by the threads -------------------------------------------------------------

    def enlist(self, thread: _ConnectionThread) -> bool:
        """Have an idle thread found by the next client; False where it is not wanted."""
        if os.getpid() != self._process:
            return False  # A callback has forked: here is nobody who could have something to do.
        with self._lock:
            if not self._closed:
                self._idle.append(thread)
            return not self._closed

    def withdraw(self, thread: _ConnectionThread) -> bool:
        """Have it found no more; False where it has been found already, and gets a job."""
        with self._lock:
            try:
                self._idle.remove(thread)
            except ValueError:
                return False
        return True

    def ended(self, thread: _ConnectionThread) -> None:
        """The thread is about to end."""
        if os.getpid() == self._process:
            with self._lock:
                self._all.discard(thread)
                self._ended.append(thread)


class _ConnectionThread(threading.Thread):
    """Does one job after another, for as long as they come."""

    def __init__(self, threads: ConnectionThreads, name: str, job: Callable[[], object]) -> None:
        super().__init__(name=name, daemon=True)
        self._threads = threads
        self._job: Callable[[], object] | None = job
        # Released by who has a job, or no more of them.
        self._called = threading.Lock()
        self._called.acquire()

    def go_on(self, name: str, job: Callable[[], object]) -> None:
        """Do a job; the thread is idle."""
        self.name = name
        self._job = job
        self._called.release()

    def go_home(self) -> None:
        """End; the thread is idle."""
        with contextlib.suppress(RuntimeError):  # It has been told, and is about to.
            self._called.release()

    def run(self) -> None:
        """See threading.Thread."""
        try:
            let_others_finish()
            while self._job is not None:
                job, self._job = self._job, None
                contextvars.Context().run(job)
                # What it leads to is freed now, not when the next client comes.
                del job
                self._wait_for_a_job()
        finally:
            self._threads.ended(self)

    def _wait_for_a_job(self) -> None:
        self.name = "blocksmtp idle"
        if self._threads.enlist(self):
            called = self._called.acquire(timeout=_IDLE_SECONDS)
            if not called and not self._threads.withdraw(self):
                # Called at that very moment.
                self._called.acquire()
