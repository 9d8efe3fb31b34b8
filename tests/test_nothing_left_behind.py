"""The guard of conftest.py itself: a leak must fail the test that made it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def guarded(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder of tests under the same guard, a little less patient."""
    guard = Path(__file__).with_name("conftest.py").read_text()
    impatient = guard.replace("PATIENCE = 5.0", "PATIENCE = 0.2")
    assert impatient != guard
    pytester.makeconftest(impatient)
    return pytester


def test_a_running_thread_is_named(guarded: pytest.Pytester) -> None:
    guarded.makepyfile("""
        import threading

        gate = threading.Event()

        def test_leaks():
            threading.Thread(target=gate.wait, name="straggler", daemon=True).start()

        def test_after_it_is_clean():
            pass

        def teardown_module():
            gate.set()
    """)
    result = guarded.runpytest_inprocess()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*left behind:*", "thread 'straggler' in wait, *"])


def test_a_thread_that_is_about_to_end_is_awaited(guarded: pytest.Pytester) -> None:
    guarded.makepyfile("""
        import threading

        def test_ends_a_little_later():
            threading.Timer(0.05, lambda: None).start()
    """)
    guarded.runpytest_inprocess().assert_outcomes(passed=1)


def test_an_open_descriptor_is_named(guarded: pytest.Pytester) -> None:
    guarded.makepyfile("""
        import os

        opened = []

        def test_leaks():
            opened.extend(os.pipe())

        def teardown_module():
            for descriptor in opened:
                os.close(descriptor)
    """)
    result = guarded.runpytest_inprocess()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*left behind:*", "descriptor *: pipe:*"])


def test_what_a_fixture_of_the_test_closes_is_no_leak(guarded: pytest.Pytester) -> None:
    guarded.makepyfile("""
        import socket

        import pytest

        @pytest.fixture
        def pair():
            ends = socket.socketpair()
            yield ends
            for end in ends:
                end.close()

        def test_uses_it(pair):
            pair[0].send(b"x")
    """)
    guarded.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_failed_test_is_not_accused_twice(guarded: pytest.Pytester) -> None:
    guarded.makepyfile("""
        import os

        opened = []

        def test_fails():
            opened.extend(os.pipe())
            assert not opened

        def teardown_module():
            for descriptor in opened:
                os.close(descriptor)
    """)
    guarded.runpytest_inprocess().assert_outcomes(failed=1)
