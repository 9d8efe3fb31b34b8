"""A client that runs the server's whole dialogue in the calling thread, from memory.

What a server would read from a socket, the client hands to the same dialogue and the same machine,
just as much as it has said; so a callback runs in the thread of the test, and inside its database
transaction. Where the server would have to wait for more, the client has its turn.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..connection import MessageEvents, call_on_close, connected, new_id
from ..dialogue import Dialogue
from ..errors import ClientGone
from ..logs import SessionLogger
from ..protocol.application import Application
from ..protocol.replies import Next, Reply
from ..session import ProxyInfo, SMTPSession, TLSCipherInfo
from .outgoing import Content, Outgoing, command_line, pieces_of, stuffed
from .replies import MessageReply, ReceivedReply, replies_in
from .transport import MemoryTransport

if TYPE_CHECKING:
    from types import TracebackType

    from ..host import Host

_Client = TypeVar("_Client", bound="SMTPTestClient")

_USUAL_CIPHER = TLSCipherInfo("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384", "TLSv1.3")


class _PretendedSecurity:
    """That of a connection for which a test pretends TLS: see `protocol.security.Security`."""

    channel_binding: bytes | None = None

    def __init__(self, client_certificate: Any) -> None:
        self.client_certificate = client_certificate


class SMTPTestClient:
    """A client in the calling thread: see `SMTPServer.test_client`.

    `greeting` is the server's first reply, `session` the server's own view of the connection, and
    `errors` holds the defects of the application so far: what its callbacks raised that was no
    SMTPError, for which the client only gets a 451.

    As a context manager it says QUIT at the end.
    """

    def __init__(
        self,
        host: Host,
        *,
        remote_address: str = "127.0.0.1",
        remote_port: int = 50_000,
        local_address: str = "127.0.0.1",
        local_port: int = 25,
        client_hostname: str | None = None,
        client_hostname_verified: bool = False,
        secure: bool = False,
        servername: str | None = None,
        tls_options: TLSCipherInfo = _USUAL_CIPHER,
        client_certificate: Any = None,
        proxy: ProxyInfo | None = None,
    ) -> None:
        """See `SMTPServer.test_client`."""
        if client_hostname is None:
            client_hostname = (
                "localhost" if remote_address in ("127.0.0.1", "::1") else f"[{remote_address}]"
            )
        self._host = host
        self._servername = servername
        self._tls_options = tls_options
        self._security = _PretendedSecurity(client_certificate)
        self.errors: list[BaseException] = []
        self.session = session = SMTPSession(
            id=new_id(),
            server_name=host.options.name,
            lmtp=host.options.lmtp,
            local_address=local_address,
            local_port=local_port,
            remote_address=remote_address,
            remote_port=remote_port,
            client_hostname=client_hostname,
            client_hostname_verified=client_hostname_verified,
            proxy=proxy,
        )
        self._logger = logger = SessionLogger(host.options.logger, session.id)
        self._transport = MemoryTransport()
        # Whoever steps through a test with a debugger may take an hour.
        patient = dataclasses.replace(host.options, transaction_timeout=None)
        watch = MessageEvents(host, session.id, logger)
        self._dialogue = Dialogue(self._transport, patient, logger, watch)
        self._application = Application(host.callbacks, session, self._failed)
        announce = functools.partial(connected, host, session, logger)
        self._machine = host.new_machine(session, self._application, announce)
        self._invited: Reply | None = None
        """The reply after which the server waits for a message."""
        self._closed = False
        self.greeting = self._open(secure=secure)

    # --- what a client does ----------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, on either side."""
        return self._closed

    def command(self, line: str | bytes) -> ReceivedReply:
        """Say one command, or one response of an AUTH exchange; the reply to it.

        `line` comes without its line end; `bytes` for what is no UTF-8. After DATA use `data`.
        Raises RuntimeError where a command is not what the server waits for, ConnectionError where
        the server closed without a reply.
        """
        self._check_turn()
        octets = line + b"\r\n" if isinstance(line, bytes) else command_line(line)
        replies = self._exchange([octets])
        if len(replies) > 1:
            raise ValueError("that is more than one command: say it with pipeline()")
        return _first(replies)

    def pipeline(self, *group: str | bytes) -> list[ReceivedReply]:
        """Say all of a group at once (RFC 2920); the replies to it.

        A `str` is a command, to which the line end is added. `bytes` go out as they are: the
        message, with its end mark, after DATA, or the octets of a chunk after BDAT. Raises as
        `command`; also where the group stops in the middle of a message.
        """
        self._check_turn()
        octets = [each if isinstance(each, bytes) else command_line(each) for each in group]
        replies = self._exchange([b"".join(octets)])
        _first(replies)
        return replies

    def data(self, content: Content) -> MessageReply:
        """Send the message, after saying DATA if that has not been said; the reply to it.

        `bytes`, a binary file and pieces of `bytes` are sent as they are, each piece when the
        callback has read those before it; a `str` in UTF-8 with the line ends that it needs; a
        message of the email package as that writes it. Dots are stuffed and the end mark is added.
        An exception that the pieces raise breaks the connection for the server, and is raised.
        """
        if self._invited is None:
            reply = self.command("DATA")
            if self._invited is None:
                return MessageReply(reply.code, reply.lines)
        recipients = [address.address for address in self.session.envelope.rcpt_to]
        replies = self._exchange(stuffed(pieces_of(content)))
        first = _first(replies)
        by_recipient = dict(zip(recipients, replies, strict=False)) if self.session.lmtp else {}
        return MessageReply(first.code, first.lines, by_recipient)

    def login(self, username: str, password: str, mechanism: str = "PLAIN") -> ReceivedReply:
        """Authenticate with PLAIN, LOGIN or CRAM-MD5, after EHLO; the last reply.

        Raises ValueError for another mechanism: speak it with `command`.
        """
        self._say_hello()
        if mechanism == "PLAIN":
            return self.command(f"AUTH PLAIN {_base64(f'{chr(0)}{username}{chr(0)}{password}')}")
        if mechanism == "LOGIN":
            reply = self.command(f"AUTH LOGIN {_base64(username)}")
            return self.command(_base64(password)) if reply.code == 334 else reply
        if mechanism == "CRAM-MD5":
            return self._login_with_cram_md5(username, password)
        raise ValueError(f"login knows PLAIN, LOGIN and CRAM-MD5, not {mechanism}")

    def _login_with_cram_md5(self, username: str, password: str) -> ReceivedReply:
        import hmac

        reply = self.command("AUTH CRAM-MD5")
        if reply.code != 334:
            return reply
        challenge = base64.b64decode(reply.lines[0])
        digest = hmac.new(password.encode(), challenge, "md5").hexdigest()
        return self.command(_base64(f"{username} {digest}"))

    def send_message(
        self,
        message: Content,
        from_addr: str | None = None,
        to_addrs: str | Sequence[str] | None = None,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> MessageReply:
        """Send a message as smtplib's method of this name does; the reply that decides.

        Says EHLO (in LMTP LHLO) first if nothing has been said. `from_addr` and `to_addrs` are
        taken from the header where they are None, and Bcc is left out of what is sent. Refused
        recipients are in the reply's `recipients`; where all are refused the message is not sent.
        Raises ValueError where there is no sender or recipient.
        """
        outgoing = Outgoing.of(message, from_addr, to_addrs)
        self._say_hello()
        options = [*mail_options, *(["SMTPUTF8"] if outgoing.needs_smtputf8 else [])]
        reply = self.command(" ".join([f"MAIL FROM:<{outgoing.sender}>", *options]))
        if not reply.accepted:
            return MessageReply(reply.code, reply.lines)
        answers = {
            recipient: self.command(" ".join([f"RCPT TO:<{recipient}>", *rcpt_options]))
            for recipient in outgoing.recipients
            if not self._closed
        }
        accepted = [recipient for recipient, answer in answers.items() if answer.accepted]
        if not accepted:
            if not self._closed:
                self.command("RSET")
            last = list(answers.values())[-1]
            return MessageReply(last.code, last.lines, answers)
        result = self.data(outgoing.content)
        if self.session.lmtp and len(result.recipients) == len(accepted):
            answers.update(zip(accepted, result.recipients.values(), strict=True))
        if not result.accepted and not self._closed:
            self.command("RSET")
        return MessageReply(result.code, result.lines, answers)

    def starttls(self) -> ReceivedReply:
        """Say STARTTLS; after its 220 the connection passes for one in TLS. EHLO is due again."""
        self._say_hello()
        return self.command("STARTTLS")

    def quit(self) -> ReceivedReply:
        """Say QUIT."""
        return self.command("QUIT")

    def close(self) -> None:
        """Close the connection without a word; inside a message the server sees it break."""
        if not self._closed:
            self._transport.ended = True
            self._exchange(())

    def __enter__(self: _Client) -> _Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None and not self._closed and self._invited is None:
            self.quit()
        self.close()

    def _check_turn(self) -> None:
        if self._invited is not None:
            raise RuntimeError("the server waits for a message: say it with data()")

    # --- what the server does --------------------------------------------------------------

    def _failed(self, error: BaseException, where: str) -> None:
        self.errors.append(error)
        self._host.failure(error, where, self._logger)

    def _open(self, *, secure: bool) -> ReceivedReply:
        if secure:
            self._be_secure()
            self._machine.security = self._security
        reply = self._machine.open()
        if secure and reply.then is not Next.CLOSE and not self._approved():
            self._end()
            raise ConnectionError("on_secure closed the connection")
        self._dialogue.write(reply)
        self._dialogue.flush()
        if reply.then is Next.CLOSE:
            self._end()
        (greeting,) = replies_in(self._transport.take_answers())
        return greeting

    def _exchange(self, pieces: Iterable[bytes]) -> list[ReceivedReply]:
        """Say `pieces`, and let the server do what it can; its replies."""
        if self._closed:
            raise RuntimeError("the connection has been closed")
        transport = self._transport
        transport.say(pieces)
        try:
            going_on = self._serve()
            self._dialogue.flush()
        except ClientGone:
            going_on = False
        answers = transport.take_answers()
        if self._transport is not transport:
            answers += self._transport.take_answers()
        if not going_on:
            self._end()
        if transport.failure is not None:
            raise transport.failure
        if transport.starved:
            raise RuntimeError(
                "the server waits for the rest of a line or message: say all of it at once"
            )
        return replies_in(answers)

    def _serve(self) -> bool:
        """Serve what the client has said; whether the connection goes on."""
        invited, self._invited = self._invited, None
        going_on = True
        if invited is not None:
            going_on = self._dialogue.receive_message(self._machine, invited)
        while going_on and self._has_input:
            reply = self._dialogue.next_reply(self._machine)
            if reply.then is Next.BODY and reply.chunk is None and not self._has_input:
                self._dialogue.invite(reply)
                self._invited = reply
                break
            going_on = self._dialogue.carry_out(reply, self._machine, self._upgrade)
        return going_on and not self._transport.ended

    @property
    def _has_input(self) -> bool:
        return self._dialogue.has_input or self._transport.has_octets

    def _upgrade(self) -> bool:
        if self._transport.has_octets:
            return False  # In clear, and no handshake.
        answered = self._transport.take_answers()
        self._transport = MemoryTransport()
        self._transport.send(answered, 0, 0)
        self._dialogue.switch(self._transport)
        self._be_secure()
        return self._machine.tls_started(self._pretended_connection(), self._security)

    def _be_secure(self) -> None:
        self.session.secure = True
        self.session.servername = self._servername
        self.session.tls_options = self._tls_options

    def _approved(self) -> bool:
        return self._machine.tls_approved(self._pretended_connection())

    def _pretended_connection(self) -> object:
        """What `on_secure` gets: a connection of which no handshake was ever asked."""
        if not self._application.has("on_secure"):
            return None
        from OpenSSL import SSL

        return SSL.Connection(SSL.Context(SSL.TLS_SERVER_METHOD), None)

    def _end(self) -> None:
        self._closed = True
        self._machine.end()
        call_on_close(self._application, self.session)

    def _say_hello(self) -> None:
        if self.session.opening_command is None:
            self.command("LHLO localhost" if self.session.lmtp else "EHLO localhost")


def _first(replies: list[ReceivedReply]) -> ReceivedReply:
    if not replies:
        raise ConnectionError("the server closed the connection without a reply")
    return replies[0]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")
