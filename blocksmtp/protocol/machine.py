"""The SMTP and LMTP server as pure logic: lines in, replies out; it never sees a socket.

Theory of operation
-------------------

A machine serves one connection. Whoever owns the wire calls, in this order:

    open()          the client is there: on_connect; the greeting, or a refusal
    feed(line)      one command line, or one SASL response, without its line end
    reject(...)     instead of feed: a line that came over the wire, but is none
    receive(body)   after a reply whose `then` is Next.BODY
    between_chunks(line)
                    instead of feed, and inside receive, while a message comes in chunks (RFC 3030)
    resume()        after receive, where a line between chunks has ended the message
    tls_started(…)  after a reply whose `then` is Next.TLS, once the handshake succeeded
    tls_approved(…) after open(), where the connection began with TLS
    end()           when the connection has ended, for whatever reason

and writes the replies that come back. `Reply.then` says what happens next; after Next.CLOSE the
machine must not be fed any more. The machine is synchronous: a callback of the application runs
inside the call that it belongs to.

The states of the protocol are in the session, which the application sees as well:

    opening_command     None until HELO, EHLO or LHLO, and again after STARTTLS and XCLIENT
    secure              TLS is active
    user                not None after AUTH
    envelope.mail_from  not None inside a transaction (RFC 5321, section 3.3)
    envelope.rcpt_to    not empty once DATA may come

and one more is in the machine: `authentication`, the AUTH exchange in progress, to which the next
line belongs.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ..addresses import is_trusted
from ..errors import SMTPError
from ..options import Options
from ..scram import ScramDecoys
from ..session import SMTPEnvelope, SMTPSession
from . import chunking, replies, transaction
from .application import Application, Defect, no_verdict
from .authentication import Authentication
from .commands import COMMANDS, Argument, Between, Command
from .grammar import GrammarError
from .replies import LONGEST_SASL_LINE, Next, Reply, bad, closing
from .security import NoSecurity, Security

# method = token; request-line = method SP request-target SP HTTP-version (RFC 9110, section 9.1;
# RFC 9112, section 3). Of a line that was too long only the beginning is there.
_METHOD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HTTP_REQUEST = re.compile(rf"{_METHOD} \S+ HTTP/\d", re.IGNORECASE)
_HTTP_BEGINNING = re.compile(rf"{_METHOD} (?:/|\*|https?:)", re.IGNORECASE)
# A browser that was sent here may be made to say SMTP in the body of its request (CVE-2021-3618).
_NO_HTTP = closing("Error: HTTP requests not allowed", "4.7.0")

_ABORTED = Reply(250, ("OK",), then=Next.ABORT)


class Machine:
    """The protocol for one connection. See the module's text."""

    def __init__(
        self,
        session: SMTPSession,
        options: Options,
        application: Application,
        connected: Callable[[], None] = lambda: None,
        decoys: ScramDecoys | None = None,
    ) -> None:
        """`connected()` is called once, when it is settled who the client is. `decoys` should be
        the same for all connections of a server."""
        self.session = session
        self.options = options
        self.application = application
        self.authentication: Authentication | None = None
        self.security: Security = NoSecurity()
        """Set by the owner of the wire where a connection begins with TLS."""
        self.decoys = decoys or ScramDecoys()
        self.verb = ""
        """The command that is being run."""
        self.messages = 0
        """How many transactions have begun in this connection."""
        self.is_receiving = False
        """Whether a message is being received; `on_data` may be running."""
        self._aborting_line = b""
        self.before_xclient: dict[str, object] = {}
        """The session's attributes that one XCLIENT or more have replaced, as they were."""
        self._connected: Callable[[], None] | None = connected
        self._x_forward_is_old = False
        self._bad_commands = 0
        self._unauthenticated_commands = 0
        self._lmtp = options.lmtp
        self._auth_required = not options.auth_optional and "AUTH" not in options.disabled_commands
        # Settled by the connection's own address: XCLIENT must not open a door to itself.
        self.xclient_allowed = is_trusted(session.remote_address, options.use_xclient)
        self.xforward_allowed = is_trusted(session.remote_address, options.use_xforward)

    # --- what the owner of the wire calls --------------------------------------------------

    def open(self) -> Reply:
        """The client has connected: the greeting, or the refusal after which it closes."""
        try:
            self.application.call("on_connect", self.session, check=no_verdict)
        except SMTPError as error:
            return _refuse_connection(error)
        except Defect:
            return closing(replies.DEFECT.lines[0], "4.3.0")
        if not self.offers("XCLIENT"):
            self.announce()
        return self.greeting()

    def feed(self, line: bytes) -> Reply:
        """The reply to a line of the client's, which comes without its line end."""
        # What is no UTF-8 becomes surrogates, which no grammar takes.
        text = line.decode("utf-8", "surrogateescape")
        if self.authentication is not None:
            reply = self.authentication.respond(text)
        else:
            reply = self.run(text)
            if self.verb == "BDAT" and reply.then is not Next.BODY:
                reply = chunking.refused(reply, text[5:].strip(" \t"))
        if self.session.envelope.smtp_utf8:
            reply = reply.in_utf8()
        return self._count(reply) if reply.bad or self._bad_commands else reply

    def reject(self, text: str, beginning: bytes = b"") -> Reply:
        """The reply to what is no line at all: one too long, or with a wrong end.

        `beginning` is what is there of it.
        """
        authentication, self.authentication = self.authentication, None
        if authentication is not None and authentication.refused:
            # Whatever the client makes of the error challenge, the refusal stands.
            return self._count(authentication.respond(""))
        if _HTTP_BEGINNING.match(beginning.decode("utf-8", "replace")):
            return _NO_HTTP
        return self._count(bad(500, text))

    def receive(self, body: transaction.Body) -> list[Reply]:
        """Hand a message to the application: one reply, in LMTP one for each recipient."""
        utf8 = self.session.envelope.smtp_utf8
        self.is_receiving = True
        answers = transaction.receive(self, body)
        self.is_receiving = False
        return [answer.in_utf8() for answer in answers] if utf8 else answers

    def between_chunks(self, line: bytes) -> Reply:
        """As `feed`, for a line after a chunk of a message that is not its last (RFC 3030).

        The reply's `then` is Next.BODY for another chunk, and Next.ABORT where the message is given
        up: its callback must have ended before the command runs.
        """
        text = line.decode("utf-8", "surrogateescape")
        verb = text.partition(" ")[0].upper()
        command = self._command_of(verb) if verb.isascii() else None
        between = Between.RUNS if command is None else command.between_chunks
        if verb == "BDAT":
            reply = self.run(text)
            if reply.then is Next.BODY:
                return reply
        elif between is Between.RUNS:
            return self.feed(line)
        elif between is Between.REFUSED:
            return self._count(bad(503, "Error: the message has not ended"))
        self._aborting_line = line
        return _ABORTED

    def resume(self) -> Reply:
        """The reply to the line for which a message was given up."""
        line, self._aborting_line = self._aborting_line, b""
        return self.feed(line)

    def tls_approved(self, connection: object) -> bool:
        """Whether the application, which may look at the TLS `connection`, lets the client in."""
        return self.application.ask("on_secure", 550, "5.7.1", connection) is None

    def tls_started(self, connection: object, security: Security | None = None) -> bool:
        """TLS is active: what was said in clear is forgotten (RFC 3207, section 4.2).

        Returns whether the application lets the client in, as `tls_approved`.
        """
        session = self.session
        session.secure = True
        self.security = security or NoSecurity()
        session.host_name_appears_as = None
        session.opening_command = None
        session.user = None
        self.authentication = None
        self.new_envelope()
        # XFORWARD and XCLIENT may come from whoever sits on the wire; a proxy can say them again.
        session.x_forward = {}
        vars(session).update(self.before_xclient)
        self.before_xclient = {}
        return self.tls_approved(connection)

    def end(self) -> None:
        """The connection has ended, wherever the dialogue was."""
        self.authentication = None

    def line_limit(self, start: bytes) -> int:
        """How long a line that begins with `start` may be, in octets, CRLF included."""
        limit = self.options.max_command_length
        if self.authentication is not None or start[:5].upper() == b"AUTH ":
            return max(limit, LONGEST_SASL_LINE)
        return limit

    # --- what the commands call ------------------------------------------------------------

    def greeting(self) -> Reply:
        """The first reply of a connection, and the one to XCLIENT."""
        protocol = "LMTP" if self.options.lmtp else "ESMTP"
        banner = f" {self.options.banner}" if self.options.banner else ""
        return Reply(220, (f"{self.session.server_name} {protocol}{banner}",))

    def new_envelope(self) -> None:
        """End the transaction, if there is one."""
        if self.session.envelope.mail_from is not None:
            self._x_forward_is_old = True
        self.session.envelope = SMTPEnvelope()

    def forget_old_x_forward(self) -> None:
        """What XFORWARD said was of one message; the next one comes from elsewhere."""
        if self._x_forward_is_old:
            self._x_forward_is_old = False
            self.session.x_forward = {}

    def announce(self) -> None:
        """It is settled who the client is: tell, once."""
        connected, self._connected = self._connected, None
        if connected is not None:
            connected()

    def offers(self, verb: str) -> bool:
        """Whether the client may expect the command to work at all."""
        if verb in self.options.disabled_commands:
            return False
        return (verb != "XCLIENT" or self.xclient_allowed) and (
            verb != "XFORWARD" or self.xforward_allowed
        )

    def offered_commands(self) -> list[str]:
        """The commands there are for this client."""
        return [
            verb
            for verb, command in COMMANDS.items()
            if (command.lmtp if self._lmtp else command.smtp) and self.offers(verb)
        ]

    # --- a command -------------------------------------------------------------------------

    def run(self, line: str) -> Reply:
        """The reply to a command, decoded, before it is counted."""
        verb, _, argument = line.partition(" ")
        # Outside ASCII there are letters whose capital is an ASCII one: they are not the same word.
        self.verb = verb = verb.upper() if verb.isascii() else ""
        if "/" in argument and _HTTP_REQUEST.match(line):
            return _NO_HTTP
        if verb in self.options.disabled_commands:
            return bad(502, "Error: command not implemented")
        command = self._command_of(verb)
        if command is None:
            return bad(500, "Error: command not recognized")
        argument = argument.strip(" \t")
        refusal = self._out_of_order(command, argument)
        if refusal is not None:
            return refusal
        try:
            return command.run(self, argument)
        except GrammarError as error:
            return bad(error.code, error.message, error.enhanced)

    def _command_of(self, verb: str) -> Command | None:
        command = COMMANDS.get(verb)
        if command is None or not (command.lmtp if self._lmtp else command.smtp):
            return None
        return command

    def _out_of_order(self, command: Command, argument: str) -> Reply | None:
        """The refusal of a command that may not come yet, or not so, by its row in the table."""
        options = self.options
        auth_missing = self._auth_required and self.session.user is None
        if auth_missing and command.counted:
            self._unauthenticated_commands += 1
            limit = options.max_allowed_unauthenticated_commands
            if limit is not None and self._unauthenticated_commands >= limit:
                return closing("Error: too many unauthenticated commands", "4.7.0")
        if command.after_hello and self.session.opening_command is None:
            hello = "LHLO" if options.lmtp else "HELO/EHLO"
            return bad(503, f"Error: send {hello} first")
        if command.after_upgrade and options.needs_upgrade and not self.session.secure:
            return bad(530, "Must issue a STARTTLS command first", "5.7.0")
        if command.after_auth and auth_missing:
            return bad(530, options.auth_required_message, "5.7.0")
        if argument:
            if command.argument is Argument.NONE:
                return bad(501, f"Error: {self.verb} takes no argument")
        elif command.argument is Argument.REQUIRED:
            return bad(501, f"Error: {self.verb} needs an argument")
        return None

    def _count(self, reply: Reply) -> Reply:
        """`reply`, unless it refuses one bad command too many in a row."""
        if reply.code == 334:
            return reply  # How the command ends is still open.
        if not reply.bad:
            self._bad_commands = 0
            return reply
        self._bad_commands += 1
        limit = self.options.max_bad_commands
        if limit is not None and self._bad_commands >= limit:
            return closing("Error: too many bad commands", "4.7.0")
        return reply


def _refuse_connection(error: SMTPError) -> Reply:
    """The greeting that refuses: 554, or 421 where the client may try again.

    Other codes are not for this place (RFC 5321, section 4.3.2).
    """
    wanted = replies.refusal(error, 554)
    code = 421 if wanted.code < 500 else 554
    return Reply(code, wanted.lines, wanted.enhanced, Next.CLOSE)
