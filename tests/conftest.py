"""What holds for every test: nothing may outlast it."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# Projects with suites of their own, which tests run in a copy.
collect_ignore = ["projects"]

# The same examples in every run, and no limit on time: a busy machine must not fail a test.
settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

# How long leftover threads may take to end, all together, in seconds.
PATIENCE = 5.0

DESCRIPTORS = "/proc/self/fd"

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember which tests failed: their tracebacks keep their sockets alive."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Generator[None, None, None]:
    """Fail a test that leaves a thread running or a descriptor open."""
    threads = set(threading.enumerate())
    descriptors = open_descriptors()
    yield
    left = [describe(thread) for thread in leftover_threads(threads)]
    if open_descriptors() - descriptors:
        # What only waits for the collector is no leak by itself; a socket that does gets its
        # ResourceWarning here, which is an error.
        gc.collect()
        left += [
            f"descriptor {number}: {target}"
            for number, target in sorted(open_descriptors() - descriptors)
        ]
    if left and not request.node.stash.get(_failed, False):
        pytest.fail("left behind:\n" + "\n".join(left), pytrace=False)


def leftover_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    """The threads that are new since `before` and do not end within PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    left = []
    for thread in set(threading.enumerate()) - before:
        if isinstance(thread, threading._DummyThread):
            continue  # not started by Python: cannot be joined and never leaves the list
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            left.append(thread)
    return left


def describe(thread: threading.Thread) -> str:
    """The thread's name and the line it stands at."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return f"thread {thread.name!r}"
    code = frame.f_code
    return f"thread {thread.name!r} in {code.co_name}, {code.co_filename}:{frame.f_lineno}"


def open_descriptors() -> set[tuple[int, str]]:
    """Number and target of each open descriptor; nothing where the system does not tell."""
    if not os.path.isdir(DESCRIPTORS):
        return set()
    found = set()
    for number in os.listdir(DESCRIPTORS):
        try:
            found.add((int(number), os.readlink(f"{DESCRIPTORS}/{number}")))
        except FileNotFoundError:
            continue  # the one that listed them
    return found
