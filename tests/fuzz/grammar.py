"""Target `grammar`: the arguments of commands, which are pure functions of one line.

Whatever is accepted holds no control character, keeps within its limit, and is a normal form: read
again it comes out as it is.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import TypeVar

from blocksmtp.protocol import grammar, xclient
from blocksmtp.protocol.grammar import GrammarError, Path
from blocksmtp.protocol.parameters import mail_parameters, rcpt_parameters
from blocksmtp.session import SMTPAddress, SMTPEnvelope, SMTPSession

_Result = TypeVar("_Result")

# C0, DEL, C1, the Unicode line ends, and surrogates, which are no characters.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_REPLY_TEXT = re.compile(r"[ -~]{1,200}")
_MAILBOX = re.compile(r'("(?:[^"\\]|\\.)*"|[^"@]+)@(.+)')
_KEYWORD = re.compile(r"[A-Z0-9][A-Z0-9-]*")


def grammar_target(octets: bytes) -> None:
    """One argument, read as that of every command."""
    # As the machine decodes a line.
    text = octets.decode("utf-8", "surrogateescape")
    for lenient in (False, True):
        _path(text, "FROM", lenient=lenient)
        _path(text, "TO", lenient=lenient)
    _values(text)
    _attributes(text, xclient.XCLIENT_ATTRIBUTES)
    _attributes(text, xclient.XFORWARD_ATTRIBUTES)


def _accepted(read: Callable[[], _Result]) -> _Result | None:
    """What `read` returns, None where it refuses; a refusal is one that can be sent."""
    try:
        return read()
    except GrammarError as error:
        refusal = error
    assert 500 <= refusal.code <= 599, refusal.code
    assert refusal.enhanced.startswith("5."), refusal.enhanced
    assert _REPLY_TEXT.fullmatch(refusal.message), refusal.message
    return None


def _clean(text: str) -> None:
    assert _FORBIDDEN.search(text) is None, text


# --- paths -------------------------------------------------------------------------------------


def _path(text: str, keyword: str, *, lenient: bool) -> None:
    path = _accepted(lambda: grammar.parse_path(text, keyword, lenient=lenient))
    if path is None:
        return
    _clean(path.address)
    _clean(path.raw)
    assert path.raw in text, "the raw address is not what was sent"
    assert len(path.address.encode()) <= 254, path.address
    if not path.address.endswith("]"):
        labels = path.raw.rpartition("@")[2].count(".")
        assert path.address.rpartition("@")[2].count(".") == labels, "a label that became two"
    _parts(path.address, keyword, lenient=lenient)
    if not lenient:
        relaxed = grammar.parse_path(text, keyword, lenient=True)
        assert relaxed.address == path.address, "what is right is read otherwise when lenient"
    again = grammar.parse_path(f"{keyword}:<{path.address}>", keyword, lenient=lenient)
    assert again.address == path.address, (again.address, path.address)
    assert again.parameters == []
    _parameters(path)
    _header(path.address)


def _parts(address: str, keyword: str, *, lenient: bool) -> None:
    if not address:
        assert keyword == "FROM", "a recipient that is nobody"
        return
    mailbox = _MAILBOX.fullmatch(address)
    if mailbox is None:
        assert (keyword, address.lower()) == ("TO", "postmaster"), address
        return
    local_part, domain = mailbox.groups()
    assert local_part, address
    assert domain.isascii(), "a domain that was not made A-labels"
    assert 0 < len(domain) <= 255, domain
    assert lenient or len(local_part.encode()) <= 64, address
    # No quoting, no comment and no second address to whoever reads it next.
    if not local_part.startswith('"'):
        assert not set(local_part) & set(' "<>()[]\\,;:@'), address
    # What stands in a literal may be nearly anything, another "@" for one.
    literal = domain[0] == "[" and domain[-1] == "]"
    if literal and domain[:6].lower() == "[ipv6:":
        inner = domain[6:-1]
        assert "%" not in inner, address
        assert ipaddress.IPv6Address(inner).packed, address
    assert not set(domain.strip("[]")) & set(" []" if literal else ' "<>()[]\\,;:@'), address


def _parameters(path: Path) -> None:
    keywords = [keyword for keyword, _ in path.parameters]
    assert len(set(keywords)) == len(keywords), keywords
    assert all(map(_KEYWORD.fullmatch, keywords)), keywords
    mail = _accepted(lambda: mail_parameters(path.parameters))
    if mail is not None:
        _arguments(mail.args, keywords)
        assert mail.body_type in ("7bit", "8bitmime", "binarymime")
        assert mail.size is None or 0 <= mail.size < 10**20
        assert mail.dsn.ret in (None, "FULL", "HDRS")
        _clean(mail.dsn.envid or "")
        assert (mail.dsn.envid or "").isascii()
        assert mail.smtp_utf8 is ("SMTPUTF8" in keywords)
        assert mail.require_tls is ("REQUIRETLS" in keywords)
    rcpt = _accepted(lambda: rcpt_parameters(path.parameters))
    if rcpt is not None:
        _arguments(rcpt.args, keywords)
        notify = rcpt.dsn.notify
        if notify is not None and notify != ["NEVER"]:
            assert set(notify) <= {"SUCCESS", "FAILURE", "DELAY"}, notify
            assert len(set(notify)) == len(notify) > 0, notify
        _clean(rcpt.dsn.orcpt or "")


def _arguments(args: dict[str, str | bool], keywords: list[str]) -> None:
    assert list(args) == keywords
    for value in args.values():
        assert value is True or isinstance(value, str)
        _clean("" if value is True else str(value))


def _header(address: str) -> None:
    """The address cannot break the header in which it will stand."""
    session = SMTPSession(id="fuzz", remote_address="192.0.2.7", client_hostname="client.example")
    session.envelope = SMTPEnvelope(rcpt_to=[SMTPAddress(address)])
    header = session.received_header()
    assert header.endswith(b"\r\n")
    for line in header[:-2].split(b"\r\n\t"):
        assert re.fullmatch(rb"[ -~]+", line), header


# --- values and names --------------------------------------------------------------------------


def _values(text: str) -> None:
    decoded = _accepted(lambda: grammar.decode_xtext(text))
    if decoded is not None:
        _clean(decoded)
        assert len(decoded.encode()) <= 2 * len(text), "an xtext that grows"
        # "+" and "=" never stand for themselves, so this is the way back (RFC 3461, section 4).
        again = "".join(
            char if "!" <= char <= "~" and char not in "+=" else _hexchars(char) for char in decoded
        )
        assert grammar.decode_xtext(again) == decoded
    decoded = _accepted(lambda: grammar.decode_hexchars(text))
    if decoded is not None and text.isprintable():
        _clean(decoded)
    name = _accepted(lambda: grammar.parse_helo_name(text))
    if name is not None:
        _clean(name)
        assert name.isascii()
        assert " " not in name
        assert 0 < len(name) <= 255
        assert grammar.parse_helo_name(name) == name


def _hexchars(char: str) -> str:
    return "".join(f"+{octet:02X}" for octet in char.encode())


def _attributes(text: str, known: tuple[str, ...]) -> None:
    attributes = _accepted(lambda: xclient._parse(text, known))
    for name, value in (attributes or {}).items():
        assert name in known
        if value is None:
            continue
        _clean(value)
        assert 0 < len(value) <= 255, value
        if name in ("PORT", "DESTPORT"):
            assert 0 <= int(value) <= 65535
        if name in ("ADDR", "DESTADDR"):
            again = xclient._parse(f"{name}={value}", known)
            assert again == {name: value}, "an address that is not normalised"
