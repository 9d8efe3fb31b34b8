"""The pytest plugin: the fixtures `smtp_server` and `smtp_server_factory`.

pytest loads it in every run of whoever has blocksmtp installed, so what the fixtures need is only
imported when a test asks for one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .testing import MailCatcher

_CATCHERS = pytest.StashKey["list[MailCatcher]"]()


@pytest.fixture
def smtp_server_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., MailCatcher]]:
    """Starts mail servers that catch what they are sent: `smtp_server_factory(**options)`.

    `options` are those of `blocksmtp.testing.MailCatcher`. The servers end with the test.
    """
    from .testing import MailCatcher

    with contextlib.ExitStack() as running:
        catchers: list[MailCatcher] = []
        request.node.stash[_CATCHERS] = catchers

        def start(**options: Any) -> MailCatcher:
            catcher = running.enter_context(MailCatcher(**options))
            catchers.append(catcher)
            return catcher

        yield start


@pytest.fixture
def smtp_server(smtp_server_factory: Callable[..., MailCatcher]) -> MailCatcher:
    """A running mail server on 127.0.0.1 that catches what it is sent: see MailCatcher."""
    return smtp_server_factory()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show in the report of a failed test what its mail servers heard and said."""
    report = yield
    if report.failed:
        for catcher in item.stash.get(_CATCHERS, []):
            title = f"SMTP dialogue with {catcher.host}:{catcher.port}"
            report.sections.append((title, catcher.transcript or "(no client has connected)"))
    return report
