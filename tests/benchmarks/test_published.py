"""The figures that the documents show are those of one real run, as it was saved."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.results import Results, load
from benchmarks.scale import FULL
from benchmarks.targets import TARGETS, judge
from benchmarks.workloads import all_workloads

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "benchmarks"


@pytest.fixture(scope="module")
def published() -> Results:
    return load(FOLDER / report.JSON)


def test_it_was_a_whole_run(published: Results) -> None:
    assert not published.quick
    assert published.rounds >= 5
    assert set(published.figures) == {workload.name for workload in all_workloads(FULL)}
    assert published.skipped == {}


def test_the_report_and_the_chart_were_made_from_it(published: Results, tmp_path: Path) -> None:
    report.render(published, tmp_path)
    for name in (report.MARKDOWN, report.CHART):
        assert (FOLDER / name).read_text() == (tmp_path / name).read_text()


def test_the_readme_shows_its_summary(published: Results) -> None:
    readme = (ROOT / "README.md").read_text()
    assert report.summary(published) in readme
    assert "](docs/benchmarks/chart.svg)" in readme


def test_what_is_not_met_is_explained(published: Results) -> None:
    """Each workload of a target that is not met has its paragraph."""
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    explained = re.findall(r"^\*\*(.+?)\.\*\*", text, re.MULTILINE)
    missed = {each.workload for each in TARGETS if judge(each, published).met is False}
    titles = {workload.name: workload.title for workload in all_workloads(FULL)}
    assert {titles[name] for name in missed} <= set(explained)
