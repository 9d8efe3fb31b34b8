"""examples/django_helpdesk: its own tests, and its migrations."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "django_helpdesk"


@pytest.mark.parametrize(
    "arguments", [["test"], ["makemigrations", "--check", "--dry-run"], ["check"]]
)
def test_it(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "manage.py", *arguments],
        cwd=EXAMPLE,
        env={**os.environ, "HELPDESK_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if arguments == ["test"]:
        assert "Ran 21 tests" in done.stderr
