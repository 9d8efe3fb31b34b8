"""Measures: every round of a workload has all contenders, and each round begins with another."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from .certificates import Certificate
from .contenders import Contender, Program
from .errors import MeasurementError, Unavailable
from .load.usage import Sample
from .machine import cores, pinned
from .processes import Server, running
from .results import Measured, Results
from .workloads import Workload

Say = Callable[[str], None]
_T = TypeVar("_T")


def takes_part(contender: Contender, workload: Workload) -> bool:
    """Whether the workload is for this contender."""
    return workload.needs in contender.features and (
        not contender.only or workload.name in contender.only
    )


def rotated(items: Sequence[_T], number: int) -> list[_T]:
    """The items in a row that begins so many further on."""
    start = number % len(items) if items else 0
    return [*items[start:], *items[:start]]


def measure(
    results: Results,
    workloads: Sequence[Workload],
    programs: Mapping[Contender, Program],
    certificate: Certificate,
    say: Say,
) -> None:
    """Measure all workloads, and put the figures into `results`."""
    begin = time.monotonic()
    for workload in workloads:
        say(f"\n{workload.title}")
        try:
            workload.require()
        except Unavailable as error:
            results.skipped[workload.name] = str(error)
            say(f"  skipped: {error}")
            continue
        participants = [one for one in programs if takes_part(one, workload)]
        figures = {one.name: Measured() for one in participants}
        results.figures[workload.name] = figures
        with pinned(cores()[:1] if workload.one_core else cores()):
            run = _Run(workload, programs, certificate, figures, say)
            run.rounds(participants, min(results.rounds, workload.most_rounds))
    results.seconds = time.monotonic() - begin


class _Run:
    """One workload with all that take part."""

    def __init__(
        self,
        workload: Workload,
        programs: Mapping[Contender, Program],
        certificate: Certificate,
        figures: dict[str, Measured],
        say: Say,
    ) -> None:
        self._workload = workload
        self._programs = programs
        self._certificate = certificate
        self._figures = figures
        self._say = say
        self._servers: dict[Contender, tuple[Server, int]] = {}

    def rounds(self, participants: Sequence[Contender], number: int) -> None:
        """All rounds. Who fails once is out of the workload, and the reason is noted."""
        with contextlib.ExitStack() as stack:
            for index in range(number):
                for contender in rotated(participants, index):
                    if self._figures[contender.name].failure is None:
                        self._one(contender, f"round {index + 1}/{number}", stack)

    def _one(self, contender: Contender, which: str, stack: contextlib.ExitStack) -> None:
        figures = self._figures[contender.name]
        try:
            if self._workload.fresh:
                with contextlib.ExitStack() as own:
                    sample = self._workload.measure(*self._start(contender, own))
            else:
                if contender not in self._servers:
                    self._servers[contender] = self._start(contender, stack)
                sample = self._workload.measure(*self._servers[contender])
        except (OSError, MeasurementError) as error:
            figures.samples.clear()
            figures.failure = str(error) or type(error).__name__
            self._say(f"  {which}  {contender.label:22}  failed: {figures.failure}")
            return
        figures.samples.append(sample)
        self._say(f"  {which}  {contender.label:22}  {_shown(sample, self._workload.unit)}")

    def _start(self, contender: Contender, stack: contextlib.ExitStack) -> tuple[Server, int]:
        server = stack.enter_context(
            running(
                contender, self._programs[contender], self._workload.settings, self._certificate
            )
        )
        return server, self._workload.prepare(server)


def _shown(sample: Sample, unit: str) -> str:
    text = f"{sample.value:12,.2f} {unit}"
    if sample.load is not None and sample.server is not None:
        text += f"  (load {sample.load:.0%}, server {sample.server:.0%} of a core)"
    return text
