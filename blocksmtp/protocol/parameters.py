"""What the parameters of MAIL and RCPT mean.

RFC 1870 (SIZE), RFC 6152 and RFC 3030 (BODY), RFC 6531 (SMTPUTF8), RFC 8689 (REQUIRETLS), RFC 4954
(AUTH), RFC 3461 (RET, ENVID, NOTIFY, ORCPT) and RFC 6533 (ORCPT of type utf-8). Parameters that
nobody here knows are kept for the application.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from typing import NamedTuple

from ..session import DSNEnvelope, DSNRcpt
from ..text import has_control_characters
from .grammar import GrammarError, decode_hexchars, decode_xtext

Parameters = Sequence[tuple[str, "str | None"]]
"""As `grammar.Path` has them: upper-case keyword, and value or None."""
Arguments = dict[str, "str | bool"]
"""As `SMTPAddress.args` has them."""

# RFC 3461, sections 4.2 and 4.4: as sent.
LONGEST_ENVID = 100
LONGEST_ORCPT = 500

BODY_TYPES = {"7BIT": "7bit", "8BITMIME": "8bitmime", "BINARYMIME": "binarymime"}
"""Each value of BODY, with the envelope's `body_type`."""

# To accept these as unknown ones would promise what nobody keeps.
PROMISES = {
    "BY": "DELIVERBY",  # RFC 2852
    "HOLDFOR": "FUTURERELEASE",  # RFC 4865
    "HOLDUNTIL": "FUTURERELEASE",
    "MT-PRIORITY": "MT-PRIORITY",  # RFC 6710
}
"""Parameters of MAIL that are known, each with the extension that must be offered for it."""


class MailParameters(NamedTuple):
    """What the parameters of MAIL said. `size` is in octets."""

    args: Arguments
    dsn: DSNEnvelope
    size: int | None = None
    body_type: str = "7bit"
    smtp_utf8: bool = False
    require_tls: bool = False


class RcptParameters(NamedTuple):
    """What the parameters of RCPT said."""

    args: Arguments
    dsn: DSNRcpt


def mail_parameters(
    parameters: Parameters, *, binarymime: bool = True, extra: Container[str] = ()
) -> MailParameters:
    """Interpret the parameters of MAIL.

    `binarymime` tells whether BODY=BINARYMIME is offered, `extra` which extensions the application
    offers itself: their parameters are kept as they are.

    Raises GrammarError: 501 for a malformed one or one that belongs to RCPT, 555 for one that is
    known but not offered.
    """
    if not parameters:
        return MailParameters({}, DSNEnvelope())
    args = _read(parameters, _OF_MAIL, _OF_RCPT, extra)
    body = _text(args, "BODY") or "7BIT"
    if body == "BINARYMIME" and not binarymime:
        raise GrammarError("Error: This BODY is not supported", code=555)
    size = _text(args, "SIZE")
    return MailParameters(
        args=args,
        size=None if size is None else int(size),
        body_type=BODY_TYPES[body],
        smtp_utf8="SMTPUTF8" in args,
        require_tls="REQUIRETLS" in args,
        dsn=DSNEnvelope(ret=_text(args, "RET"), envid=_text(args, "ENVID")),
    )


def rcpt_parameters(parameters: Parameters) -> RcptParameters:
    """Interpret the parameters of RCPT.

    Raises GrammarError: 501 for a malformed one or one that belongs to MAIL, 555 for one that is
    known but not offered.
    """
    if not parameters:
        return RcptParameters({}, DSNRcpt())
    args = _read(parameters, _OF_RCPT, _OF_MAIL)
    notify = _text(args, "NOTIFY")
    return RcptParameters(
        args=args,
        dsn=DSNRcpt(
            notify=None if notify is None else notify.split(","), orcpt=_text(args, "ORCPT")
        ),
    )


def _text(args: Arguments, keyword: str) -> str | None:
    value = args.get(keyword)
    return value if isinstance(value, str) else None


# --- values ------------------------------------------------------------------------------------

# size-value     = 1*20DIGIT                                                 (RFC 1870, 4)
_SIZE = re.compile(r"[0-9]{1,20}")

# The printable characters of ASCII, once decoded                            (RFC 3461, 4.4)
_PRINTABLE = re.compile(r"[ -~]*")

# original-recipient-address = addr-type ";" xtext                           (RFC 3461, 4.2)
# addr-type                  = atom
_ORCPT = re.compile(r"([A-Za-z0-9!#$%&'*+\-/?^_`{|}~]+);(.*)", re.DOTALL)

# utf-8-addr-unitext  = 1*(QUCHAR / EmbeddedUnicodeChar)                     (RFC 6533, 3)
# QUCHAR              = QCHAR / UTF8-2 / UTF8-3 / UTF8-4
# EmbeddedUnicodeChar = %x5C.78 "{" HEXPOINT "}"
_EMBEDDED = re.compile(r"\\x\{([^}]*)\}?")
_HEXPOINT = re.compile(r"[0-9A-Fa-f]{2,6}")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


def _bad(keyword: str) -> GrammarError:
    return GrammarError(f"Error: Bad value of {keyword}")


def _upper(value: str) -> str:
    # Outside ASCII there are letters whose capital is an ASCII one: they are not the same word.
    return value.upper() if value.isascii() else value


def _size(value: str) -> str:
    if _SIZE.fullmatch(value) is None:
        raise _bad("SIZE")
    return value


def _body(value: str) -> str:
    body = _upper(value)
    if body not in BODY_TYPES:
        raise _bad("BODY")
    return body


def _ret(value: str) -> str:
    ret = _upper(value)
    if ret not in ("FULL", "HDRS"):
        raise _bad("RET")
    return ret


def _envid(value: str) -> str:
    if len(value) > LONGEST_ENVID:
        raise _bad("ENVID")
    envid = decode_xtext(value)
    if _PRINTABLE.fullmatch(envid) is None:
        raise _bad("ENVID")
    return envid


def _notify(value: str) -> str:
    notify = _upper(value)
    conditions = notify.split(",")
    known = {"SUCCESS", "FAILURE", "DELAY"}
    if notify != "NEVER" and (
        not known.issuperset(conditions) or len(set(conditions)) < len(conditions)
    ):
        raise _bad("NOTIFY")
    return notify


def _orcpt(value: str) -> str:
    parts = _ORCPT.fullmatch(value)
    if parts is None or len(value.encode("utf-8", "surrogatepass")) > LONGEST_ORCPT:
        raise _bad("ORCPT")
    kind, address = parts[1], parts[2]
    if kind.lower() == "utf-8":
        return f"{kind};{_utf8_address(address)}"
    return f"{kind};{decode_xtext(address)}"


def _utf8_address(value: str) -> str:
    """The address of an ORCPT of type utf-8 (RFC 6533, section 3).

    It is xtext that may also hold UTF-8 and embedded characters such as "\\x{E9}".
    """
    decode_xtext(_NOT_ASCII.sub("x", value))
    address = _EMBEDDED.sub(_embedded_character, decode_hexchars(value))
    if has_control_characters(address):
        raise _bad("ORCPT")
    return address


def _embedded_character(embedded: re.Match[str]) -> str:
    point = int(embedded[1], 16) if _HEXPOINT.fullmatch(embedded[1]) else -1
    surrogate = 0xD800 <= point <= 0xDFFF
    if not embedded[0].endswith("}") or not 0 <= point <= 0x10FFFF or surrogate:
        raise _bad("ORCPT")
    return chr(point)


# --- tables ------------------------------------------------------------------------------------

# How the value of each parameter is read; None for a parameter that takes no value.
_Readers = Mapping[str, "Callable[[str], str] | None"]

_OF_MAIL: _Readers = {
    "SIZE": _size,
    "BODY": _body,
    "SMTPUTF8": None,
    "REQUIRETLS": None,
    "RET": _ret,
    "ENVID": _envid,
    "AUTH": decode_xtext,
}
_OF_RCPT: _Readers = {"NOTIFY": _notify, "ORCPT": _orcpt}


def _read(
    parameters: Parameters, known: _Readers, of_the_other: _Readers, extra: Container[str] = ()
) -> Arguments:
    """The arguments that `parameters` are. `known` belong to this command."""
    args: Arguments = {}
    for keyword, value in parameters:
        if keyword in PROMISES and PROMISES[keyword] not in extra:
            raise GrammarError("Error: Parameter not supported", code=555)
        if keyword in of_the_other:
            raise GrammarError("Error: Parameter of another command")
        if keyword in known:
            args[keyword] = _read_known(keyword, value, known[keyword])
        else:
            args[keyword] = True if value is None else decode_hexchars(value)
    return args


def _read_known(keyword: str, value: str | None, reader: Callable[[str], str] | None) -> str | bool:
    if reader is None:
        if value is not None:
            raise GrammarError(f"Error: {keyword} takes no value")
        return True
    if value is None:
        raise GrammarError(f"Error: {keyword} needs a value")
    return reader(value)
