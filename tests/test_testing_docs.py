"""docs/testing.md and the README's section "In tests": their tests pass."""

from __future__ import annotations

import sys

import pytest

from tests.documents import Document

WELCOME = """
def send_welcome(address, host, port):
    import smtplib
    with smtplib.SMTP(host, port) as client:
        client.sendmail("club@example.com", [address], "Subject: Welcome!\\r\\n\\r\\nHi!\\r\\n")
"""

# What the tests of the document are about, which is not its matter.
PROGRAMS = """
import threading

def welcome_is_sent(address, host, port):
    for _ in range(2):
        try:
            send_welcome(address, host, port)
        except smtplib.SMTPRecipientsRefused:
            return False
        except smtplib.SMTPServerDisconnected:
            continue
        return True

def start_reminder(host, port):
    text = "Subject: Reminder\\r\\n\\r\\nHi!\\r\\n"
    def send():
        with smtplib.SMTP(host, port) as client:
            client.sendmail("club@example.com", ["dave@example.org"], text)
    threading.Thread(target=send).start()
"""


pytestmark = pytest.mark.thorough


def assert_tests_pass(pytester: pytest.Pytester, source: str, count: int) -> None:
    pytester.makepyfile(source)
    pytester.run(sys.executable, "-W", "error", "-m", "pytest", "-q").assert_outcomes(passed=count)


def test_the_document(pytester: pytest.Pytester) -> None:
    document = Document("docs/testing.md")
    blocks = [block for heading in document.sections for block in document.blocks(heading)]
    source = "\n".join([*blocks, PROGRAMS])
    assert_tests_pass(pytester, source, 7)


def test_the_readme(pytester: pytest.Pytester) -> None:
    (block,) = Document("README.md").blocks("In tests")
    assert_tests_pass(pytester, WELCOME + block, 1)
