"""Tickets, the messages in them, and what was attached."""

from django.db import models


class Ticket(models.Model):
    """What somebody wants, and all that was written about it."""

    class Status(models.TextChoices):
        """Whose turn it is."""

        OPEN = "open", "open"
        ANSWERED = "answered", "answered"
        CLOSED = "closed", "closed"

    subject = models.CharField(max_length=200, blank=True)
    requester = models.EmailField(max_length=320)
    status = models.CharField(max_length=10, choices=Status, default=Status.OPEN)
    created = models.DateTimeField(auto_now_add=True)
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        """The newest comes first."""

        ordering = ("-updated",)

    def __str__(self):
        return f"#{self.pk} {self.subject or '(no subject)'}"


class Message(models.Model):
    """A message from the requester, or an answer."""

    ticket = models.ForeignKey(Ticket, models.CASCADE, related_name="messages")
    sender = models.CharField(max_length=320)
    is_answer = models.BooleanField(default=False)
    message_id = models.CharField(max_length=998, db_index=True)
    text = models.TextField(blank=True)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        """In the order in which they came."""

        ordering = ("pk",)

    def __str__(self):
        return f"{self.sender}, {self.created:%Y-%m-%d %H:%M}"


class Attachment(models.Model):
    """A file. It is in the database, so that a message is kept whole or not at all."""

    message = models.ForeignKey(Message, models.CASCADE, related_name="attachments")
    filename = models.CharField(max_length=200)
    content_type = models.CharField(max_length=200)
    content = models.BinaryField()

    def __str__(self):
        return self.filename
