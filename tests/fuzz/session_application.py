"""The application of the state machine: every callback does as the verdict says."""

from __future__ import annotations

from typing import Any

from blocksmtp.auth import AuthResponse
from blocksmtp.errors import SMTPError
from blocksmtp.session import SMTPSession
from tests.protocol.bench import GivenCallbacks

ALICE = "alice"

DEFECTS = ("fail", "falsely")
"""Verdicts that are none: the application is at fault."""


class Application:
    """Accepts, unless `verdict` says otherwise."""

    def __init__(self) -> None:
        self.verdict = "accept"
        self.callbacks = GivenCallbacks(
            on_auth=self._on_auth,
            on_secure=self._judge,
            on_mail_from=self._judge,
            on_rcpt_to=self._judge,
            on_data=self._on_data,
        )

    def _judge(self, *_arguments: object) -> bool | None:
        codes = {"refuse": None, "later": 450, "leave": 421}
        if self.verdict in codes:
            raise SMTPError("Not wanted", codes[self.verdict])
        if self.verdict == "fail":
            raise RuntimeError("the secret detail")
        return False if self.verdict == "falsely" else None

    def _on_auth(self, _auth: object, _session: object) -> Any:
        if self.verdict == "refuse":
            return AuthResponse(data={"status": "401"})
        if self.verdict == "later":
            raise SMTPError("The directory is down", 454)
        if self.verdict == "falsely":
            return _Undecided()
        self._judge()
        return ALICE

    def _on_data(self, _stream: object, session: SMTPSession) -> Any:
        if self._judge() is False:
            return False
        if self.verdict == "each":
            return [outcome(at) for at in range(len(session.envelope.rcpt_to))]
        return "stored"


def outcome(at: int) -> SMTPError | None:
    """What becomes of the message for the recipient at this place."""
    return SMTPError("Mailbox full", 552) if at % 2 else None


class _Undecided:
    """A user of which it cannot be said whether there is one."""

    def __bool__(self) -> bool:
        raise ValueError("neither true nor false")
