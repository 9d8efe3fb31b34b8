"""The commands without consequences: VRFY, HELP, NOOP and QUIT."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..errors import SMTPError
from ..session import SMTPAddress
from ..text import has_control_characters
from . import replies
from .application import Defect
from .grammar import GrammarError, parse_path
from .replies import Next, Reply, bad, reply

if TYPE_CHECKING:
    from .machine import Machine

# What was not UTF-8.
_SURROGATE = re.compile("[\ud800-\udfff]")

_NO_PROMISES = reply(252, "Try to send something. No promises though", "2.5.0")
_OK = reply(250, "OK")
_BYE = Reply(221, ("Bye",), "2.0.0", Next.CLOSE)


def vrfy(machine: Machine, argument: str) -> Reply:
    """VRFY: neither yes nor no, or address harvesters would ask (RFC 5321, section 7.3).

    Unless the application wants to answer: then as RCPT would (section 3.5).
    """
    # While `on_data` runs, as between two chunks, no other callback does.
    if machine.is_receiving or not machine.application.has("on_vrfy"):
        return _NO_PROMISES
    if not argument:
        return bad(501, "Error: VRFY needs an argument")
    address = _address(argument, lenient=machine.options.lenient_address_parsing)
    utf8 = "SMTPUTF8" in address.args
    try:
        text = machine.application.call("on_vrfy", address, machine.session, check=_text)
    except SMTPError as error:
        answer = replies.refusal(error, 550, "5.1.1")
    except Defect:
        return replies.DEFECT
    else:
        answer = reply(250, text or f"<{address.address}>", "2.1.5")
    return answer.in_utf8() if utf8 else answer


def _address(argument: str, *, lenient: bool) -> SMTPAddress:
    """The mailbox that the argument is, or the name of a user (RFC 5321, section 3.5.1).

    SMTPUTF8 may follow (RFC 6531, section 3.7.4.2). Raises GrammarError for what cannot be shown.
    """
    given, _, parameter = argument.rpartition(" ")
    utf8 = parameter.isascii() and parameter.upper() == "SMTPUTF8" and bool(given)
    word = given.rstrip(" \t") if utf8 else argument
    args: dict[str, str | bool] = {"SMTPUTF8": True} if utf8 else {}
    bare = word[1:-1] if word.startswith("<") and word.endswith(">") else word
    if has_control_characters(bare) or _SURROGATE.search(bare) or not bare:
        raise GrammarError("Error: Malformed address")
    if not bare.isascii() and not utf8:
        raise GrammarError("Error: internationalised address needs SMTPUTF8", 553, "5.6.7")
    try:
        path = parse_path(f"TO:<{bare}>", "TO", lenient=lenient)
    except GrammarError:
        return SMTPAddress(bare, bare, args)
    # What a ">" inside cut off is no mailbox with something behind it.
    return SMTPAddress(path.address if path.raw == bare else bare, bare, args)


def _text(result: Any) -> str | None:
    if result is not None and not isinstance(result, str):
        raise TypeError(f"on_vrfy returned {type(result).__name__}: not None or str")
    return result


def help_(machine: Machine, _argument: str) -> Reply:
    """HELP: the commands there are (RFC 5321, section 4.1.1.8)."""
    return reply(214, "Commands: " + " ".join(machine.offered_commands()))


def noop(_machine: Machine, _argument: str) -> Reply:
    """NOOP: nothing (RFC 5321, section 4.1.1.9)."""
    return _OK


def quit_(_machine: Machine, _argument: str) -> Reply:
    """QUIT: the connection ends (RFC 5321, section 4.1.1.10)."""
    return _BYE
