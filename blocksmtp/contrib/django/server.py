"""The server that the setting BLOCKSMTP describes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from django.conf import settings
from django.db import connections, transaction
from django.utils.module_loading import import_string

from ...delivery.incoming import PIECE, spooled
from ...errors import SMTPError
from ...message import IncomingMessage
from ...protocol.transaction import answers_for
from ...server import SMTPServer
from ..configuration import NOBODY_RECEIVES, Configuration, check_recipient
from .callbacks import callback_context, close_connections
from .signals import message_received

if TYPE_CHECKING:
    from ...session import SMTPAddress, SMTPSession
    from ...wire.stream import DataStream

_DUMMY = "django.db.backends.dummy"


def configuration() -> Configuration:
    """The setting BLOCKSMTP. Raises TypeError and KeyError as Configuration.of."""
    return Configuration.of(getattr(settings, "BLOCKSMTP", {}))


def make_server(**options: Any) -> SMTPServer:
    """The server of this project, not yet listening.

    `options` are those of SMTPServer, callbacks too, and come before the settings' own. Raises
    TypeError, KeyError and ValueError for settings that are none, ImportError for a dotted path
    that leads nowhere.
    """
    configured = configuration()
    given = configured.server_options(import_string, options)
    application = _MailApplication(configured, given)
    return SMTPServer(
        **{"callback_context": callback_context, **given},
        on_rcpt_to=application.on_rcpt_to,
        on_data=application.on_data,
        on_close=application.on_close,
    )


class _MailApplication:
    """The callbacks of the server; those of the settings are called in their turn."""

    def __init__(self, configured: Configuration, options: dict[str, Any]) -> None:
        """Takes from `options` the callbacks that it stands for."""
        receiver = configured.receiver
        if isinstance(receiver, str):
            receiver = import_string(receiver)
        self._receiver: Callable[..., Any] | None = receiver
        self._domains = configured.recipient_domains
        self._databases = _databases(configured.atomic)
        self._on_rcpt_to = options.pop("on_rcpt_to", None)
        self._on_data = options.pop("on_data", None)
        self._on_close = options.pop("on_close", None)

    def on_rcpt_to(self, address: SMTPAddress, session: SMTPSession) -> Any:
        """Refuse recipients elsewhere; while DEBUG is set, all domains are ours unless named."""
        if self._domains or not settings.DEBUG:
            check_recipient(address, self._domains)
        return None if self._on_rcpt_to is None else self._on_rcpt_to(address, session)

    def on_data(self, stream: DataStream, session: SMTPSession) -> Any:
        """Hand the message on. What is returned is said once the transaction is committed."""
        on_data = self._on_data
        if on_data is not None:
            return self._in_transaction(lambda: on_data(stream, session), stream, session)
        if self._receiver is None and not message_received.has_listeners():
            raise SMTPError(*NOBODY_RECEIVES)
        # Whole before the transaction begins: a slow client shall not hold the database's locks.
        with spooled(stream, session) as spool:
            if spool is None:
                return None
            message = IncomingMessage(cast("BinaryIO", spool), session.envelope, session)
            return self._in_transaction(lambda: self._receive(message), stream, session)

    def _receive(self, message: IncomingMessage) -> Any:
        result = None if self._receiver is None else self._receiver(message)
        message_received.send(sender=SMTPServer, message=message)
        return result

    def _in_transaction(
        self, receive: Callable[[], Any], stream: DataStream, session: SMTPSession
    ) -> Any:
        """What `receive` returns. Committed is only what at least one recipient gets a 250 for."""
        recipients = tuple(session.envelope.rcpt_to)
        with contextlib.ExitStack() as transactions:
            for alias in self._databases:
                transactions.enter_context(transaction.atomic(using=alias))
            result = receive()
            # What makes the server refuse it all the same must show before the end.
            answers = answers_for(result, recipients, lmtp=session.lmtp)
            while not stream.closed and stream.read1(PIECE):
                pass
            if stream.size_exceeded or all(answer.code >= 400 for answer in answers):
                for alias in self._databases:
                    transaction.set_rollback(True, using=alias)
        return result

    def on_close(self, session: SMTPSession) -> None:
        """The thread may go on to serve another client, or nobody."""
        try:
            if self._on_close is not None:
                self._on_close(session)
        finally:
            close_connections()


def _databases(atomic: bool | tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(atomic, bool):
        return atomic
    has_default = connections["default"].settings_dict["ENGINE"] != _DUMMY
    return ("default",) if atomic and has_default else ()
