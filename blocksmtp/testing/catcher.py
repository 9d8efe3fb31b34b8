"""MailCatcher: a server that keeps what it is sent, for a test to look at."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
import os
import re
import tempfile
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..host import Host
from ..message import IncomingMessage
from ..options import Options, names_of, to_fields
from ..server import SMTPServer
from ..session import MessageInfo, SMTPEnvelope, SMTPSession
from ..text import has_control_characters
from ..tls_state import TLSState
from .faults import Break, Delay, Faults, FaultyMachine, Refusal, refusal_of_message
from .transcript import Transcript

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from ..auth import Auth
    from ..in_memory.client import SMTPTestClient
    from ..protocol.application import Application
    from ..protocol.machine import Machine
    from ..wire.stream import DataStream
    from ..wire.tls_context import SecureContexts
    from .certificates import RunCertificates

_Catcher = TypeVar("_Catcher", bound="MailCatcher")

# For a client that does not read its reply.
_LONGEST_REPLY_SECONDS = 5.0

Subject = str | re.Pattern[str] | None


class CaughtMessage(IncomingMessage):
    """A message that was sent in a test."""


class MailCatcher:
    """A mail server on this machine that keeps what it is sent, and fails where a test says so.

    A context manager; `start` and `close` do the same. `options` are those of SMTPServer, callbacks
    too, but for `on_data`; they differ in their defaults: authentication is optional and allowed in
    clear, nothing is looked up, and `close` waits no longer than 2 seconds for what is going on.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, **options: Any) -> None:
        """Raises TypeError and ValueError for options that are none."""
        given = to_fields(names_of(Options), options)
        if "on_data" in given:
            raise TypeError(
                "on_data is the catcher's own: look at `messages`, or make an SMTPServer"
            )
        self._bind_to = (host, port)
        self._faults = Faults()
        self._transcript = Transcript(given.pop("logger", logging.getLogger("blocksmtp")))
        self._own_certificate = given.get("cert") is not None
        self._certificates = _Certificates()
        self._changed = threading.Condition()
        self._messages: list[CaughtMessage] = []
        self._pending: dict[str, CaughtMessage] = {}
        """By session: received, but not yet acknowledged."""
        self.users: dict[str, str] = {}
        """Who may log in: name to password. With any, authentication is required; without, it is
        optional, and every name and password is right."""
        self._server = _CatchingServer(
            self,
            **{
                "name": "localhost",
                "auth_methods": ("PLAIN", "LOGIN", "CRAM-MD5"),
                "auth_optional": True,
                "allow_insecure_auth": True,
                "disable_reverse_lookup": True,
                "close_timeout": 2.0,
                "on_auth": self._on_auth,
                **given,
            },
            logger=self._transcript.logger,
            on_data=self._on_data,
        )
        self._server.on("message", self._answered)

    # --- running ---------------------------------------------------------------------------

    def start(self: _Catcher) -> _Catcher:
        """Listen; returns the catcher. Raises OSError when the port is taken, RuntimeError where it
        has been started before."""
        if self._server.addresses:
            raise RuntimeError("the catcher has been started already")
        host, port = self._bind_to
        self._server.listen(port, host)
        return self

    def close(self) -> None:
        """Stop. Whatever was caught stays there to be looked at. Idempotent."""
        self._faults.end()
        self._server.close()
        self._certificates.remove()

    def __enter__(self: _Catcher) -> _Catcher:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        address = self._server.address
        where = "{}:{}".format(*address) if isinstance(address, tuple) else "not started"
        return f"<{type(self).__name__} {where}, {len(self._messages)} messages>"

    @property
    def host(self) -> str:
        """The address that it listens on. Raises RuntimeError before the start."""
        return self._address[0]

    @property
    def port(self) -> int:
        """The port that it listens on. Raises RuntimeError before the start."""
        return self._address[1]

    @property
    def _address(self) -> tuple[str, int]:
        address = self._server.address
        if not isinstance(address, tuple):
            raise RuntimeError("not started: use the catcher in a with statement, or call start()")
        return address

    @property
    def ca_file(self) -> str:
        """A file with the certificate that clients trust when they trust this server, under the
        names localhost, 127.0.0.1 and ::1. It is gone after `close`.

        Raises RuntimeError where the server shows a certificate that was given to it.
        """
        if self._own_certificate:
            raise RuntimeError("the server shows the certificate that it was given, not its own")
        return self._certificates.file

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """A context for clients that trusts this server; see `ca_file`."""
        import ssl  # here, since few tests speak TLS

        return ssl.create_default_context(cafile=self.ca_file)

    def test_client(self, **connection: Any) -> SMTPTestClient:
        """See SMTPServer.test_client."""
        return self._server.test_client(**connection)

    # --- what was sent ---------------------------------------------------------------------

    @property
    def messages(self) -> list[CaughtMessage]:
        """The messages so far, in the order in which they were acknowledged.

        A message is here once its sender has been sent the reply that accepts it; for LMTP its
        envelope has the accepted recipients only.
        """
        with self._changed:
            # Their senders may have read the reply already, and believe them to be here.
            underway = set(self._pending.values())
            self._changed.wait_for(
                lambda: underway.isdisjoint(self._pending.values()), _LONGEST_REPLY_SECONDS
            )
            return list(self._messages)

    def wait_for(
        self,
        count: int = 1,
        *,
        to: str | None = None,
        subject: Subject = None,
        timeout: float = 5.0,
    ) -> list[CaughtMessage]:
        """Wait until so many messages are there, earlier ones included, and return them.

        With `to` those with this recipient in the envelope, capitals or not; with `subject` those
        that have it, or in which a compiled pattern is found. All that match are returned, also if
        they are more. Raises TimeoutError, which tells what did arrive, after `timeout` seconds.
        """
        __tracebackhide__ = True  # pytest shows the test's own line, not what is in here.
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"count must be int, not {type(count).__name__}")
        if count < 1:
            raise ValueError("count must be at least 1: that nothing was sent, `messages` tells")
        if to is not None and not isinstance(to, str):
            raise TypeError(f"to must be str, not {type(to).__name__}")
        if subject is not None and not isinstance(subject, (str, re.Pattern)):
            raise TypeError(f"subject must be str or a pattern, not {type(subject).__name__}")
        self._address  # noqa: B018 - whoever waits for what was never started waits in vain

        def matching() -> list[CaughtMessage]:
            return [message for message in self._messages if _matches(message, to, subject)]

        with self._changed:
            if not self._changed.wait_for(lambda: len(matching()) >= count, timeout):
                raise TimeoutError(self._what_arrived(count, to, subject, timeout))
            return matching()

    def _what_arrived(self, count: int, to: str | None, subject: Subject, timeout: float) -> str:
        wanted = f"{count} message{'s' if count > 1 else ''}"
        if to is not None:
            wanted += f" to {to}"
        if subject is not None:
            text = subject if isinstance(subject, str) else subject.pattern
            wanted += f" with the subject {text!r}"
        found = sum(_matches(message, to, subject) for message in self._messages)
        lines = [f"waited {timeout:g} s for {wanted}, got {found}; in all arrived:"]
        lines += [f"  {message!r}" for message in self._messages[-20:]] or ["  nothing"]
        if not self._messages and not str(self._transcript):
            lines.append(f"and no client has connected to {self.host}:{self.port}")
        return "\n".join(lines)

    @property
    def transcript(self) -> str:
        """What clients and server said, a line each, after the number of the client; without
        passwords and without messages."""
        return str(self._transcript)

    def clear(self) -> None:
        """Forget the messages, the transcript and the faults; `users` stay."""
        self._faults.clear()
        self._transcript.clear()
        with self._changed:
            self._messages.clear()

    # --- what shall fail -------------------------------------------------------------------

    def fail(
        self,
        command: str,
        response_code: int,
        message: str = "Error: refused, as the test wants",
        *,
        to: str | None = None,
        times: int | None = None,
    ) -> None:
        """Refuse `command` with this reply: from now on, or so many times.

        Beside commands there are "CONNECT", the greeting, for which other codes become 421 and 554,
        and "MESSAGE", once it has come whole. With `to` only for this recipient, for DATA and
        MESSAGE where it is in the envelope; in LMTP a MESSAGE is refused for it alone. Of several
        faults that fit the last comes first. Raises TypeError and ValueError.
        """
        if isinstance(response_code, bool) or not isinstance(response_code, int):
            raise TypeError(f"response_code must be int, not {type(response_code).__name__}")
        if not 400 <= response_code <= 599:
            raise ValueError(f"response_code must be from 400 to 599, not {response_code}")
        if not isinstance(message, str):
            raise TypeError(f"message must be str, not {type(message).__name__}")
        if has_control_characters(message):
            raise ValueError("message must be one line, without control characters")
        self._faults.add(Refusal(command, to, times, int(response_code), message))

    def delay(self, command: str, seconds: float, *, times: int | None = None) -> None:
        """Answer `command` so many seconds later; see `fail`. `close` cuts it short."""
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"seconds must be a number, not {type(seconds).__name__}")
        if not 0 <= seconds <= threading.TIMEOUT_MAX:
            raise ValueError(f"seconds must be a number of seconds, not {seconds!r}")
        self._faults.add(Delay(command, None, times, float(seconds)))

    def drop(
        self, after: str = "CONNECT", octets: int | None = None, *, times: int | None = None
    ) -> None:
        """Break the connection in place of the greeting, or of the reply to a command.

        After "DATA", and after "MESSAGE", the message comes first, and is not kept; with `octets`,
        after "DATA" only, so many of it. Raises TypeError and ValueError.
        """
        if octets is not None:
            if isinstance(octets, bool) or not isinstance(octets, int) or octets < 0:
                raise ValueError(f"octets must be a whole number from 0, not {octets!r}")
            if not isinstance(after, str) or after.upper() != "DATA":
                raise ValueError("octets are those of a message: they go with after='DATA'")
        self._faults.add(Break(after, None, times, octets))

    # --- the server's callbacks ------------------------------------------------------------

    def _on_auth(self, auth: Auth, session: SMTPSession) -> str | None:
        users = self.users
        if not users:
            return auth.username or "somebody"
        password = users.get(auth.username)
        for name in ("password", "access_token"):
            if hasattr(auth, name):
                return auth.username if getattr(auth, name) == password is not None else None
        proves = getattr(auth, "validate_password", None)
        # Who shows a certificate has no password to be asked for.
        right = password is not None if proves is None else proves(password)
        return auth.username if right else None

    def _on_data(self, stream: DataStream, session: SMTPSession) -> Any:
        envelope = session.envelope
        content = stream.read()
        recipients = [address.address for address in envelope.rcpt_to]
        results = refusal_of_message(self._faults, recipients, lmtp=session.lmtp)
        # As it is now: it changes with the next command.
        message = CaughtMessage(content, envelope, copy.copy(session))
        with self._changed:
            self._pending[session.id] = message
        return results

    def _answered(self, info: MessageInfo) -> None:
        with self._changed:
            message = self._pending.pop(info.id, None)
            if message is not None and info.accepted and info.reply_written:
                if message.session.lmtp:
                    message.envelope = _accepted_part(info.envelope, info.reply_codes)
                self._messages.append(message)
            self._changed.notify_all()

    def new_machine(
        self,
        host: Host,
        session: SMTPSession,
        application: Application,
        connected: Callable[[], None],
    ) -> Machine:
        """The protocol for a connection of `host`, the catcher's own."""
        options = host.options
        if self.users and options.auth_optional:
            options = dataclasses.replace(options, auth_optional=False)
        return FaultyMachine(self._faults, session, options, application, connected, host.decoys)

    @property
    def certificates(self) -> RunCertificates | None:
        """What the server shows; None where it was given a certificate."""
        return None if self._own_certificate else self._certificates.made


def _matches(message: CaughtMessage, to: str | None, subject: Subject) -> bool:
    if to is not None and to.lower() not in (
        address.address.lower() for address in message.envelope.rcpt_to
    ):
        return False
    if isinstance(subject, re.Pattern):
        return subject.search(message.subject) is not None
    return subject is None or message.subject == subject


def _accepted_part(envelope: SMTPEnvelope, codes: tuple[int, ...]) -> SMTPEnvelope:
    recipients = zip(envelope.rcpt_to, codes, strict=True)
    return dataclasses.replace(envelope, rcpt_to=[each for each, code in recipients if code < 400])


class _Certificates:
    """Made when they are first wanted: few tests speak TLS."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: RunCertificates | None = None
        self._file: str | None = None

    @property
    def made(self) -> RunCertificates:
        """The certificates."""
        with self._lock:
            if self._made is None:
                from .certificates import make_certificates

                self._made = make_certificates()
            return self._made

    @property
    def file(self) -> str:
        """The authority's, in a file."""
        authority = self.made.authority
        with self._lock:
            if self._file is None:
                descriptor, self._file = tempfile.mkstemp(prefix="blocksmtp-ca-", suffix=".pem")
                with os.fdopen(descriptor, "wb") as file:
                    file.write(authority)
            return self._file

    def remove(self) -> None:
        """Delete the file."""
        with self._lock:
            file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)


class _CatchingServer(SMTPServer):
    """The catcher's server."""

    def __init__(self, catcher: MailCatcher, **options: Any) -> None:
        self._catcher = catcher
        super().__init__(**options)

    def _make_host(self) -> Host:
        return _CatchingHost(self._catcher, self)

    def _prepare_tls(self, secure: bool) -> bool:
        """Leaves it to the first handshake."""
        return False


class _CatchingHost(Host):
    # A sender in the background may be about to say QUIT when the test ends. For a connection that
    # is gone by then client libraries are prepared, but a 421 they take for an error.
    says_goodbye = False

    def __init__(self, catcher: MailCatcher, server: SMTPServer) -> None:
        super().__init__(server.options, server)
        self._catcher = catcher
        self.tls = _LateTLS(self.options, catcher)

    def new_machine(
        self, session: SMTPSession, application: Application, connected: Callable[[], None]
    ) -> Machine:
        """See Host."""
        return self._catcher.new_machine(self, session, application, connected)


class _LateTLS(TLSState):
    """Gets its certificate at the first handshake."""

    def __init__(self, options: Options, catcher: MailCatcher) -> None:
        super().__init__(options)
        self._catcher = catcher
        self._shown: bytes | None = None

    def contexts(self) -> SecureContexts:
        """See TLSState."""
        certificates = self._catcher.certificates
        if certificates is not None and self._shown != certificates.server:
            self._shown = certificates.server
            self.update({"cert": certificates.server})
        return super().contexts()
