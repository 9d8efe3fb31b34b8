"""What surrounds a callback in Django: database connections, time zone, language."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import close_old_connections, connections
from django.utils import timezone, translation

if TYPE_CHECKING:
    from ...auth import Auth
    from ...session import SMTPSession


@contextlib.contextmanager
def callback_context(session: SMTPSession) -> Iterator[None]:
    """Do around a callback what Django does around a request.

    Connections to databases that are too old or broken are closed, before and after; one inside a
    transaction, as a TestCase has it, is left alone. Time zone and language are those of the
    settings, whatever an earlier callback in this thread has activated.
    """
    close_old_connections()
    try:
        with timezone.override(None), translation.override(settings.LANGUAGE_CODE):
            yield
    finally:
        close_old_connections()


def close_connections() -> None:
    """Close this thread's connections to databases, but for those inside a transaction."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def authenticate(auth: Auth, session: SMTPSession) -> Any:
    """An `on_auth` for Django's users: the active user with this name and password, or None.

    For mechanisms that hand the password over: PLAIN and LOGIN.
    """
    from django.contrib import auth as django_auth

    password = getattr(auth, "password", None)
    if not password:
        return None
    return django_auth.authenticate(None, username=auth.username, password=password)
