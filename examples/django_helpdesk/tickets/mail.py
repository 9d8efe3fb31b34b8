"""Mail becomes tickets, and answers become mail."""

import re
from email.utils import getaddresses, make_msgid

from django.conf import settings
from django.core.mail import EmailMessage

from blocksmtp import SMTPError
from tickets.content import field, line, read
from tickets.models import Attachment, Message, Ticket

# Others are no use in a header of ours, and might be too long for an index.
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,900}>")


class NotSent(Exception):
    """An answer could not be sent."""


def receive(message):
    """Put a message into its ticket, or into a new one.

    It is the ticket of the messages that it refers to (RFC 5322, section 3.6.4), if it comes from
    the same person: whoever else knows a Message-ID must not write into it. What comes a second
    time, because the sender has not learnt that it was accepted, is not kept twice.
    """
    email, text, attachments = read(message)
    sender = _sender_of(email, message.envelope.mail_from.address)
    if not sender:
        raise SMTPError("This address takes no notifications", 550, "5.7.1")
    (message_id, *_) = _ids(email, "Message-ID") or [make_msgid(domain="help.example.com")]
    theirs = Message.objects.filter(ticket__requester__iexact=sender)
    known = theirs.filter(message_id=message_id).first()
    if known is not None:
        return f"ticket {known.ticket_id} has it already"
    earlier = [*_ids(email, "In-Reply-To"), *_ids(email, "References")]
    parent = theirs.filter(message_id__in=earlier[:100]).last()
    if parent is None:
        ticket = Ticket.objects.create(subject=field(email, "Subject")[:200], requester=sender)
    else:
        ticket = parent.ticket
        ticket.status = Ticket.Status.OPEN
        ticket.save()
    entry = ticket.messages.create(sender=sender, message_id=message_id, text=text)
    for number, part in enumerate(attachments, 1):
        Attachment.objects.create(
            message=entry,
            filename=line(part.filename or "")[-200:] or f"part-{number}",
            content_type=line(part.content_type)[:200],
            content=part.content,
        )
    return f"ticket {ticket.pk}"


def answer(ticket, text):
    """Send an answer, and keep it. Raises NotSent."""
    ids = list(ticket.messages.values_list("message_id", flat=True))
    message_id = make_msgid(domain="help.example.com")
    mail = EmailMessage(
        f"Re: {ticket.subject}",
        text,
        settings.HELPDESK_ADDRESS,
        [ticket.requester],
        headers={
            "Message-ID": message_id,
            "In-Reply-To": ids[-1],
            # A header has its limits: the first and the last ones are what others look at.
            "References": " ".join([*ids[:1], *ids[1:][-20:]]),
        },
    )
    try:
        mail.send()
    except Exception as error:
        # Beside OSError much else: the address may be whatever a stranger has made up.
        raise NotSent(error) from error
    sender = settings.HELPDESK_ADDRESS
    ticket.messages.create(sender=sender, is_answer=True, message_id=message_id, text=text)
    ticket.status = Ticket.Status.ANSWERED
    ticket.save()


def _sender_of(email, envelope_sender):
    """Who is to be answered; "" for a notification, which nobody must answer (RFC 3834)."""
    automatic = field(email, "Auto-Submitted").lower() not in ("", "no")
    if not envelope_sender or automatic:
        return ""
    fields = [field(email, name) for name in ("Reply-To", "From")]
    found = [
        address
        for _, address in getaddresses(fields)
        if len(address) <= 320 and re.fullmatch(r"[^@\s]+@\S+", address)
    ]
    return line((found or [envelope_sender])[0])[:320]


def _ids(email, name):
    return _MESSAGE_ID.findall(field(email, name))
