"""One connection to another mail server, and the message that is handed to it."""

from __future__ import annotations

import contextlib
import itertools
import re
import smtplib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from ..errors import SMTPError
from ..text import printable
from ..trace import received_header
from .incoming import spooled_pieces

if TYPE_CHECKING:
    from ..session import SMTPAddress, SMTPEnvelope, SMTPSession

_MOST_HOPS = 100
_LONGEST_HEADER_LINE = 65_536
_ENHANCED_CODE = re.compile(r"([245]\.\d{1,3}\.\d{1,3}) +")
_NOT_XTEXT = re.compile(rb"[^!-~]|[+=]")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")

# They say something of us, and nothing of the message: 421 is about the connection, the others
# (RFC 4954, section 6) about a login that the server wants and we were not told of.
_ABOUT_US = (421, 530, 534, 535, 538)


class Away(Exception):
    """The other server cannot be reached, or will not talk with us; its text is for the log."""


class Relay:
    """A connection to the other server, and what it said to the recipients of an envelope."""

    def __init__(self, client: smtplib.SMTP) -> None:
        self._client = client
        self._envelope: SMTPEnvelope | None = None
        self._refused: SMTPError | None = None
        """What it said to the sender."""
        self._answers: dict[str, SMTPError | None] = {}

    def recipient(self, envelope: SMTPEnvelope, address: SMTPAddress) -> SMTPError | None:
        """What the server says to this recipient: None accepts. Asked once. Raises Away."""
        if self._envelope is not envelope:
            self._begin(envelope)
        if self._refused is not None:
            return self._refused
        if address.address not in self._answers:
            code, text = self._command(_rcpt(address, dsn=self._client.has_extn("dsn")))
            self._answers[address.address] = None if code in (250, 251) else refusal(code, text)
        return self._answers[address.address]

    def _begin(self, envelope: SMTPEnvelope) -> None:
        if self._envelope is not None:
            self._command("RSET")
        self._answers = {}
        self._envelope = envelope
        self._refused = self._unable(envelope)
        if self._refused is None:
            code, text = self._command(self._mail(envelope))
            self._refused = None if code == 250 else refusal(code, text)

    def _unable(self, envelope: SMTPEnvelope) -> SMTPError | None:
        """The refusal of a message that the server has not the means for."""
        offers = self._client.has_extn
        if envelope.smtp_utf8 and not offers("smtputf8"):
            return SMTPError("Error: next server does not support SMTPUTF8", 550, "5.6.7")
        if envelope.body_type == "8bitmime" and not offers("8bitmime"):
            return SMTPError("Error: next server does not support 8BITMIME", 554, "5.6.3")
        if envelope.body_type == "binarymime":
            return SMTPError("Error: binary messages cannot be forwarded", 554, "5.6.3")
        if envelope.require_tls:
            return SMTPError("Error: cannot forward with REQUIRETLS", 550, "5.7.30")
        return None

    def _mail(self, envelope: SMTPEnvelope) -> str:
        address = envelope.mail_from.address if envelope.mail_from else ""
        words = [f"MAIL FROM:<{address}>"]
        if envelope.body_type == "8bitmime":
            words.append("BODY=8BITMIME")
        if envelope.smtp_utf8:
            words.append("SMTPUTF8")
        if self._client.has_extn("dsn"):
            if envelope.dsn.ret:
                words.append(f"RET={envelope.dsn.ret}")
            if envelope.dsn.envid:
                words.append(f"ENVID={_xtext(envelope.dsn.envid)}")
        return " ".join(words)

    def _command(self, line: str) -> tuple[int, bytes]:
        self._client.command_encoding = "utf-8"
        try:
            code, text = self._client.docmd(line)
        except (OSError, smtplib.SMTPException) as error:
            raise Away(printable(str(error)) or type(error).__name__) from error
        if code in _ABOUT_US or not 200 <= code < 600:
            verb = line.partition(" ")[0]
            raise Away(f"{verb}: {code} {printable(text)}")
        return code, text

    def begin_message(self) -> None:
        """Say DATA. Raises Away, and SMTPError where it is refused."""
        code, text = self._command("DATA")
        if code != 354:
            raise refusal(code, text)

    def send(self, spool: IO[bytes], session: SMTPSession, timeout: float) -> str:
        """Send the message to those who were accepted; the text of the reply.

        Raises Away, and SMTPError where it is refused.
        """
        try:
            for piece in _stuffed(received_header(session), spooled_pieces(spool)):
                self._client.send(piece)
            if self._client.sock is not None:
                self._client.sock.settimeout(timeout)
            code, text = self._client.getreply()
        except (OSError, smtplib.SMTPException) as error:
            raise Away(f"in the message: {printable(str(error))}") from error
        if code != 250:
            raise refusal(code, text)
        return f"OK: forwarded, {_text_and_code(text)[0]}"

    def close(self) -> None:
        """Say QUIT, and do not wait for the answer."""
        with contextlib.suppress(OSError, smtplib.SMTPException):
            self._client.putcmd("QUIT")
        self._client.close()


def check_message(spool: IO[bytes], session: SMTPSession) -> None:
    """Refuse what must not be sent on: messages in a loop, and with line ends that are none.

    Raises SMTPError.
    """
    hops = 0
    spool.seek(0)
    while (line := spool.readline(_LONGEST_HEADER_LINE)) not in (b"", b"\r\n"):
        hops += line[:9].lower() == b"received:"
        if hops > _MOST_HOPS:
            raise SMTPError("Error: too many hops: the message is in a loop", 554, "5.4.6")
    # With these, what is one message here may be two elsewhere. (`bare_newline` lets none in,
    # unless it is told to.)
    held = b""
    for piece in spooled_pieces(spool):
        held += piece
        if _BARE.search(held, 0, len(held) - held.endswith(b"\r")):
            raise _bare_line_end()
        held = held[-1:] if held.endswith(b"\r") else b""
    if held:
        raise _bare_line_end()


def _bare_line_end() -> SMTPError:
    return SMTPError("Error: a line must end in CRLF", 554, "5.6.0")


def refusal(code: int, text: bytes) -> SMTPError:
    """The other server's refusal, as our own."""
    shown, enhanced = _text_and_code(text)
    if not 400 <= code <= 599:
        return SMTPError(f"Error: unexpected reply {code}", 451, "4.5.0")
    if enhanced is not None and enhanced[0] != str(code)[0]:
        enhanced = None
    return SMTPError(shown or "Error: refused", code, enhanced)


def _text_and_code(text: bytes) -> tuple[str, str | None]:
    """The lines of a reply as one, without the enhanced codes, and the first of these."""
    enhanced = None
    words = []
    for line in text.split(b"\n"):
        shown = printable(line.strip())
        found = _ENHANCED_CODE.match(shown + " ")
        if found is not None:
            enhanced = enhanced or found[1]
            shown = shown[found.end() :]
        words.append(shown)
    return " ".join(filter(None, words))[:400], enhanced


def _rcpt(address: SMTPAddress, *, dsn: bool) -> str:
    words = [f"RCPT TO:<{address.address}>"]
    if dsn and address.dsn.notify:
        words.append(f"NOTIFY={','.join(address.dsn.notify)}")
    if dsn and address.dsn.orcpt:
        kind, _, original = address.dsn.orcpt.partition(";")
        words.append(f"ORCPT={kind};{_xtext(original)}")
    return " ".join(words)


def _xtext(text: str) -> str:
    """RFC 3461, section 4: what is not printable ASCII, "+" and "=" as "+XX"."""
    encoded = _NOT_XTEXT.sub(lambda found: b"+%02X" % found[0][0], text.encode())
    return encoded.decode("ascii")


def _stuffed(header: bytes, message: Iterator[bytes]) -> Iterator[bytes]:
    """The message as DATA has it (RFC 5321, section 4.5.2), its end included."""
    held = b""
    for piece in itertools.chain([header], message):
        octets = (held + piece).replace(b"\r\n.", b"\r\n..")
        # A line end, and the dot that begins the next line, may be in two pieces.
        kept = 2 if octets.endswith(b"\r\n") else int(octets.endswith(b"\r"))
        yield octets[: len(octets) - kept]
        held = octets[len(octets) - kept :]
    yield held + (b".\r\n" if held == b"\r\n" else b"\r\n.\r\n")
