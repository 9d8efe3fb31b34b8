"""AUTH (RFC 4954): the command, the exchange that follows it, and the application's answer.

The mechanisms of `sasl` know neither base64 nor replies; all of that is here. `AUTH=` of MAIL is
among the parameters.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from ..auth import Auth, AuthResponse, ScramAuth
from ..errors import SMTPError
from ..scram import ScramVerifier
from . import replies
from .application import Defect
from .replies import Reply, bad, closing, reply
from .sasl import (
    MECHANISMS,
    CredentialsWrong,
    Exchange,
    MechanismError,
    Surroundings,
    VerifierWanted,
)

if TYPE_CHECKING:
    from .machine import Machine

# What still fits into one challenge, which is as long as a response, once it is base64.
_LONGEST_DATA = 9_000

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")

_CANCELLED = bad(501, "Authentication cancelled", "5.7.0")
_MALFORMED = bad(501, "Error: Invalid base64", "5.5.2")


class Authentication:
    """One AUTH exchange in progress."""

    def __init__(self, machine: Machine, exchange: Exchange, *, secret: bool = False) -> None:
        """`secret`: the challenges are for no log."""
        self._machine = machine
        self._secret = secret
        self._exchange = exchange
        self._outcome = _CANCELLED
        self.refused = False
        """Whether the application has refused: whatever the client makes of the challenge that
        tells why, that stands."""
        self._user: Any = None

    def start(self) -> Reply:
        """Run the mechanism up to its first challenge, or to its end."""
        return self._advance(None)

    def respond(self, line: str) -> Reply:
        """Hand the client's response, a line without its end, to the mechanism."""
        if self.refused:
            return self._advance(b"")
        if line == "*":
            return self._end(_CANCELLED)
        response = _from_base64(line)
        if response is None:
            return self._end(_MALFORMED)
        return self._advance(response)

    def _advance(self, value: Any) -> Reply:
        try:
            item = self._exchange.send(value)
            while not isinstance(item, bytes):
                item = self._exchange.send(self._ask(item))
        except StopIteration:
            if self._user is not None:
                self._machine.session.user = self._user
            return self._end(self._outcome)
        except MechanismError as error:
            return self._end(bad(501, str(error), "5.5.2"))
        except CredentialsWrong as error:
            return self._end(_refuse(self._machine, reply(535, str(error))))
        except _NoVerifier as failed:
            return self._end(failed.reply)
        self._machine.authentication = self
        return Reply(334, (base64.b64encode(item).decode("ascii"),), secret=self._secret)

    def _ask(self, item: Auth | VerifierWanted) -> Any:
        """The application's answer to what the mechanism wants to know."""
        if isinstance(item, VerifierWanted):
            return _verifier(self._machine, item.username)
        self._outcome, answer = judge(self._machine, item)
        self._user = answer.user
        self.refused = answer.user is None
        return answer

    def _end(self, outcome: Reply) -> Reply:
        self._exchange.close()
        self._machine.authentication = None
        return outcome


def auth(machine: Machine, argument: str) -> Reply:
    """AUTH mechanism [initial-response] (RFC 4954, section 4)."""
    session = machine.session
    if session.user is not None:
        return bad(503, "Error: Already authenticated")
    if session.envelope.mail_from is not None:
        return bad(503, "Error: AUTH not allowed during a mail transaction")
    if not session.secure and not machine.options.allow_insecure_auth:
        return bad(538, "Error: Must issue a STARTTLS command first")
    # At spaces only: other white space is no separator, and might leave not even a name.
    name, *rest = filter(None, argument.split(" "))
    name = name.upper() if name.isascii() else ""
    if len(rest) > 1:
        return bad(501, "Error: Syntax: AUTH mechanism [initial-response]")
    if name not in offered_methods(machine):
        return bad(504, "Error: Unrecognized authentication type")
    initial = None
    if rest:
        # "=" stands for an empty initial response (RFC 4954, section 4).
        initial = b"" if rest[0] == "=" else _from_base64(rest[0])
        if initial is None:
            return _MALFORMED
    exchange = MECHANISMS[name](initial, _surroundings(machine))
    # The messages of SCRAM, all together, would let passwords be tried at leisure.
    return Authentication(machine, exchange, secret=name.startswith("SCRAM-")).start()


def offered_methods(machine: Machine) -> tuple[str, ...]:
    """The mechanisms that this connection can have."""
    security = machine.security
    unavailable = set()
    if "SCRAM-SHA-256-PLUS" in machine.options.auth_methods and security.channel_binding is None:
        unavailable.add("SCRAM-SHA-256-PLUS")
    if "EXTERNAL" in machine.options.auth_methods and security.client_certificate is None:
        unavailable.add("EXTERNAL")
    return tuple(name for name in machine.options.auth_methods if name not in unavailable)


def _surroundings(machine: Machine) -> Surroundings:
    security = machine.security
    return Surroundings(
        server_name=machine.session.server_name,
        channel_binding=security.channel_binding,
        binding_offered="SCRAM-SHA-256-PLUS" in offered_methods(machine),
        client_certificate=security.client_certificate,
        stores_verifiers=machine.application.has("scram_verifier"),
        decoys=machine.decoys,
    )


class _NoVerifier(Exception):
    """The application did not tell whether there is one."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


def _verifier(machine: Machine, username: str) -> ScramVerifier | None:
    """What the application has stored for the user. Raises _NoVerifier."""
    try:
        found: ScramVerifier | None = machine.application.call(
            "scram_verifier", username, machine.session, check=_verifier_or_none
        )
    except SMTPError as error:
        raise _NoVerifier(_refuse(machine, replies.refusal(error, 535))) from None
    except Defect:
        raise _NoVerifier(replies.DEFECT) from None
    return found


def _verifier_or_none(result: Any) -> ScramVerifier | None:
    if result is not None and not isinstance(result, ScramVerifier):
        raise TypeError(f"scram_verifier returned {type(result).__name__}: not a ScramVerifier")
    return result


def judge(machine: Machine, auth: Auth) -> tuple[Reply, AuthResponse]:
    """Ask the application about `auth`: its reply to the client, and its answer.

    The answer's user is None where it refuses.
    """
    refused = AuthResponse()
    try:
        if not machine.application.has("on_auth"):
            raise SMTPError("Authentication not implemented")
        answer: AuthResponse = machine.application.call(
            "on_auth", auth, machine.session, check=_answer
        )
    except SMTPError as error:
        return _refuse(machine, replies.refusal(error, 535)), refused
    except Defect:
        return replies.DEFECT, refused
    if answer.user is not None and isinstance(auth, ScramAuth) and not auth.verified:
        # The client waits for a proof that only the right password can make.
        unproven = RuntimeError("on_auth accepted a client of SCRAM without validate_password")
        machine.application.report(unproven, "on_auth")
        answer = refused
    if answer.user is None:
        code, text = answer.response_code or 535, answer.message
        refusal = reply(code, text or "Error: Authentication credentials invalid")
        return _refuse(machine, refusal), answer
    code, text = answer.response_code or 235, answer.message
    return reply(code, text or "Authentication successful"), answer


def _answer(result: Any) -> AuthResponse:
    """What `on_auth` returned, as an AuthResponse. Raises TypeError and ValueError."""
    if isinstance(result, AuthResponse):
        if result.data is not None and len(json.dumps(dict(result.data))) > _LONGEST_DATA:
            raise ValueError("the data of AuthResponse is too long for a challenge")
        return result
    return AuthResponse(result if result else None)


def _refuse(machine: Machine, refusal: Reply) -> Reply:
    """Count a refusal of credentials; beyond the limit it becomes 421.

    A temporary failure says nothing of the credentials and does not count.
    """
    if refusal.code < 500:
        return refusal
    machine.session.auth_failures += 1
    limit = machine.options.max_auth_failures
    if limit is not None and machine.session.auth_failures >= limit:
        return closing("Error: too many authentication failures", "4.7.0")
    return refusal


def _from_base64(text: str) -> bytes | None:
    """`text` decoded, None where it is not base64 (RFC 4648, section 4, without line ends)."""
    if _BASE64.fullmatch(text) is None:
        return None
    return base64.b64decode(text)
