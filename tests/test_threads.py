"""Connection threads: one for each client at a time, kept for a moment, none left in the end."""

from __future__ import annotations

import contextvars
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from blocksmtp import threads as module
from blocksmtp.threads import ConnectionThreads

from .client import TIMEOUT, connect, serving, wait_until_idle


class Threads(ConnectionThreads):
    """Tells when a thread is idle, and when one has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()
        self.idle = self.gone = 0

    def enlist(self, thread: Any) -> bool:
        wanted = super().enlist(thread)
        with self.changed:
            self.idle += wanted
            self.changed.notify_all()
        return wanted

    def ended(self, thread: Any) -> None:
        super().ended(thread)
        with self.changed:
            self.gone += 1
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, TIMEOUT)

    def wait_until_gone(self, number: int) -> None:
        self.wait_for(lambda: self.gone == number)

    def run(self, job: Callable[[], Any], name: str = "blocksmtp test") -> Any:
        """What `job` returns, once its thread is idle."""
        results: list[Any] = []
        idle = self.idle
        self.start(name, lambda: results.append(job()))
        self.wait_for(lambda: self.idle > idle)
        return results[0]


@pytest.fixture
def threads() -> Iterator[Threads]:
    ours = Threads()
    yield ours
    ours.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("blocksmtp")]


def test_a_thread_serves_one_after_another(threads: Threads) -> None:
    jobs = [threads.run(threading.get_ident) for _ in range(5)]
    assert len(set(jobs)) == 1


def test_and_no_two_at_once(threads: Threads) -> None:
    both = threading.Barrier(2, timeout=TIMEOUT)
    for _ in range(2):
        threads.start("blocksmtp test", both.wait)
    threads.wait_for(lambda: threads.idle == 2)


def test_it_has_the_name_of_what_it_does(threads: Threads) -> None:
    def names() -> list[str]:
        return [each.name for each in threading.enumerate() if each.name.startswith("blocksmtp")]

    assert threads.run(names, "blocksmtp one") == ["blocksmtp one"]
    assert names() == ["blocksmtp idle"]
    assert threads.run(names, "blocksmtp two") == ["blocksmtp two"]


def test_a_context_begins_anew_and_what_is_local_to_the_thread_stays(threads: Threads) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="new")
    local = threading.local()

    def look_and_set() -> tuple[str, bool]:
        found = variable.get(), hasattr(local, "value")
        variable.set("old")
        local.value = 1
        return found

    assert threads.run(look_and_set) == ("new", False)
    assert threads.run(look_and_set) == ("new", True)


def test_what_was_done_is_freed_at_once(threads: Threads) -> None:
    class Job:
        def __call__(self) -> None:
            pass

    job = Job()
    freed = weakref.ref(job)
    threads.run(job)
    del job
    assert freed() is None


def test_a_thread_ends_when_nobody_comes(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.001)
    for number in range(1, 31):
        threads.start("blocksmtp test", lambda: None)
        threads.wait_until_gone(number)
        # Each is joined when the next client comes: the last, and some that take their time.
        assert len(threads._ended) < 10
    assert threads._idle == []
    assert len(threads._all) == 0


def test_closing_waits_for_what_is_going_on(threads: Threads) -> None:
    begun, may_end = threading.Event(), threading.Event()
    done: list[bool] = []

    def job() -> None:
        begun.set()
        done.append(may_end.wait(TIMEOUT))

    threads.run(lambda: None)
    threads.start("blocksmtp test", job)
    assert begun.wait(TIMEOUT)
    timer = threading.Timer(0.05, may_end.set)
    timer.start()
    threads.close()
    assert done == [True]
    timer.join()


def test_closing_can_be_interrupted_and_goes_on(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        threads.run(lambda: None)

    def interrupted(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module._ConnectionThread, "go_home", interrupted)
        with pytest.raises(KeyboardInterrupt):
            threads.close()
    with monkeypatch.context() as patch:
        patch.setattr(module._ConnectionThread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            threads.close()
    threads.close()


def test_who_is_called_at_the_last_moment_comes(threads: Threads) -> None:
    """The wait for the next client has ended without one, and then there is one."""

    class Late:
        def __init__(self, thread: Any) -> None:
            self._thread = thread
            self._lock = thread._called

        def acquire(self, timeout: float = -1) -> bool:
            if timeout < 0:
                return bool(self._lock.acquire())
            self._thread._called = self._lock
            threads.start("blocksmtp late", lambda: late.append(threading.get_ident()))
            return False

        def release(self) -> None:
            self._lock.release()

    late: list[int] = []

    def job() -> None:
        thread: Any = threading.current_thread()
        thread._called = Late(thread)

    threads.start("blocksmtp test", job)
    threads.wait_for(lambda: threads.idle == 2)
    assert len(late) == 1
    assert len(threads._all) == 1


def test_a_thread_that_cannot_be_started_is_forgotten(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            threads.start("blocksmtp test", lambda: None)
    assert threads.run(lambda: 1) == 1


def test_in_another_process_nobody_waits(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback forked: the copy of its thread must come to an end."""
    number = os.getpid()
    with monkeypatch.context() as patch:
        ended = threading.Event()

        def job() -> None:
            patch.setattr(os, "getpid", lambda: number + 1)

        class Ended(Threads):
            def ended(self, thread: Any) -> None:
                super().ended(thread)
                ended.set()

        ours = Ended()
        ours.start("blocksmtp test", job)
        assert ended.wait(TIMEOUT)
        assert ours._idle == ours._ended == []
    ours.close()


def test_the_process_is_the_one_that_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was made before its process was forked off."""
    ours = Threads()
    number = os.getpid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: number + 1)
        assert ours.run(threading.get_ident) == ours.run(threading.get_ident)
        ours.close()


def test_clients_one_after_another_share_a_thread() -> None:
    seen: list[int] = []
    with serving(on_connect=lambda session: seen.append(threading.get_ident())) as server:
        for number in range(1, 4):
            with connect(server) as client:
                client.hello()
                client.expect(221, "QUIT")
            wait_until_idle(server)
            assert len(seen) == number
    assert len(set(seen)) <= 2
