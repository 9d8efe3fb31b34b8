"""A small Django project with its own tests, as a user would run them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2] / "projects" / "django_guestbook"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a copy, which nothing of this repository's own tests surrounds."""
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=shutil.copytree(PROJECT, folder / "project"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.thorough
def test_its_suite_with_manage_py(tmp_path: Path) -> None:
    done = run(tmp_path, "manage.py", "test", "--noinput")
    assert done.returncode == 0, done.stderr
    assert "Ran 16 tests" in done.stderr


def test_its_suite_with_pytest(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_with_pytest.py")
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
