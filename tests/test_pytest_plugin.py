"""The pytest plugin, as the suites of other projects use it."""

from __future__ import annotations

import sys

import pytest

SEND = """
import smtplib
from email.message import EmailMessage

def send(server, subject="Hello"):
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@b.example", "c@d.example", subject
    message.set_content("Hi!")
    with smtplib.SMTP(server.host, server.port) as client:
        client.send_message(message)
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(sending=SEND)
    pytester.syspathinsert()
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """In a process of its own: plugins are found by their entry points, as anywhere."""
    return project.run(
        sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", *arguments
    )


def test_the_fixtures(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        from sending import send

        def test_a_message(smtp_server):
            send(smtp_server)
            assert [message.subject for message in smtp_server.messages] == ["Hello"]

        def test_another_server(smtp_server):
            assert smtp_server.messages == []

        def test_several(smtp_server_factory, smtp_server):
            lmtp, strict = smtp_server_factory(lmtp=True), smtp_server_factory(size=10)
            assert len({lmtp.port, strict.port, smtp_server.port}) == 3
        """
    )
    run(project, "-p", "no:randomly").assert_outcomes(passed=3)


def test_the_report_of_a_failed_test_has_the_dialogue(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        from sending import send

        def test_it(smtp_server):
            send(smtp_server)
            assert smtp_server.wait_for(subject="Bye", timeout=0)

        def test_silent(smtp_server):
            assert 0

        def test_good(smtp_server):
            send(smtp_server)

        def test_without():
            assert 0
        """
    )
    result = run(project, "-p", "no:randomly")
    result.assert_outcomes(failed=3, passed=1)
    result.stdout.fnmatch_lines(
        [
            "E *TimeoutError: waited 0 s for 1 message with the subject 'Bye', got 0; *:",
            "E *<CaughtMessage 'Hello' from <a@b.example> to c@d.example>",
            "*- SMTP dialogue with 127.0.0.1:* -*",
            "1 C: [Mm]* [Ff]*:<a@b.example>*",
            "*_ test_silent _*",
            "*- SMTP dialogue with 127.0.0.1:* -*",
            "(no client has connected)",
        ]
    )
    assert result.stdout.str().count("SMTP dialogue with") == 2


@pytest.mark.thorough
def test_under_xdist_and_randomly(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from sending import send

        @pytest.mark.parametrize("number", range(40))
        def test_it(smtp_server, number):
            send(smtp_server, f"{number}")
            (message,) = smtp_server.wait_for()
            assert message.subject == f"{number}"
        """
    )
    result = run(project, "-n", "2", "-p", "randomly", "-p", "xdist")
    result.assert_outcomes(passed=40)
    result.stdout.fnmatch_lines(["*randomly-seed*"])


def test_in_unittest(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import unittest
        import pytest
        from blocksmtp.testing import MailCatcher
        from sending import send

        class TestCatcher(unittest.TestCase):
            def setUp(self):
                self.mail = MailCatcher().start()
                self.addCleanup(self.mail.close)

            def test_it(self):
                send(self.mail)
                self.assertEqual(len(self.mail.messages), 1)

        class TestFixture(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _mail(self, smtp_server):
                self.mail = smtp_server

            def test_it(self):
                send(self.mail)
                self.assertEqual(len(self.mail.messages), 1)
        """
    )
    run(project).assert_outcomes(passed=2)


def test_misuse_is_told_where_it_is(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        def test_it(smtp_server_factory):
            smtp_server_factory(maxclients=3)
        """
    )
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *TypeError: unknown option 'maxclients'; did you mean *"])


@pytest.mark.thorough
def test_it_costs_nothing_where_it_is_not_used(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import sys

        def test_it():
            assert "blocksmtp.pytest_plugin" in sys.modules
            assert "blocksmtp.testing" not in sys.modules
            assert "OpenSSL" not in sys.modules
        """
    )
    run(project).assert_outcomes(passed=1)
