"""A run: who takes part, in turn, and what becomes of one that fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import running
from benchmarks.certificates import Certificate
from benchmarks.contenders import BY_NAME, CONTENDERS, Contender, Program
from benchmarks.errors import MeasurementError, Unavailable
from benchmarks.load.usage import Sample
from benchmarks.machine import cores
from benchmarks.results import Results
from benchmarks.running import measure, rotated, takes_part
from benchmarks.scale import FULL
from benchmarks.workloads import Workload, all_workloads

from .made_up import results

NOWHERE = Certificate(Path("certificate"), Path("key"))


class Noting(Workload):
    """Notes who is measured, in which order, and how it went."""

    name = "noting"
    title = "Noting"
    unit = "turns"
    explanation = "nothing"

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen
        self.broken: str | None = None

    def prepare(self, server: Any) -> int:
        self._seen.append(f"prepare {server}")
        return 1

    def measure(self, server: Any, amount: int) -> Sample:
        self._seen.append(server)
        if server == self.broken:
            raise MeasurementError("it fell")
        return Sample(float(len(self._seen)))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    @contextmanager
    def started(contender: Contender, *arguments: Any) -> Iterator[str]:
        found.append(f"start {contender.name}")
        yield contender.name
        found.append(f"end {contender.name}")

    monkeypatch.setattr(running, "running", started)
    return found


def run(workload: Workload, rounds: int, *names: str) -> Results:
    ours = results()
    ours.rounds = rounds
    programs = {BY_NAME[name]: Program(("true",), "1") for name in names}
    measure(ours, [workload], programs, NOWHERE, lambda text: None)
    return ours


def test_each_round_begins_with_another(seen: list[str]) -> None:
    ours = run(Noting(seen), 2, "blocksmtp", "aiosmtpd")
    assert seen == [
        *("start blocksmtp", "prepare blocksmtp", "blocksmtp"),
        *("start aiosmtpd", "prepare aiosmtpd", "aiosmtpd"),
        *("aiosmtpd", "blocksmtp"),
        *("end aiosmtpd", "end blocksmtp"),
    ]
    assert [len(each.samples) for each in ours.figures["noting"].values()] == [2, 2]


def test_memory_wants_a_new_process_each_round(seen: list[str]) -> None:
    workload = Noting(seen)
    workload.fresh = True
    workload.most_rounds = 2
    ours = run(workload, 5, "blocksmtp")
    assert seen == ["start blocksmtp", "prepare blocksmtp", "blocksmtp", "end blocksmtp"] * 2
    assert len(ours.figures["noting"]["blocksmtp"].samples) == 2


def test_who_fails_is_out_and_the_others_go_on(seen: list[str]) -> None:
    workload = Noting(seen)
    workload.broken = "aiosmtpd"
    ours = run(workload, 3, "blocksmtp", "aiosmtpd")
    assert seen.count("aiosmtpd") == 1
    assert seen.count("blocksmtp") == 3
    assert ours.figures["noting"]["aiosmtpd"].failure == "it fell"
    assert ours.measured("noting", "aiosmtpd") is None


def test_what_a_workload_needs_may_be_missing(seen: list[str]) -> None:
    class Missing(Noting):
        def require(self) -> None:
            raise Unavailable("smtp-source is not installed")

    ours = run(Missing(seen), 3, "blocksmtp")
    assert seen == []
    assert ours.skipped == {"noting": "smtp-source is not installed"}


def test_one_core_is_one_core(seen: list[str]) -> None:
    class OnOne(Noting):
        one_core = True

        def measure(self, server: Any, amount: int) -> Sample:
            return Sample(float(len(os.sched_getaffinity(0))))

    before = os.sched_getaffinity(0)
    assert run(OnOne(seen), 1, "blocksmtp").figures["noting"]["blocksmtp"].median == 1.0
    assert os.sched_getaffinity(0) == before
    assert 1 <= len(cores()) <= 2


@pytest.mark.parametrize(
    ("number", "items"), [(0, ["a", "b", "c"]), (1, ["b", "c", "a"]), (5, ["c", "a", "b"])]
)
def test_rotated(number: int, items: list[str]) -> None:
    assert rotated(["a", "b", "c"], number) == items
    assert rotated([], number) == []


def test_who_takes_part() -> None:
    workloads = {workload.name: workload for workload in all_workloads(FULL)}
    part = {
        name: {contender.name for contender in CONTENDERS if takes_part(contender, workload)}
        for name, workload in workloads.items()
    }
    products = {"blocksmtp", "aiosmtpd", "smtp-server-node", "smtp-server-bun", "bun-smtp"}
    for names in part.values():
        assert products <= names
    assert part["messages-8"] == products | {"blocksmtp-2", "bun-bare", "smtp-sink"}
    assert part["bulk-tls"] == products | {"bun-bare", "drain"}
    assert part["starttls"] == products
    assert part["blocking-callback"] == products | {"aiosmtpd-blocked"}
