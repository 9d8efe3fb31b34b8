"""Mail in a test: what a program sends is caught, and looked at.

    python -m pytest examples/in_a_test.py

The fixture `smtp_server` comes with blocksmtp. Nothing waits for time to pass: the port is open
when the test begins, and a message is there when its sender has got the 250.
"""

from __future__ import annotations

import smtplib
import sys
from email.message import EmailMessage
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from blocksmtp.testing import MailCatcher


def send_welcome(address: str, host: str, port: int) -> bool:
    """The program to be tested: greets a new member; False when the address is refused."""
    message = EmailMessage()
    message["Subject"] = "Welcome!"
    message["To"] = address
    message.set_content("We are glad to have you: https://club.example.com/start.\n")
    with smtplib.SMTP(host, port) as client:
        try:
            client.send_message(message, "club@example.com", [address])
        except smtplib.SMTPRecipientsRefused:
            return False
    return True


def test_a_new_member_is_welcomed(smtp_server: MailCatcher) -> None:
    assert send_welcome("dave@example.org", smtp_server.host, smtp_server.port)
    (message,) = smtp_server.messages
    assert message.email["To"] == "dave@example.org"
    assert message.links == ["https://club.example.com/start"]


def test_a_wrong_address_is_noticed(smtp_server: MailCatcher) -> None:
    smtp_server.fail("RCPT", 550, "No such user", to="typo@example.org")
    assert not send_welcome("typo@example.org", smtp_server.host, smtp_server.port)
    assert smtp_server.messages == []


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
