"""The application behind a fuzzed dialogue: it keeps a diary, and misbehaves where it is told to.

What becomes of an address is in its local part: `nobody…` is refused with a text that tries to
break the reply, `long…` at length, `later…` for now, `leave…` with 421, and `broken…` makes the
callback fail. The letters of the plan choose the rest, see `LETTERS`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from blocksmtp.auth import Auth, AuthResponse
from blocksmtp.errors import SMTPError
from blocksmtp.session import SMTPAddress, SMTPSession
from tests.protocol.bench import GivenCallbacks

LETTERS = {
    "a": "on_auth accepts",
    "b": "on_auth refuses",
    "c": "on_auth refuses with an error challenge",
    "z": "on_auth fails; without any of these four there is no on_auth",
    "p": "on_connect refuses",
    "s": "on_secure refuses",
    "k": "callback_context swallows exceptions",
    "l": "on_data reads a little",
    "n": "on_data reads nothing",
    "i": "on_data reads by lines; without any of these three it reads all",
    "e": "on_data refuses in the end",
    "q": "on_data refuses with 421 in the end",
    "f": "on_data fails in the end",
    "g": "on_data fails before it reads",
    "w": "on_data swallows what a read raises",
    "o": "on_data has an outcome for each recipient",
    "t": "on_data returns a text that tries to break the reply",
}

INJECTION = "first\r\n250 2.0.0 second\r\n.\r\n\x00\x1b[2J\x85\u2028third\ud800"

ACCEPTED, REFUSED, DEFECT, EACH = "accepted", "refused", "defect", "each"


class Event(NamedTuple):
    """A call of a callback."""

    line: int
    """The number of the client's line that led to it, from 1 on."""
    name: str
    about: str
    """The raw address, or the user's name."""
    outcome: str
    envelope: tuple[str | None, tuple[str, ...]]
    """The raw sender and recipients when it was called."""
    read: bytes = b""
    """What on_data read."""
    whole: bool = False
    """Whether on_data read up to the end of the message."""


class FuzzedApplication:
    """The callbacks, and what they and the report of defects were called with."""

    def __init__(self, letters: frozenset[str]) -> None:
        self._letters = letters
        self.line = 0
        """How many of the client's lines have been heard; its owner counts."""
        self.diary: list[Event] = []
        self.reported: list[str] = []
        """Where a defect was reported, once for each."""
        self.callbacks = GivenCallbacks(
            on_connect=self._on_connect,
            on_secure=self._on_secure,
            on_auth=self._on_auth if letters & set("abcz") else None,
            on_mail_from=lambda address, session: self._judge("on_mail_from", address, session),
            on_rcpt_to=lambda address, session: self._judge("on_rcpt_to", address, session),
            on_data=self._on_data,
            callback_context=_swallowing if "k" in letters else None,
        )

    def report(self, _error: BaseException, where: str) -> None:
        """See MemoryConnection."""
        self.reported.append(where)

    @property
    def defects(self) -> list[str]:
        """Where it misbehaved, once for each."""
        return [event.name for event in self.diary if event.outcome is DEFECT]

    def _on_connect(self, session: SMTPSession) -> None:
        self._end("on_connect", "", session, REFUSED if "p" in self._letters else ACCEPTED)

    def _on_secure(self, _connection: object, session: SMTPSession) -> None:
        self._end("on_secure", "", session, REFUSED if "s" in self._letters else ACCEPTED)

    def _on_auth(self, auth: Auth, session: SMTPSession) -> Any:
        shown = repr(auth)
        for name in ("password", "access_token", "challenge_response"):
            if getattr(auth, name, None) is None:
                continue  # It is of another mechanism, or XCLIENT vouches for it.
            assert repr(dataclasses.replace(auth, **{name: "another"})) == shown, "a secret shows"
        if "z" in self._letters:
            self._end("on_auth", auth.username, session, DEFECT)
        outcome = ACCEPTED if "a" in self._letters else REFUSED
        self._note("on_auth", auth.username, session, outcome)
        if outcome is ACCEPTED:
            return auth.username or "somebody"
        return AuthResponse(data={"status": "401"} if "c" in self._letters else None)

    def _judge(self, name: str, address: SMTPAddress, session: SMTPSession) -> None:
        local_part = address.address.lower()
        if local_part.startswith("nobody"):
            self._note(name, address.raw, session, REFUSED)
            raise SMTPError(address.raw + INJECTION)
        if local_part.startswith("long"):
            self._note(name, address.raw, session, REFUSED)
            raise SMTPError(address.raw * 20, 553)
        if local_part.startswith("later"):
            self._note(name, address.raw, session, REFUSED)
            raise SMTPError(address.raw, 450)
        if local_part.startswith("leave"):
            self._note(name, address.raw, session, REFUSED)
            raise SMTPError("We are leaving", 421)
        broken = local_part.startswith("broken")
        self._end(name, address.raw, session, DEFECT if broken else ACCEPTED)

    def _on_data(self, stream: Any, session: SMTPSession) -> Any:
        letters = self._letters
        if "g" in letters:
            self._end("on_data", "", session, DEFECT)
        envelope = _shown(session)
        try:
            read, whole = _read(stream, letters)
        except (ConnectionError, SMTPError):
            # Swallowed or not, nothing may come of it.
            self.diary.append(Event(self.line, "on_data", "", REFUSED, envelope))
            if "w" in letters:
                return "all is well"
            raise
        outcome = ACCEPTED
        if "f" in letters:
            outcome = DEFECT
        elif letters & set("eq"):
            outcome = REFUSED
        elif "o" in letters and session.lmtp:
            outcome = EACH
        self.diary.append(Event(self.line, "on_data", "", outcome, envelope, read, whole))
        if outcome is DEFECT:
            raise RuntimeError("the secret detail")
        if outcome is REFUSED:
            raise SMTPError("Not wanted", 421 if "q" in letters else 554)
        if outcome is EACH:
            return [_of_recipient(address) for address in session.envelope.rcpt_to]
        return INJECTION if "t" in letters else None

    def _note(self, name: str, about: str, session: SMTPSession, outcome: str) -> None:
        self.diary.append(Event(self.line, name, about, outcome, _shown(session)))

    def _end(self, name: str, about: str, session: SMTPSession, outcome: str) -> None:
        self._note(name, about, session, outcome)
        if outcome is REFUSED:
            raise SMTPError("Not wanted")
        if outcome is DEFECT:
            raise RuntimeError("the secret detail")


def _shown(session: SMTPSession) -> tuple[str | None, tuple[str, ...]]:
    envelope = session.envelope
    sender = None if envelope.mail_from is None else envelope.mail_from.raw
    return sender, tuple(address.raw for address in envelope.rcpt_to)


def _read(stream: Any, letters: frozenset[str]) -> tuple[bytes, bool]:
    """What was read of the message, and whether that was all."""
    if "n" in letters:
        return b"", False
    if "l" in letters:
        return stream.read(3), False
    if "i" in letters:
        return b"".join(stream), True
    return stream.read(), True


def _of_recipient(address: SMTPAddress) -> str | SMTPError | None:
    """An outcome that is in the length of the address."""
    outcomes: list[Callable[[], str | SMTPError | None]] = [
        lambda: None,
        lambda: SMTPError(INJECTION, 550),
        lambda: INJECTION,
    ]
    return outcomes[len(address.address) % len(outcomes)]()


@contextlib.contextmanager
def _swallowing(_session: SMTPSession) -> Iterator[None]:
    with contextlib.suppress(Exception):
        yield
