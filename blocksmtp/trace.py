"""What a server puts in front of a message: `Received`, and `Return-Path` where it ends its way.

RFC 5321, section 4.4; RFC 3848; RFC 8314, section 4.3.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from .text import CONTROL_CHARACTERS

if TYPE_CHECKING:
    from .session import SMTPAddress, SMTPSession

# What is in no domain, address literal or cipher name: shown as "?". Clients say what they like in
# HELO, and a quote or a semicolon would change what the rest of the header means.
_UNSAFE = re.compile(r"[^A-Za-z0-9._:-]")
_LITERAL = re.compile(r"\[[A-Za-z0-9.:]+\]")
# An address may hold a quoted local part, with nearly anything in it.
_UNSAFE_ADDRESS = re.compile(r"[^ -~]")


def address_literal(address: str) -> str:
    """`address` in brackets, as RFC 5321, section 4.1.3 writes it: "[IPv6:2001:db8::1]"."""
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return f"[{_safe(address)}]"
    return f"[IPv6:{address}]" if version == 6 else f"[{address}]"


def stored_header(session: SMTPSession, recipient: SMTPAddress | None = None) -> bytes:
    """All that goes in front of a message that is stored: `Return-Path`, then `Received`.

    With a `recipient`, for a copy that is theirs alone: `Delivered-To` is in between.
    """
    mail_from = session.envelope.mail_from
    fields = [f"Return-Path: <{_one_line(mail_from.address if mail_from else '')}>"]
    if recipient is not None:
        fields.append(f"Delivered-To: {_one_line(recipient.address)}")
    # Addresses with SMTPUTF8 are written as they are (RFC 6532).
    header = "".join(f"{each}\r\n" for each in fields).encode("utf-8", "replace")
    return header + received_header(session, recipient)


def _one_line(address: str) -> str:
    return CONTROL_CHARACTERS.sub("?", address)


def received_header(session: SMTPSession, recipient: SMTPAddress | None = None) -> bytes:
    """The trace header for the session's current message, as bytes that end in CRLF.

    It names the `recipient` of a copy, or else the only recipient of the message.
    """
    from email.utils import formatdate  # here, since it brings half of `email` and `urllib` along

    helo = session.host_name_appears_as or session.client_hostname or "unknown"
    lines = [f"Received: from {_safe(helo)}"]
    if session.remote_address:
        hostname = _safe(session.client_hostname)
        literal = address_literal(session.remote_address)
        # A name that is itself "[address]" would only repeat the literal.
        named = "" if hostname.startswith("[") or not hostname else f"{hostname} "
        lines.append(f"({named}{literal})")
    if session.tls_options is not None:
        tls = session.tls_options
        lines.append(f"(using {_safe(tls.version or 'TLS')} with cipher {_safe(tls.name)})")
    # The message's own number: transactions that were accepted before it, and itself.
    message_id = f"{session.id}-{session.transaction + 1}"
    lines.append(f"by {_safe(session.server_name)}")
    lines.append(f"with {session.transmission_type} id {message_id}")
    recipients = session.envelope.rcpt_to if recipient is None else [recipient]
    # More than one would tell each recipient of the others (RFC 5321, section 7.6).
    if len(recipients) == 1 and recipients[0].address.isascii():
        lines.append(f"for <{_UNSAFE_ADDRESS.sub('?', recipients[0].address)}>")
    return ("\r\n\t".join(lines) + f";\r\n\t{formatdate(localtime=True)}\r\n").encode("ascii")


def _safe(text: str) -> str:
    return text if _LITERAL.fullmatch(text) else _UNSAFE.sub("?", text)
