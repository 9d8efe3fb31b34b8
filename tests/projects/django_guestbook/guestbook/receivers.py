"""Mail becomes entries."""

from django.utils import timezone, translation

from blocksmtp import SMTPError
from guestbook.models import Blocked, Entry


def check_sender(address, session):
    """Refuse who is blocked."""
    if Blocked.objects.filter(address=address.address).exists():
        raise SMTPError("You are blocked", 550)


def receive(message):
    """Keep an entry."""
    entry = Entry.objects.create(
        sender=message.envelope.mail_from.address,
        text=message.text or "",
        zone=timezone.get_current_timezone_name(),
        language=translation.get_language(),
    )
    # What one message changes is not there for the next in the same thread.
    timezone.activate("Asia/Tokyo")
    translation.activate("ja")
    if message.subject == "refuse":
        raise SMTPError("Not today", 552)
    if message.subject == "fail":
        raise ZeroDivisionError
    return f"entry {entry.pk}"
