"""The long run itself: what it finds is written down, and told by the exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import ROOT, run_target
from tests.fuzz.worker import Finder


def fail(octets: bytes) -> None:
    """A target that does not like some inputs."""
    if octets.startswith(b"bad"):
        raise ValueError("worse \ud800")
    assert octets != b"false", octets


def test_one_failure_from_each_place_is_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find = Finder("proxy", fail, tmp_path)
    for octets in (b"good", b"bad", b"bad, too", b"false"):
        find(octets)
    files = sorted(path for path in tmp_path.iterdir() if not path.suffix)
    assert sorted(path.read_bytes() for path in files) == [b"bad", b"false"]
    for path in files:
        assert path.name.startswith("proxy-")
        assert "Error" in path.with_suffix(".txt").read_text()
    assert len(list(tmp_path.iterdir())) == 4
    assert capsys.readouterr().out.count("FAILED") == 2


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The long run, for a moment."""
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )


def test_an_unknown_target() -> None:
    ended = run("grammer")
    assert ended.returncode == 2
    assert "unknown: grammer" in ended.stderr


@pytest.mark.thorough
def test_a_run_without_coverage(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    ended = run("--plain", "--seconds", "2", "--artifacts", str(folder), "grammar", "machine")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    header, titles, *rows = ended.stdout.splitlines()
    assert header == f"seed 1, 1 seconds a target, failures to {folder}"
    assert titles.split()[:2] == ["target", "engine"]
    assert [row.split()[:2] for row in rows] == [["grammar", "plain"], ["machine", "machine"]]
    for row in rows:
        assert int(row.split()[3]) > 0
        assert row.split()[-1] == "0"
    assert list(folder.iterdir()) == []


def test_a_worker_that_ends_too_early_is_a_failure(tmp_path: Path) -> None:
    result = run_target("nothing", 1, 1, tmp_path, plain=True)
    assert len(result.failures) == 1
    assert "KeyError: 'nothing'" in result.failures[0]
    assert result.executions == "?"
