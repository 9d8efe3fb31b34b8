"""`python -m benchmarks`, for real, with tiny loads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.scale import QUICK
from benchmarks.workloads import all_workloads
from tests.interop.conftest import find_program

WITH_SMTP_SOURCE = ["messages-1", "messages-8", "messages-8-one-core", "messages-64"]
WITH_SMTP_SOURCE += ["new-connections"]
OTHERS = [each.name for each in all_workloads(QUICK) if each.name not in WITH_SMTP_SOURCE]


def figures(folder: Path, workload: str, *contenders: str) -> dict[str, list[float]]:
    """The figures of a quick run, which must succeed."""
    named = [each for name in contenders for each in ("--contender", name)]
    options = ["--quick", "--workload", workload, *named]
    assert main([*options, "--output", str(folder), "--cache", str(folder / "cache")]) == 0
    assert (folder / "report.md").read_text().startswith("# Benchmarks\n")
    assert (folder / "chart.svg").read_text().endswith("</svg>\n")
    found = json.loads((folder / "report.json").read_text())["figures"][workload]
    return {
        name: [sample[0] for sample in contender["samples"]] for name, contender in found.items()
    }


@pytest.mark.thorough
@pytest.mark.parametrize("workload", OTHERS)
def test_a_workload_with_our_own_load(workload: str, tmp_path: Path) -> None:
    found = figures(tmp_path, workload, "blocksmtp", "drain")
    assert len(found["blocksmtp"]) == 1
    assert found["blocksmtp"][0] > 0 or workload == "large-message"
    assert ("drain" in found) == workload.startswith("bulk-")


@pytest.mark.interop
@pytest.mark.parametrize("workload", WITH_SMTP_SOURCE)
def test_a_workload_with_smtp_source(workload: str, tmp_path: Path) -> None:
    for program in ("smtp-source", "smtp-sink"):
        find_program(program)
    found = figures(tmp_path, workload, "blocksmtp", "blocksmtp-2", "smtp-sink")
    assert all(len(values) == 1 and values[0] > 0 for values in found.values())
    assert ("blocksmtp-2" in found) == (workload == "messages-8")


def test_the_list(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--list", "--output", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert "  messages-8             1 KB messages, 8 sessions, two cores\n" in listed
    assert "  bun-smtp               bun-smtp: product\n" in listed


@pytest.mark.parametrize(
    "arguments", [["--rounds", "0"], ["--workload", "nothing"], ["--contender", "nobody"]]
)
def test_options_that_are_none(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.thorough
def test_a_report_can_be_made_anew(tmp_path: Path) -> None:
    figures(tmp_path, "recipients-50", "blocksmtp")
    again = tmp_path / "again"
    assert main(["--render", str(tmp_path / "report.json"), "--output", str(again)]) == 0
    assert (again / "report.md").read_text() == (tmp_path / "report.md").read_text()


# Where the tests run in the background of a shell, they and what they start ignore Ctrl-C.
INTERRUPTIBLE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("benchmarks", run_name="__main__", alter_sys=True)
"""


@pytest.mark.thorough
def test_an_interrupt_ends_all(tmp_path: Path) -> None:
    with subprocess.Popen(
        [
            *(sys.executable, "-c", INTERRUPTIBLE, "--contender", "blocksmtp", "--rounds", "1000"),
            *("--workload", "recipients-50", "--output", str(tmp_path)),
        ],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("  round 1/"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=30)
    assert output[1] == "interrupted: nothing was written\n"
    # Of its own session nobody is left.
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
