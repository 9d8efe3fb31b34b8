"""The report and the chart: all that was found, and nothing that was not."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import report
from benchmarks.chart import draw
from benchmarks.contenders import CONTENDERS, Kind
from benchmarks.results import Measured, Results
from benchmarks.running import takes_part
from benchmarks.scale import FULL
from benchmarks.workloads import all_workloads

from .made_up import measured, results

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def everything() -> Results:
    """A run in which all took part; the later a contender stands in the list, the more it does."""
    return results(
        **{
            workload.name: {
                contender.name: measured(float(number), number + 1.0, number + 2.0)
                for number, contender in enumerate(CONTENDERS, 1)
                if takes_part(contender, workload) and contender.name != "bun-smtp"
            }
            for workload in all_workloads(FULL)
        }
    )


def test_the_report_has_all_workloads_targets_and_reasons(everything: Results) -> None:
    text = report.report(everything)
    for workload in all_workloads(FULL):
        assert f"### {workload.title}\n" in text
        assert workload.explanation in text
    assert "- left out: bun-smtp (it is not in the registry)" in text
    assert "- processor: abacus" in text
    assert "medians of 3 rounds" in text
    assert "its figures mean nothing" not in text
    # Ours is 2, the median of 1, 2 and 3; aiosmtpd, third in the list, has 4.
    assert "| 1 KB messages, 1 session | ≥ 2 × aiosmtpd | 0.50 × aiosmtpd | **not met** |" in text
    assert "| More memory for a message of 200 MB | ≤ 6 MB | 2.00 MB | met |" in text
    assert "| ≥ 3 × bun-smtp | bun-smtp is left out | not measured |" in text
    assert "| aiosmtpd | 4.00 | 3.00 – 5.00 | 50% | 75% | 0.50 × |" in text


def test_the_summary_compares_with_who_was_measured(everything: Results) -> None:
    heading, _, *rows = report.summary(everything).splitlines()
    assert heading == (
        "|  | blocksmtp | × aiosmtpd | × smtp-server on Node | × smtp-server on Bun | "
        "× Bun, bare | × smtp-sink | targets |"
    )
    assert rows[0].startswith("| 1 KB messages, 1 session | 2.00 messages/s | 0.50 × | ")
    assert rows[0].endswith(" | ✗ |")


def test_a_failure_is_told(everything: Results) -> None:
    everything.figures["latency"]["aiosmtpd"] = Measured(failure="it | fell")
    everything.skipped["messages-1"] = "smtp-source is not installed"
    text = report.report(everything)
    assert "| aiosmtpd | failed: it \\| fell |" in text
    assert "Skipped: smtp-source is not installed\n" in text


def test_a_quick_run_says_so(everything: Results) -> None:
    everything.quick = True
    assert "its figures mean nothing" in report.report(everything)


def test_the_files_are_written(everything: Results, tmp_path: Path) -> None:
    report.render(everything, tmp_path)
    assert (tmp_path / "report.md").read_text() == report.report(everything)
    assert (tmp_path / "chart.svg").read_text().startswith("<svg ")


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 - it is our own


def test_the_chart_shows_all_targets_met_or_not(everything: Results) -> None:
    root = parsed(draw(everything, report.measured(everything)))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    for workload in all_workloads(FULL):
        assert workload.title in texts
    marks = [(each.get("class"), each.text) for each in root.iter(f"{SVG}tspan")]
    assert len(marks) == 24
    assert set(marks) == {("met", "✓"), ("missed", "✗"), ("unknown", "–")}
    peers = [
        each.label
        for each in CONTENDERS
        if each.kind in (Kind.PRODUCT, Kind.ANCHOR) and each.name not in ("blocksmtp", "bun-smtp")
    ]
    hints = [element.text or "" for element in root.iter(f"{SVG}title")]
    assert set(peers) <= set(hints)
    assert "1 KB messages, 1 session: 0.50 × aiosmtpd" in hints


def test_what_is_off_the_scale_stands_at_its_end() -> None:
    ours = results(latency={"blocksmtp": measured(1e-9), "aiosmtpd": measured(1e9)})
    root = parsed(draw(ours, report.measured(ours)))
    places = [
        float(element.get("transform", "").removeprefix("translate(").split(" ")[0])
        for element in root.iter(f"{SVG}path")
    ]
    assert max(places) == 800.0
