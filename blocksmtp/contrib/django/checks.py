"""System checks of the setting BLOCKSMTP."""

from __future__ import annotations

import difflib
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections
from django.utils.module_loading import import_string

from ...server import SMTPServer
from ..configuration import KEYS, Configuration
from .server import configuration
from .signals import message_received


def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """What is wrong with the setting BLOCKSMTP."""
    try:
        configured = configuration()
    except TypeError as error:
        return [Error(f"BLOCKSMTP: {error}.", id="blocksmtp.E001")]
    except KeyError as error:
        (key,) = error.args
        close = difflib.get_close_matches(str(key).upper(), KEYS, n=1, cutoff=0.0)
        hint = f"Did you mean {close[0]!r}?"
        return [Error(f"BLOCKSMTP: unknown key {key!r}.", hint=hint, id="blocksmtp.E002")]
    found: list[CheckMessage] = [*_errors_of_receiver(configured), *_errors_of_options(configured)]
    if not configured.recipient_domains and not settings.DEBUG:
        found.append(
            Warning(
                "BLOCKSMTP: RECIPIENT_DOMAINS is empty, so that every recipient is refused.",
                hint='Name your domains: ["example.com"]. While DEBUG is set all are accepted.',
                id="blocksmtp.W001",
            )
        )
    if (
        not any(isinstance(each, Error) for each in found)
        and configured.receiver is None
        and "on_data" not in configured.server_options(str)
        and not message_received.has_listeners()
    ):
        found.append(
            Warning(
                "BLOCKSMTP: nobody receives the mail, so that every message is refused.",
                hint="Set RECEIVER, or connect a receiver to the signal message_received.",
                id="blocksmtp.W002",
            )
        )
    return found


def _errors_of_receiver(configured: Configuration) -> list[CheckMessage]:
    if isinstance(configured.receiver, str):
        try:
            receiver = import_string(configured.receiver)
        except ImportError as error:
            return [Error(f"BLOCKSMTP: RECEIVER: {error}.", id="blocksmtp.E003")]
        if not callable(receiver):
            text = f"BLOCKSMTP: RECEIVER: {configured.receiver!r} is no function."
            return [Error(text, id="blocksmtp.E003")]
    return []


def _errors_of_options(configured: Configuration) -> list[CheckMessage]:
    try:
        SMTPServer(**configured.server_options(import_string))
    except (ImportError, TypeError, ValueError) as error:
        return [Error(f"BLOCKSMTP: OPTIONS: {error}.", id="blocksmtp.E004")]
    if not isinstance(configured.atomic, bool):
        for alias in configured.atomic:
            if alias not in connections:
                text = f"BLOCKSMTP: ATOMIC: there is no database {alias!r}."
                return [Error(text, id="blocksmtp.E005")]
    return []
