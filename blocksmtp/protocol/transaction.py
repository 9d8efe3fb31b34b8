"""The mail transaction: MAIL, RCPT, DATA, RSET, and what becomes of a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import SMTPError
from ..session import SMTPAddress, SMTPEnvelope
from . import replies
from .application import Defect
from .grammar import GrammarError, parse_path
from .parameters import mail_parameters, rcpt_parameters
from .replies import Next, Reply, bad, closing, reply

if TYPE_CHECKING:
    from .machine import Machine

_TOO_BIG = reply(552, "Error: message exceeds fixed maximum message size", "5.3.4")
_SENDER_ACCEPTED = reply(250, "Accepted", "2.1.0")
_RECIPIENT_ACCEPTED = reply(250, "Accepted", "2.1.5")
_FLUSHED = reply(250, "Flushed")
_GO_AHEAD = Reply(354, ("End data with <CR><LF>.<CR><LF>",), then=Next.BODY)
_QUEUED = reply(250, "OK: message queued", "2.6.0")


class Body(Protocol):
    """What the machine needs of the message stream that it hands to `on_data`."""

    @property
    def stream(self) -> object:
        """The file object for the callback."""

    @property
    def size_exceeded(self) -> bool:
        """Whether the message is larger than allowed."""

    @property
    def complete(self) -> bool:
        """Whether the client has sent all of it, so that in LMTP each recipient is owed a reply."""

    @property
    def failure(self) -> Exception | None:
        """What a read raised; the message must not be acknowledged then."""

    def discard(self, *, refused: bool) -> None:
        """Read what is left of the message and forget it; a message `refused`, without patience.

        Never raises: see `failure`.
        """


def mail(machine: Machine, argument: str) -> Reply:
    """MAIL FROM (RFC 5321, section 4.1.1.2)."""
    session = machine.session
    options = machine.options
    if session.envelope.mail_from is not None:
        return bad(503, "Error: nested MAIL command")
    path = parse_path(argument, "FROM", lenient=options.lenient_address_parsing)
    wanted = mail_parameters(
        path.parameters, binarymime=machine.offers("BDAT"), extra=options.extra_extensions
    )
    if path.internationalised and not wanted.smtp_utf8:
        raise _needs_smtputf8()
    if wanted.require_tls and not session.secure:
        return bad(530, "Error: REQUIRETLS needs TLS", "5.7.10")
    if options.size is not None and wanted.size is not None and wanted.size > options.size:
        return _TOO_BIG
    if options.max_messages is not None and machine.messages >= options.max_messages:
        return closing("Error: too many messages in this connection", "4.7.0")
    machine.announce()
    machine.forget_old_x_forward()
    envelope = session.envelope
    envelope.body_type = wanted.body_type
    envelope.smtp_utf8 = wanted.smtp_utf8
    envelope.require_tls = wanted.require_tls
    envelope.dsn = wanted.dsn
    envelope.submitter = _submitter(wanted.args.get("AUTH"), trusted=session.user is not None)
    address = SMTPAddress(path.address, path.raw, wanted.args)
    refusal = machine.application.ask("on_mail_from", 550, "5.7.1", address)
    if refusal is not None:
        # No transaction has begun, nor ended: what XFORWARD said is for the next MAIL.
        session.envelope = SMTPEnvelope()
        return refusal.in_utf8() if wanted.smtp_utf8 else refusal
    envelope.mail_from = address
    machine.messages += 1
    return _SENDER_ACCEPTED


def _submitter(auth: str | bool | None, *, trusted: bool) -> str | None:
    """What AUTH= says, to a server that believes it only of whom it knows (RFC 4954, section 5)."""
    if not isinstance(auth, str):
        return None
    return auth if trusted and auth != "<>" else ""


def rcpt(machine: Machine, argument: str) -> Reply:
    """RCPT TO (RFC 5321, section 4.1.1.3)."""
    envelope = machine.session.envelope
    if envelope.mail_from is None:
        return bad(503, "Error: need MAIL command")
    path = parse_path(argument, "TO", lenient=machine.options.lenient_address_parsing)
    wanted = rcpt_parameters(path.parameters)
    if path.internationalised and not envelope.smtp_utf8:
        raise _needs_smtputf8()
    if len(envelope.rcpt_to) >= machine.options.max_recipients:
        return reply(452, "Error: too many recipients", "4.5.3")
    address = SMTPAddress(path.address, path.raw, wanted.args, wanted.dsn)
    refusal = machine.application.ask("on_rcpt_to", 550, "5.1.1", address)
    if refusal is not None:
        return refusal
    envelope.rcpt_to.append(address)
    return _RECIPIENT_ACCEPTED


def _needs_smtputf8() -> GrammarError:
    """RFC 6531, section 3.5."""
    return GrammarError("Error: internationalised address needs SMTPUTF8", 553, "5.6.7")


def rset(machine: Machine, _argument: str) -> Reply:
    """RSET, which nobody can refuse (RFC 5321, section 4.1.1.5)."""
    try:
        machine.application.call("on_rset", machine.session)
    except Defect:
        pass  # It has been reported.
    except SMTPError as error:
        machine.application.report(error, "on_rset")
    machine.new_envelope()
    return _FLUSHED


def data(machine: Machine, _argument: str) -> Reply:
    """DATA (RFC 5321, section 4.1.1.4)."""
    if not machine.session.envelope.rcpt_to:
        return bad(503, "Error: need RCPT command")
    if machine.session.envelope.body_type == "binarymime":
        # RFC 3030, section 3: there is no end mark that could not be a part of it.
        return bad(503, "Error: BINARYMIME needs BDAT")
    return _GO_AHEAD


def receive(machine: Machine, body: Body) -> list[Reply]:
    """Hand a message to the application, and answer: one reply, in LMTP one a recipient.

    The transaction is over then. Where the connection broke inside the message there is nothing to
    answer, whatever the callback made of it.
    """
    # As they are now: each is owed a reply, whatever the callback does to the envelope.
    recipients = tuple(machine.session.envelope.rcpt_to)
    lmtp = machine.session.lmtp

    def check(result: Any) -> list[Reply]:
        return answers_for(result, recipients, lmtp=lmtp)

    everyone = len(recipients) if lmtp else 1
    try:
        answers = machine.application.call(
            "on_data",
            body.stream,
            machine.session,
            check=check,
            # By identity: an exception of the application's may be equal to anything.
            harmless=lambda error: (
                body.failure is not None
                and (error is body.failure or error.__cause__ is body.failure)
            ),
        )
    except SMTPError as error:
        answers = [replies.refusal(error, 450, "4.3.0")] * everyone
    except Defect:
        answers = [replies.DEFECT] * everyone
    except Exception:  # noqa: BLE001 - what a read raised, or what the callback made of that
        answers = []
    else:
        if answers is None:
            answers = check(None)
    accepted = [answer for answer in answers if answer.code < 400]
    body.discard(refused=not accepted)
    machine.new_envelope()
    if isinstance(body.failure, SMTPError):
        return [replies.refusal(body.failure, 550)] * everyone
    if body.failure is not None:
        return []
    if body.size_exceeded:
        # A refusal of the application's own stands; to try again, as after a defect, is vain.
        answers = [
            _TOO_BIG if answer.code < 400 or answer is replies.DEFECT else answer
            for answer in answers
        ]
    if accepted and not body.size_exceeded:
        machine.session.transaction += 1
    return answers if body.complete else answers[:1]


def answers_for(result: Any, recipients: Sequence[SMTPAddress], *, lmtp: bool) -> list[Reply]:
    """The replies that a result of `on_data` stands for. Raises TypeError or ValueError."""
    return _lmtp_replies(result, recipients) if lmtp else [_accepted(result)]


def _accepted(text: Any) -> Reply:
    """250 with the text that a callback returned. Raises TypeError for another type."""
    if text is not None and not isinstance(text, str):
        raise TypeError(f"on_data returned {type(text).__name__}: not None or str")
    return reply(250, text, "2.6.0") if text else _QUEUED


def _lmtp_replies(result: Any, recipients: Sequence[SMTPAddress]) -> list[Reply]:
    """One reply a recipient (RFC 2033, section 4.2). Raises TypeError or ValueError."""
    if result is None or isinstance(result, str):
        return [_accepted(result)] * len(recipients)
    if isinstance(result, Mapping):
        result = [result.get(recipient.address) for recipient in recipients]
    if not isinstance(result, (list, tuple)):
        raise TypeError(f"on_data returned {type(result).__name__}: not a text, list or mapping")
    if len(result) != len(recipients):
        raise ValueError(f"on_data returned {len(result)} results for {len(recipients)} recipients")
    return [
        replies.refusal(entry, 450, "4.3.0") if isinstance(entry, SMTPError) else _accepted(entry)
        for entry in result
    ]
