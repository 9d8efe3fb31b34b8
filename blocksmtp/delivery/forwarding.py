"""Messages for another mail server, whose answer is the client's answer.

Every refusal is passed on, and nothing is accepted that the other server has not accepted: there is
no queue here, and so nothing that could be lost or sent twice.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, TypeVar

from ..errors import SMTPError
from ..text import printable
from .incoming import log_of, spooled
from .relaying import Away, Relay, check_message

if TYPE_CHECKING:
    from ..session import SMTPAddress, SMTPSession
    from ..wire.stream import DataStream
    from .incoming import Results

_Outcome = TypeVar("_Outcome")

TLS_MODES = ("opportunistic", "required", "implicit", "never")


class ForwardDelivery:
    """Hands each message to another mail server, a smarthost. An instance is an `on_data`.

    The message is received completely first. The 250 is given when the other server has given its
    own; what that refuses is refused with its code and text. Where it is away, or refuses us as
    such (a login, say), the reply is 451 and the log says why. `Received` goes in front of the
    message, and after 100 of them it is refused as being in a loop (RFC 5321, sections 4.4 and
    6.3).

    In LMTP each recipient has a reply. In SMTP there is one for all, so a message goes to all
    recipients or to none: one that is refused refuses it. To have recipients refused for
    themselves, assign `on_rcpt_to` and `on_close` as well: then the other server is asked at RCPT
    already.

    After the message was sent its reply is waited for, for `data_timeout` seconds. It should be
    less than the ten minutes that clients wait (RFC 5321, section 4.5.3.2.6), or they send it again
    while it is being accepted (RFC 1047). Where the connection breaks in this very moment nobody
    knows whether it was accepted: the client is told to send it again.
    """

    def __init__(
        self,
        host: str,
        port: int = 25,
        *,
        tls: str = "opportunistic",
        context: ssl.SSLContext | None = None,
        username: str | None = None,
        password: str | None = None,
        local_hostname: str | None = None,
        timeout: float = 60.0,
        data_timeout: float = 300.0,
    ) -> None:
        """`tls`: "opportunistic" (STARTTLS where it is offered, with any certificate), "required"
        (STARTTLS, verified), "implicit" (from the first octet, verified) or "never". `context`
        verifies, None with this machine's authorities. A password is sent over TLS only.
        `local_hostname` is said in EHLO, None the server's own name. Times are seconds: `timeout`
        for the connection and each reply but that to the message, which has `data_timeout`.

        Raises ValueError for options that do not go together.
        """
        if tls not in TLS_MODES:
            raise ValueError(f"tls must be one of {', '.join(TLS_MODES)}, not {tls!r}")
        if (username is None) != (password is None):
            raise ValueError("username and password go together")
        if username is not None and tls not in ("required", "implicit"):
            raise ValueError("a password needs tls='required' or tls='implicit'")
        self._address = (host, port)
        self._tls = tls
        self._context = context or _context(tls)
        self._login = None if username is None or password is None else (username, password)
        self._local_hostname = local_hostname
        self._timeout = timeout
        self._data_timeout = data_timeout

    def on_rcpt_to(self, address: SMTPAddress, session: SMTPSession) -> None:
        """Ask the other server for this recipient. For the callback of this name.

        Raises SMTPError: its refusal, or 451 where it is away.
        """
        answer = self._with_relay(session, lambda relay: relay.recipient(session.envelope, address))
        if answer is not None:
            raise answer

    def on_close(self, session: SMTPSession) -> None:
        """Take leave of the other server. For the callback of this name."""
        relay = session.state.pop(self, None)
        if relay is not None:
            relay.close()

    def __call__(self, stream: DataStream, session: SMTPSession) -> Results | str | None:
        """Receive the message and hand it on. Raises SMTPError where that is not accepted."""
        try:
            with spooled(stream, session) as spool:
                return None if spool is None else self._hand_on(spool, session)
        finally:
            self.on_close(session)

    def _hand_on(self, spool: IO[bytes], session: SMTPSession) -> Results | str:
        check_message(spool, session)

        def begin(relay: Relay) -> tuple[Relay, Results]:
            envelope = session.envelope
            answers: Results = [relay.recipient(envelope, each) for each in envelope.rcpt_to]
            if None in answers and (session.lmtp or not any(answers)):
                relay.begin_message()
            return relay, answers

        relay, answers = self._with_relay(session, begin)
        refused = [answer for answer in answers if isinstance(answer, SMTPError)]
        if not session.lmtp:
            if refused:
                # To try again is worth it as long as one refusal is not for good.
                raise min(refused, key=lambda each: each.response_code or 0)
            return self._sent(relay, spool, session)
        if len(refused) == len(answers):
            return answers
        outcome: SMTPError | str
        try:
            outcome = self._sent(relay, spool, session)
        except SMTPError as error:
            outcome = error
        return [answer or outcome for answer in answers]

    def _sent(self, relay: Relay, spool: IO[bytes], session: SMTPSession) -> str:
        try:
            return relay.send(spool, session, self._data_timeout)
        except Away as error:
            raise self._away(session, error) from error

    def _with_relay(self, session: SMTPSession, action: Callable[[Relay], _Outcome]) -> _Outcome:
        """Do something with the session's connection, which is made if there is none.

        Raises SMTPError where the other server is away.
        """
        try:
            relay = session.state.get(self)
            if relay is not None:
                try:
                    return action(relay)
                except Away:
                    # It may have been idle for too long. No message was handed over yet.
                    self.on_close(session)
            relay = session.state[self] = Relay(self._connected(session.server_name))
            return action(relay)
        except Away as error:
            self.on_close(session)
            raise self._away(session, error) from error

    def _connected(self, server_name: str) -> smtplib.SMTP:
        client: smtplib.SMTP | None = None
        try:
            client = self._client(self._local_hostname or server_name)
            client.ehlo_or_helo_if_needed()
            if self._tls == "required" or (
                self._tls == "opportunistic" and client.has_extn("starttls")
            ):
                client.starttls(context=self._context)
                client.ehlo_or_helo_if_needed()
            if self._login is not None:
                client.login(*self._login)
        except (OSError, smtplib.SMTPException) as error:
            if client is not None:
                client.close()
            raise Away(_described(error)) from error
        return client

    def _client(self, name: str) -> smtplib.SMTP:
        host, port = self._address
        timeout = self._timeout
        if self._tls == "implicit":
            return smtplib.SMTP_SSL(host, port, name, timeout=timeout, context=self._context)
        return smtplib.SMTP(host, port, name, timeout=timeout)

    def _away(self, session: SMTPSession, error: Away) -> SMTPError:
        host, port = self._address
        log_of(session).error("cannot forward to %s port %d: %s", host, port, error)
        return SMTPError("Error: cannot forward the message now", 451, "4.4.1")


def _context(tls: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if tls == "opportunistic":
        # Who could pretend to be the server could as well hide that it offers TLS.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _described(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {printable(error.smtp_error)}"
    return printable(str(error)) or type(error).__name__
