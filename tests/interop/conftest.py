"""What the tests against other people's programs share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

REQUIRE = "BLOCKSMTP_REQUIRE_INTEROP"
"""Set to 1 (as .ci/run does), this environment variable makes a missing program a failure."""

# Debian keeps servers where an ordinary user's PATH does not look.
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that none can be forgotten."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.interop)


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """A function from a program's name to its path: `program("swaks")`.

    Where the program is not installed it skips the test, or fails it if REQUIRE is set to 1.
    """
    return find_program


def find_program(name: str) -> str:
    """The path of a program on PATH or in a system folder; skips or fails where there is none."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS))
    found = shutil.which(name, path=path)
    if found is not None:
        return found
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{name} is not installed, and {REQUIRE} is set", pytrace=False)
    pytest.skip(f"{name} is not installed")
