"""Measures blocksmtp and others in one run: `python -m benchmarks`, `--help` tells how."""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import certificates, machine, report, results
from .contenders import CONTENDERS, Contender, Program
from .errors import Unavailable
from .running import measure
from .scale import FULL, QUICK
from .workloads import Workload, all_workloads


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; returns the exit status: 1 where something failed."""
    chosen = _arguments(arguments)
    chosen.output.mkdir(parents=True, exist_ok=True)
    if sys.platform != "linux":
        print("This needs Linux: processor time and memory are read from /proc.", file=sys.stderr)
        return 2
    workloads = all_workloads(QUICK if chosen.quick else FULL)
    if chosen.list:
        _list(workloads)
        return 0
    if chosen.render is not None:
        report.render(results.load(chosen.render), chosen.output)
        return 0
    found = results.Results(
        machine=machine.describe(),
        date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        rounds=1 if chosen.quick else chosen.rounds,
        quick=chosen.quick,
    )
    contenders = [one for one in CONTENDERS if one.name in (chosen.contender or [one.name])]
    programs = _install(contenders, chosen.cache, found)
    with tempfile.TemporaryDirectory() as folder:
        measure(
            found,
            [one for one in workloads if one.name in (chosen.workload or [one.name])],
            programs,
            certificates.make(Path(folder)),
            _say,
        )
    results.save(found, chosen.output / report.JSON)
    report.render(found, chosen.output)
    _say(f"\n{found.seconds / 60:.1f} minutes; written: {chosen.output / report.MARKDOWN}")
    failed = [one.failure for figures in found.figures.values() for one in figures.values()]
    return 1 if any(failed) else 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure blocksmtp and other servers, interleaved, on this machine. Who cannot "
        "be installed is left out, and the report says why.",
    )
    parser.add_argument(
        "--rounds", type=_positive, default=5, metavar="N", help="rounds (default: 5)"
    )
    parser.add_argument(
        "--workload",
        action="append",
        metavar="NAME",
        choices=[one.name for one in all_workloads(FULL)],
        help="only this one; may be given again",
    )
    parser.add_argument(
        "--contender",
        action="append",
        metavar="NAME",
        choices=[one.name for one in CONTENDERS],
        help="only this one; may be given again",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round of tiny loads, to see that all runs: its figures mean nothing",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(".benchmarks/report"),
        metavar="FOLDER",
        help="where the report goes (default: %(default)s)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(".benchmarks"),
        metavar="FOLDER",
        help="where contenders are installed, and kept for the next time (default: %(default)s)",
    )
    parser.add_argument(
        "--render",
        type=Path,
        metavar="REPORT.JSON",
        help="measure nothing, but make report and chart anew from an earlier run",
    )
    parser.add_argument("--list", action="store_true", help="list workloads and contenders")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _list(workloads: Sequence[Workload]) -> None:
    print("workloads:")
    for workload in workloads:
        print(f"  {workload.name:22} {workload.title}")
    print("contenders:")
    for contender in CONTENDERS:
        print(f"  {contender.name:22} {contender.label}: {contender.kind.value}")


def _install(
    contenders: Sequence[Contender], cache: Path, found: results.Results
) -> dict[Contender, Program]:
    programs = {}
    for contender in contenders:
        try:
            program = contender.install(cache.resolve())
        except Unavailable as error:
            found.left_out[contender.name] = str(error)
            _say(f"{contender.label:22}  left out: {error}")
        else:
            programs[contender] = program
            found.versions[contender.name] = program.version
            _say(f"{contender.label:22}  {program.version}")
    return programs


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing was written")
