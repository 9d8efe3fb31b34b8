"""What a session must be after each command: the order of commands and the limits, once more.

It is written from the contract, not from the table of commands, and knows nothing of grammar: the
state machine says which commands are well-formed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from blocksmtp.options import Options
from tests.fuzz.session_application import outcome

_AFTER_HELLO = ("AUTH", "MAIL", "RCPT", "DATA")
_AFTER_TLS = ("AUTH", "MAIL")
_AFTER_AUTH = ("MAIL", "RCPT", "DATA")
# These do not count as commands before authentication.
_UNCOUNTED = ("AUTH", "QUIT")
_HELLO = ("HELO", "EHLO", "LHLO")


class Answer(NamedTuple):
    """A reply code, and whether the command was unknown, malformed or out of order."""

    code: int
    bad: bool = False


@dataclass
class Model:
    """The session, as far as replies and callbacks tell."""

    options: Options
    secure: bool = False
    hello: str | None = None
    user: str | None = None
    sender: str | None = None
    smtp_utf8: bool = False
    recipients: list[str] = field(default_factory=list)
    messages: int = 0
    exchange: str | None = None
    """The step of an AUTH exchange that the next line is for."""
    outcome: int = 0
    """The code that an exchange will end with, once credentials have been judged."""
    announced: bool = False
    """Whether it is settled, and told, who the client is."""
    x_client: dict[str, str] = field(default_factory=dict)
    x_forward: dict[str, str] = field(default_factory=dict)
    x_forward_is_old: bool = False
    bad_commands: int = 0
    unauthenticated_commands: int = 0
    auth_failures: int = 0
    closed: bool = False

    @property
    def auth_missing(self) -> bool:
        """Whether mail has to wait for authentication."""
        optional = self.options.auth_optional or "AUTH" in self.options.disabled_commands
        return self.user is None and not optional

    def refusal(self, verb: str) -> Answer | None:
        """How a command is refused before its argument is looked at, None where it is not."""
        options = self.options
        if verb in options.disabled_commands:
            return Answer(502, bad=True)
        if verb in _HELLO and (verb == "LHLO") is not options.lmtp:
            return Answer(500, bad=True)
        if self.auth_missing and verb not in _UNCOUNTED:
            self.unauthenticated_commands += 1
            limit = options.max_allowed_unauthenticated_commands
            if limit is not None and self.unauthenticated_commands >= limit:
                return Answer(421)
        if verb in _AFTER_HELLO and self.hello is None:
            return Answer(503, bad=True)
        if verb in _AFTER_TLS and options.needs_upgrade and not self.secure:
            return Answer(530, bad=True)
        if verb in _AFTER_AUTH and self.auth_missing:
            return Answer(530, bad=True)
        return None

    def offered(self) -> set[str]:
        """Which of these commands EHLO offers: those that could work now."""
        works = {
            "STARTTLS": not self.secure,
            "AUTH": self.secure or self.options.allow_insecure_auth,
            "XCLIENT": self.options.use_xclient is True,
            "XFORWARD": self.options.use_xforward is True,
        }
        return {verb for verb in works if works[verb]} - set(self.options.disabled_commands)

    def answered(self, answer: Answer) -> int:
        """Count the answer; the code that the client gets."""
        code = answer.code
        if code == 334:
            return code
        self.bad_commands = self.bad_commands + 1 if answer.bad else 0
        limit = self.options.max_bad_commands
        if limit is not None and self.bad_commands >= limit:
            code = 421
        self.closed = self.closed or code in (421, 221)
        return code

    def forget_transaction(self) -> None:
        """End the transaction, if there is one."""
        self.x_forward_is_old = self.x_forward_is_old or self.sender is not None
        self.sender = None
        self.smtp_utf8 = False
        self.recipients = []

    def forget_old_x_forward(self) -> None:
        """What was said of one message does not hold for the next."""
        if self.x_forward_is_old:
            self.x_forward = {}
        self.x_forward_is_old = False

    def tls_started(self) -> None:
        """Nothing that was said in clear survives."""
        self.secure = True
        self.hello = self.user = None
        self.x_client = {}
        self.x_forward = {}
        self.forget_transaction()
        self.x_forward_is_old = False

    def judged(self, verdict: str) -> int:
        """The credentials were judged; the code for that."""
        code = {"accept": 235, "refuse": 535, "later": 454, "leave": 421}.get(verdict, 451)
        if code == 535:
            self.auth_failures += 1
            limit = self.options.max_auth_failures
            if limit is not None and self.auth_failures >= limit:
                return 421
        return code

    def message_codes(self, arrival: str, verdict: str) -> list[int]:
        """What each is answered to whom a reply to the message is owed."""
        count = len(self.recipients) if self.options.lmtp else 1
        if arrival == "broken":
            return []
        if arrival == "bare newline":
            return [550] * count
        code = {"accept": 250, "refuse": 450, "later": 450, "leave": 421}.get(verdict, 451)
        codes = [code] * count
        if verdict == "each" and self.options.lmtp:
            codes = [552 if outcome(at) else 250 for at in range(count)]
        if arrival == "too large":
            # What the application refused stays refused; a defect is no refusal.
            codes = [552 if code in (250, 451) else code for code in codes]
        return codes
