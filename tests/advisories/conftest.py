"""A certificate for the servers of these tests."""

from __future__ import annotations

import pytest

from tests.certificates import Authority, Leaf


@pytest.fixture(scope="package")
def leaf() -> Leaf:
    return Authority().issue("mx.example")
