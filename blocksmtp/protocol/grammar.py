"""The syntax of commands as pure functions: text in, plain data out, or a GrammarError.

RFC 5321, sections 4.1.2 and 4.1.3 (paths, parameters, address literals), RFC 6531, section 3.3
(what is not ASCII), RFC 3461, section 4 (xtext). Each pattern stands below the ABNF it encodes.

Input comes from strangers, so the patterns are written to need no backtracking: after every
character at most one way on is open. A match then costs time linear in its input.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from ..text import has_control_characters

# Limits in octets: RFC 5321, section 4.5.3.1; RFC 1035, section 2.3.4. A path has at most 256, two
# of which are its brackets.
LONGEST_LOCAL_PART = 64
LONGEST_DOMAIN = 255
LONGEST_LABEL = 63
LONGEST_ADDRESS = 254
# Ours: there are not as many in all of the RFCs, and each is kept for as long as its address.
MOST_PARAMETERS = 20

BAD_SENDER_SYNTAX = "5.1.7"
BAD_RECIPIENT_SYNTAX = "5.1.3"
BAD_SYNTAX = "5.5.2"
BAD_PARAMETER = "5.5.4"


class GrammarError(ValueError):
    """A command whose argument is malformed.

    `message` is a text for the reply, fixed, without anything that the client sent; `code` the
    reply code and `enhanced` the status code of RFC 3463 that go with it.
    """

    def __init__(self, message: str, code: int = 501, enhanced: str = BAD_PARAMETER) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.enhanced = enhanced


class Path(NamedTuple):
    """The argument of MAIL or RCPT.

    `address` is normalised: "" for the null sender, a Unicode domain as A-labels, an IPv6 literal
    in its shortest form, needless quotes removed. `raw` is what the client wrote between the
    brackets. `parameters` are those that follow, in order, the keywords in upper case, each with
    its value as sent or None.
    """

    address: str
    raw: str
    parameters: list[tuple[str, str | None]]

    @property
    def internationalised(self) -> bool:
        """Whether the path is one for SMTPUTF8 transactions only (RFC 6531, section 3.3)."""
        return not self.raw.isascii()


# --- patterns ----------------------------------------------------------------------------------

# UTF8-non-ascii = UTF8-2 / UTF8-3 / UTF8-4                                  (RFC 6531, 3.3)
# Without C1, U+200B, U+2028, U+2029, U+2060 and U+FEFF, which no one can see: two addresses that
# look the same should be the same. Nor surrogates, which are no characters.
_NON_ASCII = "\u00a0-\u200a\u200c-\u2027\u202a-\u205f\u2061-\ud7ff\ue000-\ufefe\uff00-\U0010ffff"

# Let-dig        = ALPHA / DIGIT
_LETTER_DIGIT = "A-Za-z0-9"

# atext          = ALPHA / DIGIT / "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "/" /
#                  "=" / "?" / "^" / "_" / "`" / "{" / "|" / "}" / "~"       (RFC 5322, 3.2.3)
# atext         =/ UTF8-non-ascii                                            (RFC 6531, 3.3)
_ASCII_ATEXT = rf"{_LETTER_DIGIT}!#$%&'*+\-/=?^_`{{|}}~"
_ATEXT = _ASCII_ATEXT + _NON_ASCII

# Atom           = 1*atext
# Dot-string     = Atom *("."  Atom)
_ATOM = re.compile(rf"[{_ATEXT}]+")

# quoted-pairSMTP = %d92 %d32-126
# qtextSMTP       = %d32-33 / %d35-91 / %d93-126 / UTF8-non-ascii
# Quoted-string   = DQUOTE *(qtextSMTP / quoted-pairSMTP) DQUOTE
_QUOTED_STRING = re.compile(rf'"(?:[ !#-\[\]-~{_NON_ASCII}]|\\[ -~])*"')
_QUOTED_PAIR = re.compile(r"\\(.)")
_NEEDS_BACKSLASH = re.compile(r'["\\]')

# sub-domain     = Let-dig [Ldh-str]
# Ldh-str        = *( ALPHA / DIGIT / "-" ) Let-dig
# sub-domain    =/ U-label                                                   (RFC 6531, 3.3)
# That it neither begins nor ends with "-" is seen to elsewhere; whether what looks like
# a U-label is one, idna decides.
_LABEL = re.compile(rf"[-{_LETTER_DIGIT}{_NON_ASCII}]+")
_ASCII_LABEL = re.compile(rf"[{_LETTER_DIGIT}]+(?:-+[{_LETTER_DIGIT}]+)*")

# address-literal          = "[" ( IPv4-address-literal / IPv6-address-literal /
#                            General-address-literal ) "]"
# IPv4-address-literal     = Snum 3("."  Snum)
# IPv6-address-literal     = "IPv6:" IPv6-addr
# General-address-literal  = Standardized-tag ":" 1*dcontent
# Standardized-tag         = Ldh-str
# dcontent                 = %d33-90 / %d94-126
_LITERAL_SPAN = r"\[[^\[\]]*\]"
_ADDRESS_LITERAL = re.compile(_LITERAL_SPAN)
_IPV6_ADDRESS = re.compile(r"[0-9A-Fa-f:.]+")
_TAGGED_LITERAL = re.compile(rf"(-*[{_LETTER_DIGIT}]+(?:-+[{_LETTER_DIGIT}]+)*):([!-Z^-~]+)")

# Where a path ends: brackets and spaces do not count inside quotes, nor inside a literal. What
# stands in it is left to the patterns above.
_QUOTED_SPAN = r'"(?:[^"\\]|\\.)*"'
_BRACKETED = re.compile(rf'<((?:[^"<>\[]|{_QUOTED_SPAN}|{_LITERAL_SPAN})*)>', re.DOTALL)
_BARE = re.compile(rf'((?:[^ "<>\[]|{_QUOTED_SPAN}|{_LITERAL_SPAN})+)', re.DOTALL)

# esmtp-param    = esmtp-keyword ["=" esmtp-value]
# esmtp-keyword  = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
# esmtp-value    = 1*(%d33-60 / %d62-126 / UTF8-non-ascii)                   (RFC 6531, 3.3)
_PARAMETER = re.compile(rf"([{_LETTER_DIGIT}][{_LETTER_DIGIT}-]*)(?:=([!-<>-~{_NON_ASCII}]+))?")

# xtext          = *( xchar / hexchar )                                      (RFC 3461, 4)
# xchar          = any ASCII CHAR between "!" (33) and "~" (126), except for "+" and "="
# hexchar        = ASCII "+" immediately followed by two upper case hexadecimal digits
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEXCHARS = re.compile(r"(?:\+[0-9A-F]{2})+")

# The path that nearly every command has: a Dot-string and a Domain in ASCII. It is normalised as it
# stands, and needs no closer look where it is no longer than a label may be.
_PLAIN_PATH = re.compile(
    rf"<([{_ASCII_ATEXT}]+(?:\.[{_ASCII_ATEXT}]+)*"
    rf"@[{_LETTER_DIGIT}]+(?:(?:-+|\.)[{_LETTER_DIGIT}]+)*)>"
)

_HELO_NAME = re.compile(r"[!-~]+")


# --- paths -------------------------------------------------------------------------------------


class _BadAddress(ValueError):
    """What is wrong with an address; whether it is a sender or a recipient, the caller knows."""


def parse_path(argument: str, keyword: str, *, lenient: bool = False) -> Path:
    """The path and the parameters of MAIL or RCPT (RFC 5321, sections 4.1.1.2, 4.1.1.3, 4.1.2).

    `argument` is what follows the verb, decoded: "FROM:<bob@example.org> SIZE=10". `keyword` is
    "FROM" or "TO". With `lenient`, dots may stand anywhere, the local part may be of any length
    that the address has room for, and the brackets may be missing. Raises GrammarError.
    """
    word, colon, rest = argument.partition(":")
    if not colon or word.upper() != keyword:
        raise GrammarError(f"Error: Syntax: {keyword}:<address> expected", enhanced=BAD_SYNTAX)
    rest = rest.lstrip(" ")
    plain = _PLAIN_PATH.match(rest)
    if plain is not None and plain.end() <= LONGEST_LABEL:
        return Path(plain[1], plain[1], _parse_parameters(rest[plain.end() :]))
    try:
        raw, end = _find_path(rest, lenient)
        address = _normalise(raw, keyword, lenient)
    except _BadAddress as error:
        enhanced = BAD_SENDER_SYNTAX if keyword == "FROM" else BAD_RECIPIENT_SYNTAX
        raise GrammarError(f"Error: {error}", enhanced=enhanced) from None
    return Path(address, raw, _parse_parameters(rest[end:]))


def _find_path(text: str, lenient: bool) -> tuple[str, int]:
    """The path that `text` begins with, without its brackets, and where it ends."""
    found = _BRACKETED.match(text)
    if found is None and lenient:
        found = _BARE.match(text)
    if found is None:
        raise _BadAddress("Address in <> expected")
    return found[1], found.end()


def _normalise(path: str, keyword: str, lenient: bool) -> str:
    if not path and keyword == "FROM":
        return ""
    if path.lower() == "postmaster" and keyword == "TO":
        return path
    local_part, domain = _split_mailbox(_without_route(path), lenient)
    local_part = _normalise_local_part(local_part)
    if not lenient and len(local_part.encode()) > LONGEST_LOCAL_PART:
        raise _BadAddress(f"Local part over {LONGEST_LOCAL_PART} octets")
    if _ADDRESS_LITERAL.fullmatch(domain):
        domain = _normalise_literal(domain)
    else:
        domain = _normalise_domain(domain, lenient)
    address = f"{local_part}@{domain}"
    if len(address.encode()) > LONGEST_ADDRESS:
        raise _BadAddress(f"Address over {LONGEST_ADDRESS} octets")
    return address


def _without_route(path: str) -> str:
    """A path without its source route, which is accepted and ignored (RFC 5321, appendix C).

    Path           = "<" [ A-d-l ":" ] Mailbox ">"
    A-d-l          = At-domain *( "," At-domain )
    At-domain      = "@" Domain
    """
    if not path.startswith("@"):
        return path
    route, _, mailbox = path.partition(":")
    for host in route.split(","):
        if not host.startswith("@") or not all(map(_is_label, host[1:].split("."))):
            raise _BadAddress("Bad address syntax")
    return mailbox


def _split_mailbox(mailbox: str, lenient: bool) -> tuple[str, str]:
    """What stands before and after the "@".

    Mailbox        = Local-part "@" ( Domain / address-literal )
    Local-part     = Dot-string / Quoted-string
    """
    if mailbox.startswith('"'):
        quoted = _QUOTED_STRING.match(mailbox)
        local_part = "" if quoted is None else quoted[0]
        valid = quoted is not None
    else:
        local_part = mailbox.partition("@")[0]
        valid = _is_dot_string(local_part, lenient)
    at, domain = mailbox[len(local_part) :][:1], mailbox[len(local_part) + 1 :]
    if not valid or at != "@" or not domain:
        raise _BadAddress("Bad address syntax")
    return local_part, domain


def _is_dot_string(text: str, lenient: bool = False) -> bool:
    if lenient:
        # Where a dot may stand anywhere, it is as good as a letter.
        return _ATOM.fullmatch(text.replace(".", "a")) is not None
    return all(map(_ATOM.fullmatch, text.split(".")))


def _is_label(text: str) -> bool:
    at_an_end = text.startswith("-") or text.endswith("-")
    return not at_an_end and _LABEL.fullmatch(text) is not None


def _normalise_local_part(local_part: str) -> str:
    """A local part with as little quoting as it can have (RFC 5321, section 4.1.2, last)."""
    if not local_part.startswith('"'):
        return local_part
    content = _QUOTED_PAIR.sub(r"\1", local_part[1:-1])
    if _is_dot_string(content):
        return content
    return '"' + _NEEDS_BACKSLASH.sub(r"\\\g<0>", content) + '"'


def _normalise_domain(domain: str, lenient: bool) -> str:
    if len(domain) > LONGEST_DOMAIN:
        raise _BadAddress(f"Domain over {LONGEST_DOMAIN} octets")
    labels = [_normalise_label(label, lenient) for label in domain.split(".")]
    if not any(labels):
        raise _BadAddress("Bad domain syntax")
    return ".".join(labels)


def _normalise_label(label: str, lenient: bool) -> str:
    """A label of a domain, as an A-label where it is not ASCII (RFC 5890, section 2.3.2.1)."""
    if not label and lenient:
        return label
    # Before idna sees it: its work grows faster than its input.
    if len(label) > LONGEST_LABEL:
        raise _BadAddress(f"Label of the domain over {LONGEST_LABEL} octets")
    if not _is_label(label):
        raise _BadAddress("Bad domain syntax")
    return label if label.isascii() else _to_a_label(label)


def _to_a_label(label: str) -> str:
    import idna  # here, since few servers ever see such a domain, and its tables are large

    try:
        encoded = idna.encode(label, uts46=True).decode("ascii")
    except UnicodeError:
        raise _BadAddress("Bad internationalised domain") from None
    # UTS 46 maps some characters to a dot: such a label would be two.
    if _ASCII_LABEL.fullmatch(encoded) is None:
        raise _BadAddress("Bad internationalised domain")
    return encoded


def _normalise_literal(literal: str) -> str:
    """An address literal with its brackets (RFC 5321, section 4.1.3)."""
    inner = literal[1:-1]
    tagged = _TAGGED_LITERAL.fullmatch(inner)
    try:
        if tagged is None:
            return f"[{ipaddress.IPv4Address(inner)}]"
        if tagged[1].lower() == "ipv6":
            return f"[IPv6:{_shortest_ipv6(tagged[2])}]"
        if _is_ipv6(inner):
            raise ValueError("the tag is missing: the first group is none")
    except ValueError:
        raise _BadAddress("Bad address literal") from None
    return literal


def _shortest_ipv6(text: str) -> str:
    """An IPv6 address as RFC 5952 has it; ValueError for what is none."""
    # A zone ("%eth0") means nothing to another host.
    if _IPV6_ADDRESS.fullmatch(text) is None:
        raise ValueError("not an IPv6 address")
    address = ipaddress.IPv6Address(text)
    # RFC 5952, section 5. Python's own form of these changed with 3.13.
    if address.ipv4_mapped is not None:
        return f"::ffff:{address.ipv4_mapped}"
    return address.compressed


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _parse_parameters(text: str) -> list[tuple[str, str | None]]:
    """What follows a path: parameters, each after one or more spaces."""
    if not text:
        return []
    if not text.startswith(" "):
        raise GrammarError("Error: Space expected after the address")
    parameters: dict[str, str | None] = {}
    for word in text.split(" "):
        if not word:
            continue
        parameter = _PARAMETER.fullmatch(word)
        if parameter is None:
            raise GrammarError("Error: Malformed parameter")
        keyword = parameter[1].upper()
        if len(parameters) == MOST_PARAMETERS:
            raise GrammarError("Error: Too many parameters")
        if keyword in parameters:
            raise GrammarError("Error: Parameter given twice")
        parameters[keyword] = parameter[2]
    return list(parameters.items())


# --- values and names --------------------------------------------------------------------------


def decode_xtext(value: str) -> str:
    """The text that an xtext stands for (RFC 3461, section 4).

    Its octets are read as UTF-8, or else as Latin-1. Raises GrammarError for what is no xtext, and
    where a control character comes out.
    """
    if _XTEXT.fullmatch(value) is None:
        raise GrammarError("Error: Malformed xtext")
    return decode_hexchars(value)


def decode_hexchars(value: str) -> str:
    """`value` with each "+HH" decoded as in xtext, and everything else as it is.

    For parameters of which only the sender knows whether they are xtext. Raises GrammarError where
    a control character comes out.
    """
    try:
        decoded = _replace_hexchars(value, "utf-8")
    except UnicodeDecodeError:
        decoded = _replace_hexchars(value, "latin-1")
    if has_control_characters(decoded):
        raise GrammarError("Error: Control character in a parameter")
    return decoded


def _replace_hexchars(value: str, charset: str) -> str:
    # In runs, since a character of UTF-8 is more than one octet.
    return _HEXCHARS.sub(lambda run: bytes.fromhex(run[0].replace("+", "")).decode(charset), value)


def parse_helo_name(argument: str) -> str:
    """The name that a client gives in HELO, EHLO or LHLO (RFC 5321, section 4.1.1.1).

    Clients send all sorts of names, and to refuse an odd one would lose mail for nothing: one word
    of printable ASCII will do. Raises GrammarError.
    """
    name = argument.strip(" ")
    if not name:
        raise GrammarError("Error: Host name expected")
    if _HELO_NAME.fullmatch(name) is None or len(name) > LONGEST_DOMAIN:
        raise GrammarError("Error: Malformed host name")
    return name
