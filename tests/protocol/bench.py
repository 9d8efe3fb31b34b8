"""The protocol machine on a bench: with any callbacks, fed line by line."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from blocksmtp.options import Options
from blocksmtp.protocol.application import Application
from blocksmtp.protocol.machine import Machine
from blocksmtp.protocol.replies import Reply
from blocksmtp.session import SMTPSession

Callback = Callable[..., Any]


@dataclass
class GivenCallbacks:
    """Where the machine looks callbacks up; they may be replaced at any time."""

    on_connect: Callback | None = None
    on_secure: Callback | None = None
    on_auth: Callback | None = None
    on_mail_from: Callback | None = None
    on_rcpt_to: Callback | None = None
    on_data: Callback | None = None
    on_close: Callback | None = None
    on_vrfy: Callback | None = None
    on_rset: Callback | None = None
    scram_verifier: Callback | None = None
    callback_context: Callable[[SMTPSession], AbstractContextManager[Any]] | None = None


class Bench:
    """A machine, its session, and what it tells the outside."""

    def __init__(
        self,
        *,
        callbacks: GivenCallbacks | None = None,
        secure: bool = False,
        remote_address: str = "192.0.2.7",
        **options: Any,
    ) -> None:
        self.options = Options(**{"name": "mx.example.org", "auth_optional": True, **options})
        self.session = SMTPSession(
            id="bench",
            server_name=self.options.name,
            lmtp=self.options.lmtp,
            secure=secure,
            local_address="192.0.2.1",
            local_port=25,
            remote_address=remote_address,
            remote_port=50000,
            client_hostname=f"[{remote_address}]",
        )
        self.callbacks = callbacks or GivenCallbacks()
        self.defects: list[tuple[str, str]] = []
        """The callback and the type of the exception, for each report."""
        self.announced = 0
        self.application = Application(self.callbacks, self.session, self._report)
        self.machine = Machine(self.session, self.options, self.application, self._connected)

    def _report(self, error: BaseException, where: str) -> None:
        self.defects.append((where, type(error).__name__))

    def _connected(self) -> None:
        self.announced += 1

    def say(self, *lines: str) -> Reply:
        """Feed lines; the reply to the last."""
        for line in lines:
            reply = self.machine.feed(line.encode())
        return reply

    def codes(self, *lines: str) -> list[int]:
        """Feed lines; the code of each reply."""
        return [self.machine.feed(line.encode()).code for line in lines]

    def begin(self, *recipients: str, parameters: str = "") -> None:
        """A transaction up to DATA."""
        hello = "LHLO" if self.options.lmtp else "EHLO"
        sender = f"MAIL FROM:<alice@example.org>{parameters}"
        for line in (f"{hello} client", sender, *(f"RCPT TO:<{each}>" for each in recipients)):
            assert self.say(line).code == 250, line
        assert self.say("DATA").code == 354


class PlainBody:
    """A message that is there already; what may have happened to it on the way can be set."""

    def __init__(self, octets: bytes = b"Hello\r\n") -> None:
        self.stream: Any = io.BytesIO(octets)
        self.size_exceeded = False
        self.complete = True
        self.failure: Exception | None = None
        self.failure_at_end: Exception | None = None
        """Becomes `failure` when the rest is read away."""
        self.discarded: list[bool] = []
        """Whether it was refused, for each time that it was told to discard the rest."""

    def discard(self, *, refused: bool) -> None:
        self.discarded.append(refused)
        self.failure = self.failure or self.failure_at_end


class FailingStream:
    """A stream whose read raises, and tells the body so, as DataStream does."""

    def __init__(self, body: PlainBody, error: Exception) -> None:
        self._body = body
        self._error = error

    def read(self) -> bytes:
        self._body.failure = self._error
        raise self._error
