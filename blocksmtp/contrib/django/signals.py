"""Signals."""

from __future__ import annotations

from django.dispatch import Signal

message_received = Signal()
"""A message has come: `message` is an IncomingMessage, `sender` the SMTPServer's class.

A receiver that raises SMTPError refuses it. It runs in the transaction of the message."""
