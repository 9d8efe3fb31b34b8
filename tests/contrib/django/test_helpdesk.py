"""examples/django_helpdesk: its own tests, and its migrations."""

from __future__ import annotations

import os
import socket
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


@pytest.mark.thorough
@pytest.mark.parametrize("option", ["--smtp-port", "--web-port"])
def test_a_port_that_is_taken(option: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"--smtp-port": "0", "--web-port": "0", option: str(taken.getsockname()[1])}
        arguments = [f"{name}={port}" for name, port in ports.items()]
        done = subprocess.run(
            [sys.executable, str(EXAMPLE), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{option} {ports[option]}: ")
    assert len(done.stderr.splitlines()) == 1
