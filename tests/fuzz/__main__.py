"""The long run: `python -m tests.fuzz --seconds 600 --seed 1 [TARGET ...]`.

Every target gets its share of the time in a process of its own. With atheris the inputs are guided
by coverage, without it they are mutations by chance. The exit status is 1 when anything failed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.seeds import FOLDER
from tests.fuzz.worker import EXECUTIONS, MACHINE, atheris_is_there

ROOT = Path(__file__).parents[2]
TARGETS = (*sorted(path.name for path in FOLDER.iterdir() if path.is_dir()), MACHINE)

# For a worker that does not end by itself, beyond its share.
_GRACE_SECONDS = 90

_COVERAGE = re.compile(r"cov: (\d+) ft: \d+ corp: (\d+)/")
_ROW = "{:<10} {:<8} {:>8} {:>11} {:>9} {:>8} {:>9}"


class Result(NamedTuple):
    """What came of one target."""

    executions: str
    coverage: str
    corpus: str
    failures: list[str]


def main() -> int:
    """Run what the arguments ask for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--artifacts", type=Path, help="folder for what fails (a temporary one)")
    parser.add_argument("--plain", action="store_true", help="do without atheris")
    given = parser.parse_args()
    targets = given.targets or TARGETS
    unknown = set(targets) - set(TARGETS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(TARGETS)}")
    artifacts = given.artifacts or Path(tempfile.mkdtemp(prefix="fuzz-"))
    artifacts.mkdir(parents=True, exist_ok=True)
    plain = given.plain or not atheris_is_there()
    share = max(1, given.seconds // len(targets))
    print(f"seed {given.seed}, {share} seconds a target, failures to {artifacts}", flush=True)

    print(
        _ROW.format("target", "engine", "seconds", "executions", "coverage", "corpus", "failures")
    )
    failures: list[str] = []
    for target in targets:
        result = run_target(target, share, given.seed, artifacts.resolve(), plain=plain)
        engine = "machine" if target == MACHINE else "plain" if plain else "atheris"
        count = len(result.failures)
        print(_ROW.format(target, engine, share, *result[:3], count), flush=True)
        failures += result.failures
    for failure in failures:
        print(f"\n{failure}")
    return 1 if failures else 0


def run_target(target: str, seconds: int, seed: int, artifacts: Path, *, plain: bool) -> Result:
    """Run one target in a process of its own, until it ends or has to be ended."""
    before = set(artifacts.iterdir())
    command = [sys.executable, "-m", "tests.fuzz.worker", target, str(seconds), str(seed)]
    worker = subprocess.Popen(
        [*command, str(artifacts), *(["--plain"] if plain else [])],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        env={**os.environ, "PYTHONHASHSEED": str(seed % 2**32)},
    )
    failures = []
    try:
        output, _ = worker.communicate(timeout=seconds + _GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
        output, _ = worker.communicate()
        failures.append(f"{target}: did not end in time")
    except BaseException:
        worker.kill()
        worker.communicate()
        raise
    if worker.returncode:
        tail = "\n".join(output.splitlines()[-30:])
        failures.append(f"{target}: exit status {worker.returncode}\n{tail}")
    for path in sorted(set(artifacts.iterdir()) - before):
        # One failure may be two files: the input, and what was raised.
        if path.suffix == ".txt":
            failures.append(f"{path.with_suffix('')}\n{path.read_text()}")
        elif not path.with_suffix(".txt").exists():
            failures.append(str(path))
    executions = re.findall(rf"^{EXECUTIONS} *(\d+)", output, re.MULTILINE)
    reached = _COVERAGE.findall(output)
    coverage, corpus = reached[-1] if reached else ("-", "-")
    return Result(executions[-1] if executions else "?", coverage, corpus, failures)


if __name__ == "__main__":
    sys.exit(main())
