"""Failures that a test orders: refusals, delays and broken connections, each at its command."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..errors import ClientGone, SMTPError
from ..options import COMMANDS
from ..protocol import replies
from ..protocol.grammar import GrammarError, parse_path
from ..protocol.machine import Machine
from ..protocol.replies import Next, Reply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..protocol.transaction import Body
    from ..wire.stream import DataStream

_Fault = TypeVar("_Fault", bound="Fault")


@dataclass
class Fault:
    """What is to happen at `command`, `times` more times (None: always).

    With `to` only at a recipient of this address: the one that RCPT names, or one of the envelope.
    """

    command: str
    to: str | None = None
    times: int | None = None

    def fits(self, command: str, recipients: Iterable[str]) -> bool:
        """Whether it is for `command` about these recipients."""
        if self.command != command or self.times == 0:
            return False
        return self.to is None or self.to.lower() in (each.lower() for each in recipients)


@dataclass
class Refusal(Fault):
    """The command gets this reply."""

    code: int = 450
    message: str = ""


@dataclass
class Delay(Fault):
    """The command gets its reply so many seconds later."""

    seconds: float = 0.0


@dataclass
class Break(Fault):
    """The connection breaks in place of the reply; in a message, after so many `octets` of it."""

    octets: int | None = None


class Faults:
    """The faults of a server. Of each kind the last that was ordered comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._over = threading.Event()

    def add(self, fault: Fault) -> None:
        """Order one. Raises TypeError or ValueError for what cannot be."""
        known = ("CONNECT", *COMMANDS, "MESSAGE")
        if not isinstance(fault.command, str):
            raise TypeError(f"a command must be str, not {type(fault.command).__name__}")
        fault.command = fault.command.upper()
        if fault.command not in known:
            raise ValueError(f"unknown command {fault.command!r}; known are {', '.join(known)}")
        if fault.times is not None and (not isinstance(fault.times, int) or fault.times < 1):
            raise ValueError(f"times must be a whole number from 1, or None, not {fault.times!r}")
        if fault.to is not None and not isinstance(fault.to, str):
            raise TypeError(f"to must be str, not {type(fault.to).__name__}")
        if fault.to is not None and fault.command not in ("RCPT", "DATA", "BDAT", "MESSAGE"):
            raise ValueError(f"{fault.command} is for no recipient: leave `to` out")
        with self._lock:
            self._faults.insert(0, fault)

    def clear(self) -> None:
        """Forget them all."""
        with self._lock:
            self._faults.clear()

    def end(self) -> None:
        """End every delay, now and from now on."""
        self._over.set()

    def take(
        self, kind: type[_Fault], command: str, recipients: Iterable[str] = ()
    ) -> _Fault | None:
        """The fault of this kind that now happens, if there is one."""
        recipients = list(recipients)
        with self._lock:
            for fault in self._faults:
                if isinstance(fault, kind) and fault.fits(command, recipients):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def pause(self, command: str, recipients: Iterable[str] = ()) -> None:
        """Wait as long as is ordered for `command`."""
        delay = self.take(Delay, command, recipients)
        if delay is not None:
            self._over.wait(delay.seconds)

    def happen(self, command: str, recipients: Iterable[str] = ()) -> Refusal | None:
        """Let what is ordered for `command` happen; a refusal is for the caller to say.

        Raises ClientGone where the connection is to break.
        """
        recipients = list(recipients)
        self.pause(command, recipients)
        if self.take(Break, command, recipients) is not None:
            raise ClientGone(f"broken at {command}, as the test wants")
        return self.take(Refusal, command, recipients)


class FaultyMachine(Machine):
    """The protocol, but for what a test has ordered."""

    def __init__(self, faults: Faults, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._faults = faults

    def open(self) -> Reply:
        """See Machine."""
        refusal = self._faults.happen("CONNECT")
        if refusal is None:
            return super().open()
        # RFC 5321, section 4.3.2: no other code stands in this place.
        code = 421 if refusal.code < 500 else 554
        return Reply(code, (refusal.message,), replies.usual_status(code), Next.CLOSE)

    def run(self, line: str) -> Reply:
        """See Machine."""
        verb, _, argument = line.partition(" ")
        self.verb = verb = verb.upper()
        if verb == "DATA":
            # Of a break after DATA the message comes first: see `receive`.
            self._faults.pause(verb, self._recipients)
            refusal = self._faults.take(Refusal, verb, self._recipients)
        else:
            refusal = self._faults.happen(verb, self._named(verb, argument))
        return (
            super().run(line) if refusal is None else replies.reply(refusal.code, refusal.message)
        )

    def receive(self, body: Body) -> list[Reply]:
        """See Machine."""
        broken = self._faults.take(Break, "DATA", self._recipients)
        if broken is not None and broken.octets is not None:
            with contextlib.suppress(SMTPError):  # for a bare newline
                cast("DataStream", body.stream).read(broken.octets)
            raise ClientGone("broken inside the message, as the test wants")
        if broken is not None or self._faults.take(Break, "MESSAGE", self._recipients) is not None:
            body.discard(refused=False)
            self._faults.pause("MESSAGE", self._recipients)
            raise ClientGone("broken after the message, as the test wants")
        return super().receive(body)

    @property
    def _recipients(self) -> list[str]:
        return [address.address for address in self.session.envelope.rcpt_to]

    def _named(self, verb: str, argument: str) -> list[str]:
        """The recipients that a command is about."""
        if verb != "RCPT":
            return self._recipients
        try:
            return [parse_path(argument.strip(), "TO", lenient=True).address]
        except GrammarError:
            return []


def refusal_of_message(
    faults: Faults, recipients: list[str], *, lmtp: bool
) -> list[SMTPError | None] | None:
    """What becomes of a message that has come: raises SMTPError to refuse it.

    In LMTP a refusal of one recipient is that recipient's only (RFC 2033, section 4.2); returns
    one result for each there.
    """
    faults.pause("MESSAGE", recipients)
    if not lmtp:
        refusal = faults.take(Refusal, "MESSAGE", recipients)
        if refusal is not None:
            raise SMTPError(refusal.message, refusal.code)
        return None
    results: list[SMTPError | None] = []
    for recipient in recipients:
        refusal = faults.take(Refusal, "MESSAGE", [recipient])
        results.append(None if refusal is None else SMTPError(refusal.message, refusal.code))
    return results
