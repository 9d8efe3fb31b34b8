"""XCLIENT and XFORWARD: what a proxy in front says of the real client.

Postfix's XCLIENT_README and XFORWARD_README. XCLIENT replaces what the session knows of the client;
XFORWARD only notes it down. Both are for trusted peers.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from ..addresses import is_hostname, normalise_address
from ..auth import XClientAuth
from ..text import has_control_characters
from .authentication import judge
from .grammar import GrammarError, decode_xtext
from .replies import Reply, bad, reply

if TYPE_CHECKING:
    from .machine import Machine

XCLIENT_ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
XFORWARD_ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")

_UNKNOWN = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
_LONGEST_VALUE = 255
_LONGEST_PROTOCOL = 64

# What of the session XCLIENT replaces, and STARTTLS puts back.
_REPLACED = (
    *("remote_address", "remote_port", "local_address", "local_port"),
    *("client_hostname", "client_hostname_verified", "x_client"),
)

_Attributes = dict[str, "str | None"]


def xclient(machine: Machine, argument: str) -> Reply:
    """XCLIENT: the session becomes that of the client named; greeting and HELO start anew."""
    if not machine.xclient_allowed:
        return bad(550, "Error: Not allowed", "5.7.0")
    if machine.session.envelope.mail_from is not None:
        return bad(503, "Error: Mail transaction in progress")
    attributes = _parse(argument, XCLIENT_ATTRIBUTES)
    if (attributes.get("PROTO") or "SMTP").upper() not in ("SMTP", "ESMTP", "LMTP"):
        raise GrammarError("Error: Bad value of PROTO")
    session = machine.session
    before = dict(vars(session))
    _replace(machine, attributes)
    session.host_name_appears_as = attributes.get("HELO")
    session.opening_command = None
    session.user = None
    machine.new_envelope()
    login = attributes.get("LOGIN")
    if login is not None:
        outcome, answer = judge(machine, XClientAuth(method="XCLIENT", username=login))
        if answer.user is None:
            vars(session).update(before, auth_failures=session.auth_failures)
            return outcome
        session.user = answer.user
    if not machine.before_xclient:
        machine.before_xclient = {name: before[name] for name in _REPLACED}
    machine.announce()
    return machine.greeting()


def _replace(machine: Machine, attributes: _Attributes) -> None:
    """Put what XCLIENT said in the place of what the session knew."""
    session = machine.session
    # A new dict: on refusal the old one is put back as it was.
    session.x_client = {**session.x_client, **attributes}
    if "ADDR" in attributes:
        session.remote_address = attributes["ADDR"] or ""
        session.remote_port = 0
    if "ADDR" in attributes or "NAME" in attributes:
        # A name that was looked up is another client's.
        unnamed = f"[{session.remote_address}]" if session.remote_address else "unknown"
        session.client_hostname = attributes.get("NAME") or unnamed
        session.client_hostname_verified = False  # Who told it may know; here nobody looked.
    if "PORT" in attributes:
        session.remote_port = int(attributes["PORT"] or 0)
    if "DESTADDR" in attributes:
        session.local_address = attributes["DESTADDR"] or ""
    if "DESTPORT" in attributes:
        session.local_port = int(attributes["DESTPORT"] or 0)


def xforward(machine: Machine, argument: str) -> Reply:
    """XFORWARD: attributes of the client that the message first came from, for the log."""
    if not machine.xforward_allowed:
        return bad(550, "Error: Not allowed", "5.7.0")
    if machine.session.envelope.mail_from is not None:
        return bad(503, "Error: Mail transaction in progress")
    attributes = _parse(argument, XFORWARD_ATTRIBUTES)
    machine.forget_old_x_forward()
    machine.session.x_forward.update(attributes)
    return reply(250, "OK")


def _parse(argument: str, known: tuple[str, ...]) -> _Attributes:
    """The attributes of a command, all of them checked. Raises GrammarError."""
    attributes: _Attributes = {}
    # At spaces only: other white space is a bad character in a value, and makes no attribute.
    for word in filter(None, argument.split(" ")):
        name, equals, encoded = word.partition("=")
        name = name.upper()
        if not equals or name not in known:
            raise GrammarError("Error: Bad attribute")
        if name in attributes:
            raise GrammarError("Error: Attribute given twice")
        attributes[name] = _value(name, encoded)
    return attributes


def _value(name: str, encoded: str) -> str | None:
    value = decode_xtext(encoded)
    if value.upper() in _UNKNOWN:
        return None
    if not value or len(value) > _LONGEST_VALUE or has_control_characters(value):
        raise GrammarError(f"Error: Bad value of {name}")
    if name in ("ADDR", "DESTADDR"):
        return _address(name, value)
    valid = {
        "PORT": value.isascii() and value.isdigit() and int(value) < 65536,
        "DESTPORT": value.isascii() and value.isdigit() and int(value) < 65536,
        "NAME": is_hostname(value),
        # XFORWARD may name any protocol that the message came by.
        "PROTO": len(value) <= _LONGEST_PROTOCOL,
        "SOURCE": value.upper() in ("LOCAL", "REMOTE"),
    }
    if not valid.get(name, True):
        raise GrammarError(f"Error: Bad value of {name}")
    return value


def _address(name: str, value: str) -> str:
    bare = value[5:] if value[:5].upper() == "IPV6:" else value
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        raise GrammarError(f"Error: Bad value of {name}") from None
    return normalise_address(bare)
