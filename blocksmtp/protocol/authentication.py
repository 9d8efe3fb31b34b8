"""AUTH (RFC 4954): the command, the exchange that follows it, and the application's answer.

The mechanisms of `sasl` know neither base64 nor replies; all of that is here.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from ..auth import Auth, AuthResponse
from ..errors import SMTPError
from . import replies
from .application import Defect
from .replies import Reply, bad, closing, reply
from .sasl import MECHANISMS, Exchange, MechanismError

if TYPE_CHECKING:
    from .machine import Machine

# What still fits into one challenge, which is as long as a response, once it is base64.
_LONGEST_DATA = 9_000

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")

_CANCELLED = bad(501, "Authentication cancelled", "5.7.0")
_MALFORMED = bad(501, "Error: Invalid base64", "5.5.2")


class Authentication:
    """One AUTH exchange in progress."""

    def __init__(self, machine: Machine, exchange: Exchange) -> None:
        self._machine = machine
        self._exchange = exchange
        self._outcome = _CANCELLED
        self.judged = False
        """Whether the application has answered, so that the outcome is settled."""
        self._user: Any = None

    def start(self) -> Reply:
        """Run the mechanism up to its first challenge, or to its end."""
        return self._advance(None)

    def respond(self, line: str) -> Reply:
        """Hand the client's response, a line without its end, to the mechanism."""
        if self.judged:
            # Whatever the client makes of the error challenge, the refusal stands.
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
            while isinstance(item, Auth):
                self.judged = True
                self._outcome, answer = judge(self._machine, item)
                self._user = answer.user
                item = self._exchange.send(answer)
        except StopIteration:
            if self._user is not None:
                self._machine.session.user = self._user
            return self._end(self._outcome)
        except MechanismError as error:
            return self._end(bad(501, str(error), "5.5.2"))
        self._machine.authentication = self
        return Reply(334, (base64.b64encode(item).decode("ascii"),))

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
    if name not in machine.options.auth_methods:
        return bad(504, "Error: Unrecognized authentication type")
    initial = None
    if rest:
        # "=" stands for an empty initial response (RFC 4954, section 4).
        initial = b"" if rest[0] == "=" else _from_base64(rest[0])
        if initial is None:
            return _MALFORMED
    return Authentication(machine, MECHANISMS[name](initial, session.server_name)).start()


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
    machine.auth_failures += 1
    limit = machine.options.max_auth_failures
    if limit is not None and machine.auth_failures >= limit:
        return closing("Error: too many authentication failures", "4.7.0")
    return refusal


def _from_base64(text: str) -> bytes | None:
    """`text` decoded, None where it is not base64 (RFC 4648, section 4, without line ends)."""
    if _BASE64.fullmatch(text) is None:
        return None
    return base64.b64decode(text)
