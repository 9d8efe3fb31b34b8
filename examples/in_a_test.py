"""A server inside a test: what a program sends is caught, and looked at.

    python -m pytest examples/in_a_test.py

The fixture is the part to copy. Nothing waits for time to pass: the port is open when `listen` has
returned, and a message is in the mailbox before its sender gets the 250.
"""

from __future__ import annotations

import email
import email.message
import email.policy
import smtplib
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from blocksmtp import DataStream, SMTPAddress, SMTPError, SMTPServer, SMTPSession


def send_welcome(address: str, host: str, port: int) -> bool:
    """The program to be tested: greets a new member; False when the address is refused."""
    message = email.message.EmailMessage()
    message["Subject"] = "Welcome!"
    message["To"] = address
    message.set_content("We are glad to have you.\n")
    with smtplib.SMTP(host, port) as client:
        try:
            client.send_message(message, "club@example.com", [address])
        except smtplib.SMTPRecipientsRefused:
            return False
    return True


@dataclass
class Mailbox:
    """Catches messages. The server calls it in the threads of its clients, hence the lock."""

    host: str = "127.0.0.1"
    port: int = 0
    refused: set[str] = field(default_factory=set)
    messages: list[email.message.EmailMessage] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on_rcpt_to(self, address: SMTPAddress, session: SMTPSession) -> None:
        if address.address in self.refused:
            raise SMTPError("No such user", 550)

    def on_data(self, stream: DataStream, session: SMTPSession) -> None:
        message = email.message_from_bytes(stream.read(), policy=email.policy.SMTP)
        with self.lock:
            self.messages.append(message)


def make_server(mailbox: Mailbox) -> SMTPServer:
    return SMTPServer(
        auth_optional=True,
        # No TLS to be tested, no certificate to be made.
        disabled_commands=["STARTTLS"],
        on_rcpt_to=mailbox.on_rcpt_to,
        on_data=mailbox.on_data,
    )


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    with make_server(box) as server:
        server.listen(0, box.host)
        box.port = server.port or 0
        yield box


def test_a_new_member_is_welcomed(mailbox: Mailbox) -> None:
    assert send_welcome("dave@example.org", mailbox.host, mailbox.port)
    (message,) = mailbox.messages
    assert message["To"] == "dave@example.org"
    assert "glad to have you" in message.get_content()


def test_a_wrong_address_is_noticed(mailbox: Mailbox) -> None:
    mailbox.refused.add("typo@example.org")
    assert not send_welcome("typo@example.org", mailbox.host, mailbox.port)
    assert mailbox.messages == []


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
