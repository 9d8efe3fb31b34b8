"""What the tests of the command line change in this process, and put back."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """`main` sets the logging up, for the process that it is called in."""
    root, ours = logging.getLogger(), logging.getLogger("blocksmtp")
    handlers, level, our_level = list(root.handlers), root.level, ours.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(our_level)
