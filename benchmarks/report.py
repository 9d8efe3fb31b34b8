"""What a run found, for people to read: tables in Markdown, and the chart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .chart import draw
from .comparison import peers, shown, times_better
from .contenders import BY_NAME, CONTENDERS
from .results import Results
from .scale import FULL, QUICK
from .targets import BEST_PEER, OURS, TARGETS, Target, Verdict, judge
from .workloads import Workload, all_workloads

JSON = "report.json"
MARKDOWN = "report.md"
CHART = "chart.svg"

_LOAD = """\
That the load did not hold a server back shows in its share of a core: where it is well below what
was to be had, the load waited for the server. Load and server have a core each, in "one core" one
between them; where they wait for each other in turn, as with one session, neither has a core full.
For bulk, `drain`, which does next to nothing with what it reads, tells what the load can send.
Where the load has a whole core, as with `smtp-sink` and `Bun, bare`, these could do still more.
"""


def render(results: Results, folder: Path) -> None:
    """Write the report and the chart into `folder`. Raises OSError."""
    (folder / MARKDOWN).write_text(report(results))
    (folder / CHART).write_text(draw(results, measured(results)))


def measured(results: Results) -> list[Workload]:
    """The workloads of the run."""
    return [
        workload
        for workload in all_workloads(QUICK if results.quick else FULL)
        if workload.name in results.figures or workload.name in results.skipped
    ]


def report(results: Results) -> str:
    """The whole report."""
    workloads = measured(results)
    sections = [
        "# Benchmarks\n",
        _about(results),
        f"![How many times better than each peer]({CHART})\n",
        "## Summary\n",
        summary(results),
        "## Targets\n",
        _targets(results, workloads),
        "## Each workload\n",
        _LOAD,
        *(_workload(results, workload) for workload in workloads),
        "## Who was measured\n",
        _contenders(results),
    ]
    return "\n".join(sections)


def summary(results: Results) -> str:
    """One row for each workload: our figure, and how many times better than each peer it is."""
    others = peers(results)
    rows = []
    for workload in measured(results):
        mine = results.measured(workload.name, OURS)
        figure = f"{shown(mine.median)} {workload.unit}" if mine else "—"
        better = [times_better(results, workload, peer.name) for peer in others]
        cells = ["—" if times is None else f"{shown(times)} ×" for times in better]
        rows.append([workload.title, figure, *cells, _marks(results, workload)])
    heading = ["", "blocksmtp", *(f"× {peer.label}" for peer in others), "targets"]
    return (
        _table(heading, rows, numbers=len(heading) - 2)
        + "\n× tells how many times more blocksmtp does than the other, or how many times less it "
        "needs. ✓: a target is met, ✗: it is not, –: not measured.\n"
    )


def _about(results: Results) -> str:
    lines = [
        f"Measured on {results.date}: medians of {results.rounds} rounds, in which all take turns; "
        f"{results.seconds / 60:.0f} minutes in all. `python -m benchmarks` does it again.\n"
    ]
    if results.quick:
        lines.append("**A quick run, to see that all works: its figures mean nothing.**\n")
    lines += [f"- {name}: {value}" for name, value in results.machine.items()]
    lines += [
        f"- left out: {BY_NAME[name].label} ({reason})" for name, reason in results.left_out.items()
    ]
    return "\n".join(lines) + "\n"


def _targets(results: Results, workloads: Sequence[Workload]) -> str:
    rows = [
        [workload.title, _wanted(target, workload), *_found(judge(target, results), workload)]
        for workload in workloads
        for target in TARGETS
        if target.workload == workload.name
    ]
    return _table(["", "target", "measured", ""], rows)


def _wanted(target: Target, workload: Workload) -> str:
    who = "" if target.ours == OURS else f"{BY_NAME[target.ours].label}: "
    if target.peer is None:
        return f"{who}{target.bound.value} {target.value:g} {workload.unit}"
    peer = "the best peer" if target.peer == BEST_PEER else BY_NAME[target.peer].label
    return f"{who}{target.bound.value} {target.value:g} × {peer}"


def _found(verdict: Verdict, workload: Workload) -> tuple[str, str]:
    if verdict.value is None:
        return verdict.reason, "not measured"
    if verdict.peer is None:
        text = f"{shown(verdict.value)} {workload.unit}"
    else:
        text = f"{shown(verdict.value)} × {BY_NAME[verdict.peer].label}"
    return text, "met" if verdict.met else "**not met**"


def _marks(results: Results, workload: Workload) -> str:
    return "".join(
        mark(judge(target, results)) for target in TARGETS if target.workload == workload.name
    )


def mark(verdict: Verdict) -> str:
    """A character for a verdict."""
    return {True: "✓", False: "✗", None: "–"}[verdict.met]


def _workload(results: Results, workload: Workload) -> str:
    text = f"### {workload.title}\n\n{workload.explanation}\n\n"
    if workload.name in results.skipped:
        return f"{text}Skipped: {results.skipped[workload.name]}\n"
    rows = []
    for contender in CONTENDERS:
        found = results.figures[workload.name].get(contender.name)
        if found is None:
            continue
        if not found.samples:
            rows.append([contender.label, f"failed: {found.failure}", "", "", "", ""])
            continue
        least, most = found.spread
        times = times_better(results, workload, contender.name)
        rows.append(
            [
                contender.label,
                shown(found.median),
                f"{shown(least)} – {shown(most)}",
                _share(found.load),
                _share(found.server),
                "" if contender.name == OURS or times is None else f"{shown(times)} ×",
            ]
        )
    heading = ["", workload.unit, "least – most", "load", "server", "blocksmtp is better by"]
    return text + _table(heading, rows, numbers=5)


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _contenders(results: Results) -> str:
    rows = [
        [contender.label, results.versions[contender.name], contender.kind.value, contender.note]
        for contender in CONTENDERS
        if contender.name in results.versions
    ]
    return _table(["", "version", "", "as it was run"], rows)


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """A table; so many columns after the first are numbers."""
    rules = ["---:" if 0 < index <= numbers else "---" for index in range(len(heading))]
    lines = [_row(heading), _row(rules), *map(_row, rows)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
