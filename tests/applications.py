"""The applications of the dialogues: callbacks by name, and a record of their calls."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any

from blocksmtp.auth import (
    Auth,
    AuthResponse,
    CramMD5Auth,
    OAuthBearerAuth,
    ScramAuth,
    XClientAuth,
    XOAuth2Auth,
)
from blocksmtp.errors import SMTPError
from blocksmtp.scram import ScramVerifier
from blocksmtp.session import SMTPAddress, SMTPSession

Callback = Callable[..., Any]

# --- any callback ------------------------------------------------------------------------------


def _refusing(message: str, code: int | None = None, enhanced: str | None = None) -> Callback:
    def refuse(*_arguments: object) -> None:
        raise SMTPError(message, code, enhanced)

    return refuse


def _accept(*_arguments: object) -> None:
    pass


def fail(*_arguments: object) -> None:
    raise RuntimeError("the secret detail")


def leave(*_arguments: object) -> None:
    raise SystemExit("the secret detail")


def return_coroutine(*_arguments: object) -> object:
    async def later() -> None: ...

    return later()


# --- one address, so that the others get through -----------------------------------------------


def refuse_nobody(address: SMTPAddress, _session: SMTPSession) -> None:
    if address.address.startswith("nobody@"):
        raise SMTPError("No such user")
    if address.address.startswith("later@"):
        raise SMTPError("Mailbox is locked", 450)
    if address.address.startswith("broken@"):
        raise RuntimeError("the secret detail")


# --- on_auth -----------------------------------------------------------------------------------

PASSWORDS = {"alice": "secret", "jürgen": "grüße"}
TOKENS = {"alice": "ya29.token"}


def accounts(auth: Any, _session: SMTPSession) -> str | None:
    """Accept whoever knows the password or has the token; XCLIENT is taken at its word."""
    if isinstance(auth, XClientAuth):
        right = auth.username in PASSWORDS
    elif isinstance(auth, CramMD5Auth):
        right = auth.validate_password(PASSWORDS.get(auth.username, ""))
    elif isinstance(auth, ScramAuth):
        right = auth.validate_password(PASSWORDS.get(auth.username))
    elif isinstance(auth, (XOAuth2Auth, OAuthBearerAuth)):
        right = auth.access_token == TOKENS.get(auth.username)
    else:
        right = auth.password == PASSWORDS.get(auth.username)
    return auth.username if right else None


def accounts_with_data(auth: Auth, session: SMTPSession) -> AuthResponse:
    return AuthResponse(accounts(auth, session), data={"status": "401"})


def accounts_with_message(auth: Auth, session: SMTPSession) -> AuthResponse:
    user = accounts(auth, session)
    if user is None:
        return AuthResponse(message="Who are you?", response_code=554)
    return AuthResponse(user, message=f"Welcome, {user}", response_code=250)


def whoever_it_is(_auth: Auth, _session: SMTPSession) -> str:
    return "whoever"


def whoever_is_verified(auth: ScramAuth, _session: SMTPSession) -> str:
    if not auth.verified:
        raise RuntimeError("not verified")
    return auth.username


def verifiers(username: str, _session: SMTPSession) -> ScramVerifier | None:
    password = PASSWORDS.get(username)
    if password is None:
        return None
    return ScramVerifier.from_password(password, iterations=4096, salt=b"salt" * 4)


def bare_text(*_arguments: object) -> str:
    return "a text"


def user_zero(_auth: Auth, _session: SMTPSession) -> AuthResponse:
    return AuthResponse(0)


def bare_zero(_auth: Auth, _session: SMTPSession) -> int:
    return 0


def data_that_is_no_json(_auth: Auth, _session: SMTPSession) -> AuthResponse:
    return AuthResponse(data={"status": object()})


# --- on_data -----------------------------------------------------------------------------------


def _note(session: SMTPSession, octets: bytes) -> None:
    session.state["read"] = session.state.get("read", b"") + octets


def read_all(stream: Any, session: SMTPSession) -> None:
    _note(session, stream.read())


def read_nothing(_stream: Any, _session: SMTPSession) -> None:
    pass


def read_little(stream: Any, session: SMTPSession) -> None:
    _note(session, stream.read(3))


def read_then_refuse(stream: Any, session: SMTPSession) -> None:
    read_all(stream, session)
    raise SMTPError("We do not like it", 554)


def read_little_then_refuse(stream: Any, session: SMTPSession) -> None:
    read_little(stream, session)
    raise SMTPError("We do not like the beginning", 554)


def read_then_fail(stream: Any, session: SMTPSession) -> None:
    read_all(stream, session)
    fail()


def swallow_errors(stream: Any, session: SMTPSession) -> str:
    with contextlib.suppress(Exception):
        read_all(stream, session)
    return "all is well"


def _returning(result: Any) -> Callback:
    def answer(stream: Any, session: SMTPSession) -> Any:
        read_all(stream, session)
        return result

    return answer


def _outcome(address: SMTPAddress) -> str | SMTPError | None:
    """What becomes of the message for one recipient of LMTP, by the local part."""
    outcomes: dict[str, str | SMTPError] = {
        "nobody": SMTPError("No such mailbox", 550, "5.1.1"),
        "later": SMTPError("Mailbox is locked"),
        "carol": "stored for carol",
    }
    return outcomes.get(address.address.partition("@")[0])


def each_in_a_list(stream: Any, session: SMTPSession) -> list[str | SMTPError | None]:
    read_all(stream, session)
    return [_outcome(address) for address in session.envelope.rcpt_to]


def each_in_a_tuple(stream: Any, session: SMTPSession) -> tuple[str | SMTPError | None, ...]:
    return tuple(each_in_a_list(stream, session))


def refused_in_a_mapping(stream: Any, session: SMTPSession) -> dict[str, SMTPError]:
    read_all(stream, session)
    outcomes = {each.address: _outcome(each) for each in session.envelope.rcpt_to}
    return {key: value for key, value in outcomes.items() if isinstance(value, SMTPError)}


# --- callback_context --------------------------------------------------------------------------


@contextlib.contextmanager
def swallowing(_session: SMTPSession) -> Iterator[None]:
    with contextlib.suppress(Exception):
        yield


@contextlib.contextmanager
def failing(_session: SMTPSession) -> Iterator[None]:
    yield
    fail()


CALLBACKS: Mapping[str, Callback | None] = {
    "none": None,
    "refuse": _refusing("Not wanted"),
    "refuse_421": _refusing("We are leaving", 421),
    "refuse_450": _refusing("Not now", 450),
    "refuse_553": _refusing("Not like this", 553),
    "refuse_for_a_reason": _refusing("Unauthenticated mail", None, "5.7.26"),
    "refuse_for_now": _refusing("Greylisted", None, "4.7.1"),
    "refuse_in_lines": _refusing("first\r\n250 second\x00\u2028third", 550),
    "refuse_in_german": _refusing("Grüße, aber nein", 550),
    "refuse_at_length": _refusing(" ".join(["word"] * 120), 550),
    "refuse_auth_for_now": _refusing("The directory is down", 454),
    "fail": fail,
    "leave": leave,
    "return_coroutine": return_coroutine,
    "refuse_nobody": refuse_nobody,
    "accounts": accounts,
    "accounts_with_data": accounts_with_data,
    "accounts_with_message": accounts_with_message,
    "whoever_it_is": whoever_it_is,
    "whoever_is_verified": whoever_is_verified,
    "verifiers": verifiers,
    "bare_text": bare_text,
    "accept": _accept,
    "whois": lambda address, _session: f"Bob <{address.address}>",
    "user_zero": user_zero,
    "bare_zero": bare_zero,
    "data_that_is_no_json": data_that_is_no_json,
    "read_all": read_all,
    "read_nothing": read_nothing,
    "read_little": read_little,
    "read_then_refuse": read_then_refuse,
    "read_little_then_refuse": read_little_then_refuse,
    "read_then_fail": read_then_fail,
    "swallow_errors": swallow_errors,
    "queued": _returning("queued as 1234"),
    "queued_in_lines": _returning("one\r\n354 two"),
    "return_number": _returning(5),
    "return_list": _returning([None]),
    "return_list_with_number": _returning([None, 5]),
    "each_in_a_list": each_in_a_list,
    "each_in_a_tuple": each_in_a_tuple,
    "refused_in_a_mapping": refused_in_a_mapping,
    "leave_one_out": _returning([SMTPError("We are leaving", 421), None]),
    "swallowing": swallowing,
    "failing": failing,
}


class RecordedApplication:
    """Callbacks by their names in CALLBACKS, and what they were called with.

    It is what the protocol machine wants of a server; its callbacks can be given to one as well.
    """

    def __init__(self, names: Mapping[str, str], shown: tuple[str, ...] = ()) -> None:
        """`shown` are attributes of the session that stand at the end of each line of `calls`."""
        self.calls: list[str] = []
        self.connected = 0
        """How often `on_connect` was called."""
        self.closed = 0
        """How often `on_close` was called."""
        self._shown = shown
        chosen = {"on_data": "read_all", **names}
        given = {name: CALLBACKS[chosen.pop(name, "none")] for name in _NAMES}
        if chosen:
            raise ValueError(f"no callbacks: {', '.join(chosen)}")
        self.callback_context = given["callback_context"]
        self.scram_verifier = given["scram_verifier"]
        self.on_vrfy = self._recorded("on_vrfy", given["on_vrfy"], _described_address)
        self.on_rset = given["on_rset"] and self._recorded_rset(given["on_rset"])
        self.on_secure = given["on_secure"]
        self.on_auth = self._recorded("on_auth", given["on_auth"], _described_auth)
        self.on_mail_from = self._recorded(
            "on_mail_from", given["on_mail_from"] or _accept, _described_address
        )
        self.on_rcpt_to = self._recorded(
            "on_rcpt_to", given["on_rcpt_to"] or _accept, _described_address
        )
        self.on_data = self._recorded("on_data", given["on_data"], _described_read)
        self.on_connect = self._counted("connected", given["on_connect"] or _accept)
        self.on_close = self._counted("closed", given["on_close"] or _accept)

    @property
    def callbacks(self) -> dict[str, Callback | None]:
        """As options of a server."""
        return {name: getattr(self, name) for name in _NAMES}

    def _counted(self, counter: str, callback: Callback) -> Callback | None:
        def count(session: SMTPSession) -> Any:
            setattr(self, counter, getattr(self, counter) + 1)
            return callback(session)

        return count

    def _recorded_rset(self, callback: Callback) -> Callback:
        def record(session: SMTPSession) -> Any:
            recipients = [str(address) for address in session.envelope.rcpt_to]
            self.calls.append(f"on_rset {recipients}")
            return callback(session)

        return record

    def defect(self, error: BaseException, where: str = "") -> None:
        """Told of defects, by the machine or as a listener of "error"."""
        self.calls.append(f"defect {type(error).__name__}")

    def _recorded(
        self,
        name: str,
        callback: Callback | None,
        describe: Callable[[Any, SMTPSession], str],
    ) -> Callback | None:
        if callback is None:
            return None

        def record(first: Any, session: SMTPSession) -> Any:
            # Before it can change what is shown.
            shown = ", ".join(f"{each}={attrgetter(each)(session)!r}" for each in self._shown)
            try:
                return callback(first, session)
            finally:
                line = f"{name} {describe(first, session)}"
                self.calls.append(f"{line}; {shown}" if shown else line)

        return record


_NAMES = (
    *("on_connect", "on_secure", "on_auth", "on_mail_from", "on_rcpt_to", "on_data", "on_close"),
    *("on_vrfy", "on_rset", "scram_verifier", "callback_context"),
)


def _described_auth(auth: Auth, _session: SMTPSession) -> str:
    return f"{auth.method} {auth.username}"


def _described_address(address: SMTPAddress, _session: SMTPSession) -> str:
    words = [f"<{address.address}>"]
    for key, value in address.args.items():
        words.append(key if value is True else f"{key}={value}")
    return " ".join(words)


def _described_read(_stream: object, session: SMTPSession) -> str:
    """What the callback read of the message."""
    return repr(session.state.pop("read", b""))
