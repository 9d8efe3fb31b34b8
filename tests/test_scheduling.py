"""How connection threads share a core with others."""

from __future__ import annotations

import errno
import os
import threading
from typing import Any

import pytest

from blocksmtp.scheduling import let_others_finish

from .client import connect, serving

pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux has such policies")


def in_a_thread(function: Any) -> Any:
    """What `function` returns in a thread of its own: a policy is a thread's."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_a_connection_thread_pushes_nobody_aside() -> None:
    policies: list[int] = []
    with (
        serving(on_connect=lambda session: policies.append(os.sched_getscheduler(0))) as server,
        connect(server) as client,
    ):
        assert client.reply().code == 220
    assert policies == [os.SCHED_BATCH]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_policy_that_somebody_has_chosen_stays() -> None:
    def choose_and_ask() -> int:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        let_others_finish()
        return os.sched_getscheduler(0)

    assert in_a_thread(choose_and_ask) == os.SCHED_IDLE


def test_it_may_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise PermissionError(errno.EPERM, "not here")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    let_others_finish()


def test_other_systems_have_no_such_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "SCHED_BATCH")

    def ask() -> int:
        let_others_finish()
        return os.sched_getscheduler(0)

    assert in_a_thread(ask) == os.SCHED_OTHER
