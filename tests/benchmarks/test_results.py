"""Figures: medians, spreads, and what is kept of a run."""

from __future__ import annotations

from pathlib import Path

from benchmarks.load.usage import Sample, Usage, rate
from benchmarks.results import Measured, load, save
from benchmarks.workloads.messages import slope

from .made_up import measured, results


def test_the_median_and_the_spread() -> None:
    figures = measured(3.0, 100.0, 1.0)
    assert figures.median == 3.0
    assert figures.spread == (1.0, 100.0)
    assert (figures.load, figures.server) == (0.5, 0.75)


def test_shares_that_say_nothing_are_left_out() -> None:
    figures = Measured([Sample(1.0), Sample(2.0, 0.25, 0.5)])
    assert (figures.load, figures.server) == (0.25, 0.5)
    assert Measured([Sample(1.0)]).load is None


def test_why_there_is_no_figure() -> None:
    ours = results(latency={"blocksmtp": measured(1.0), "aiosmtpd": Measured(failure="it fell")})
    ours.skipped["messages-1"] = "smtp-source is not installed"
    assert ours.measured("latency", "aiosmtpd") is None
    assert ours.why_not("latency", "aiosmtpd") == "it fell"
    assert ours.why_not("latency", "bun-smtp") == "left out"
    assert ours.why_not("latency", "smtp-sink") == "not in this run"
    assert ours.why_not("messages-1", "aiosmtpd") == "smtp-source is not installed"


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    ours = results(latency={"blocksmtp": measured(1.0, 2.0), "aiosmtpd": Measured(failure="x")})
    save(ours, tmp_path / "report.json")
    assert load(tmp_path / "report.json") == ours


def test_a_rate_tells_the_shares_of_a_core() -> None:
    assert rate(100, Usage(wall=2.0, load=1.0, server=0.5)) == Sample(50.0, 0.5, 0.25)


def test_what_a_run_takes_at_least_is_taken_off() -> None:
    begin, middle, end = Usage(10, 1, 2), Usage(11, 1.5, 2.25), Usage(14, 3, 3)
    assert slope(begin, middle, end) == Usage(wall=2, load=1.0, server=0.5)
