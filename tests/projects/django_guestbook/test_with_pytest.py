"""What the guestbook sends, tested with pytest and the fixture of blocksmtp alone."""

import os
import smtplib

import django
import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guestbook.settings")
django.setup()

from django.core.mail import EmailMultiAlternatives  # noqa: E402
from django.test import override_settings  # noqa: E402


@pytest.fixture(autouse=True)
def mail_settings(smtp_server):
    host, port = smtp_server.host, smtp_server.port
    backend = "django.core.mail.backends.smtp.EmailBackend"
    mailer = {"BACKEND": backend, "OPTIONS": {"host": host, "port": port}}
    if django.VERSION >= (6, 1):
        settings = {"MAILERS": {"default": mailer}}
    else:
        settings = {"EMAIL_HOST": host, "EMAIL_PORT": port, "EMAIL_BACKEND": backend}
    with override_settings(**settings):
        yield


def test_an_invitation(smtp_server):
    message = EmailMultiAlternatives(
        "Welcome", "Write to us.", "book@guestbook.example", ["ann@example.org"],
        bcc=["owner@guestbook.example"],
    )  # fmt: skip
    message.attach_alternative('<a href="https://guestbook.example/">Here</a>', "text/html")
    message.attach("map.txt", "straight ahead", "text/plain")
    assert message.send() == 1
    (caught,) = smtp_server.messages
    assert [str(to) for to in caught.envelope.rcpt_to] == [
        "ann@example.org",
        "owner@guestbook.example",
    ]
    assert caught.links == ["https://guestbook.example/"]
    assert [each.filename for each in caught.attachments] == ["map.txt"]


def test_it_is_not_sent(smtp_server):
    smtp_server.fail("DATA", 451, times=1)
    message = EmailMultiAlternatives("Welcome", "Hi", "book@guestbook.example", ["ann@example.org"])
    with pytest.raises(smtplib.SMTPDataError):
        message.send()
    assert message.send() == 1
    assert len(smtp_server.messages) == 1
