"""A message that has come in, with what is most often wanted of it."""

from __future__ import annotations

import codecs
import functools
import re
from dataclasses import dataclass
from email import message_from_bytes
from email.headerregistry import BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.policy import EmailPolicy
from email.utils import collapse_rfc2231_value
from html import unescape
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from .errors import SMTPError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .session import SMTPEnvelope, SMTPSession
    from .wire.stream import DataStream

_LINK = re.compile(r"https?://[^\s<>\"\x00-\x1f]+", re.IGNORECASE)
# No parser of HTML: those of some Pythons take hours for what a stranger can make up.
_HREF = re.compile(
    r"""<(?:a|area)\b[^<>]*?\shref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'<>]+))""", re.IGNORECASE
)
_CLOSING = {")": "(", "]": "[", "}": "{"}
# Some charsets decode to them, and nothing can encode them.
_SURROGATES = re.compile("[\ud800-\udfff]")
# In characters, of a header: the parser takes minutes for what is ten times as long.
_LONGEST_PARSED = 100_000
_LONGEST_WITH_PARAMETERS = 2_000


def _encodable(text: str) -> str:
    return _SURROGATES.sub("\ufffd", text)


class _Unparsed(UnstructuredHeader):
    """A header as it came."""

    @classmethod
    def parse(cls, value: str, kwds: dict[str, Any]) -> None:
        super().parse("", kwds)
        kwds["decoded"] = value


_UNPARSED = HeaderRegistry(default_class=_Unparsed, use_default_map=False)


class _Headers(HeaderRegistry):
    """The headers of the standard library; what its parser fails on, or takes too long for, is
    there as it came."""

    def __call__(self, name: str, value: Any) -> BaseHeader:
        if name.lower().startswith("content-") and len(value) > _LONGEST_WITH_PARAMETERS:
            return _UNPARSED(name, value[:_LONGEST_WITH_PARAMETERS])
        if len(value) > _LONGEST_PARSED:
            return _UNPARSED(name, value)
        try:
            return super().__call__(name, value)
        # A stranger can make it raise nearly anything: IndexError, LookupError, UnicodeError,
        # AttributeError, RecursionError, MessageError; and under another Python something else.
        except Exception:  # noqa: BLE001
            return _UNPARSED(name, value)


class _Message(EmailMessage):
    def get_param(
        self,
        param: str,
        failobj: Any = None,
        header: str = "content-type",
        unquote: bool = True,
    ) -> Any:
        """The parameter as text that can be encoded, whatever charset it is in (RFC 2231).

        `failobj` for one that is not there, and for one that cannot be read.
        """
        try:
            value = super().get_param(param, None, header, unquote)
            if isinstance(value, tuple):
                value = collapse_rfc2231_value(value)
        except (LookupError, TypeError, ValueError):
            return failobj
        return failobj if value is None else _encodable(value)

    def get_boundary(self, failobj: Any = None) -> Any:
        """`failobj` also for what can be none (RFC 2046, section 5.1.1)."""
        boundary = super().get_boundary()
        return failobj if boundary is None or not boundary.isascii() else boundary

    def get_payload(self, i: Any = None, decode: Any = False) -> Any:
        """Of a multipart without parts, its octets as surrogates: what `as_bytes` can write."""
        raw = self._payload  # type: ignore[attr-defined]
        has_no_parts = isinstance(raw, str) and self.get_content_maintype() == "multipart"
        return raw if has_no_parts and not decode else super().get_payload(i, decode)


class _Policy(EmailPolicy):
    def fold_binary(self, name: str, value: str) -> bytes:
        """A header that was received stays as it came, in a message in the message."""
        if isinstance(value, BaseHeader):
            return super().fold_binary(name, value)
        return f"{name}: {value}{self.linesep}".encode("ascii", "surrogateescape")


_POLICY: Any = _Policy(linesep="\r\n", header_factory=_Headers(), message_factory=_Message)
_HEADER_PARSER = BytesHeaderParser(policy=_POLICY)


@dataclass(frozen=True)
class Attachment:
    """A part of a message that is not its text."""

    filename: str | None
    """As the sender says: no path to write to."""
    content_type: str
    """In lower case: "image/png"."""
    content: bytes
    """Decoded; of a message in the message, its octets."""
    inline: bool
    """Whether it is meant to be shown in the text (RFC 2183, section 2.1)."""
    content_id: str | None
    """By which the HTML refers to it (RFC 2392), without brackets."""


class IncomingMessage:
    """A message, its envelope, and the session that it came in.

    `envelope` says who sent it and to whom it goes, Bcc included. Whatever a message holds, the
    text that is read from it can be encoded: what is no character is U+FFFD.
    """

    def __init__(
        self, source: bytes | BinaryIO | DataStream, envelope: SMTPEnvelope, session: SMTPSession
    ) -> None:
        """`source` is the message, or where to read it."""
        self._source = source
        self.envelope = envelope
        self.session = session

    @property
    def stream(self) -> BinaryIO | DataStream:
        """The message to be read in pieces, in place of `content`: once, and in the callback."""
        return BytesIO(self._source) if isinstance(self._source, bytes) else self._source

    @functools.cached_property
    def content(self) -> bytes:
        """What was sent after DATA or BDAT, octet by octet; read now if need be.

        Raises ConnectionError where the client breaks it off.
        """
        return self._source if isinstance(self._source, bytes) else self._source.read()

    def __repr__(self) -> str:
        is_there = isinstance(self._source, bytes) or "content" in vars(self)
        subject = repr(self.subject) if is_there else "not yet read"
        recipients = ", ".join(address.address for address in self.envelope.rcpt_to)
        sender = self.envelope.mail_from
        return (
            f"<{type(self).__name__} {subject}"
            f" from <{sender.address if sender else ''}> to {recipients}>"
        )

    @functools.cached_property
    def email(self) -> EmailMessage:
        """The parsed message. Raises SMTPError, 554, for parts nested deeper than can be read."""
        try:
            return message_from_bytes(self.content, policy=_POLICY)
        except RecursionError:
            raise _nested_too_deeply() from None

    @functools.cached_property
    def subject(self) -> str:
        """The subject, decoded; "" where there is none."""
        # Of the header alone: the parts may be nested too deeply.
        head = self.content.partition(b"\r\n\r\n")[0]
        return str(_HEADER_PARSER.parsebytes(head).get("Subject", ""))

    @functools.cached_property
    def text(self) -> str | None:
        """The text as plain text; None where there is none."""
        return self._body("text/plain")

    @functools.cached_property
    def html(self) -> str | None:
        """The text in HTML, as it came: hostile until shown otherwise. None where there is none."""
        return self._body("text/html")

    @functools.cached_property
    def links(self) -> list[str]:
        """The http and https links in the text and in the HTML, in order, each once."""
        found = [_trimmed(match.group()) for match in _LINK.finditer(self.text or "")]
        if self.html is not None:
            targets = ("".join(match.groups("")) for match in _HREF.finditer(self.html))
            links = (_unescaped(target).strip() for target in targets)
            found += [link for link in links if _LINK.match(link)]
        return list(dict.fromkeys(found))

    @functools.cached_property
    def attachments(self) -> list[Attachment]:
        """All parts but the text, in order."""
        bodies = [self._body_part("text/plain"), self._body_part("text/html")]
        leaves = [part for part in _leaves(self.email) if not any(part is body for body in bodies)]
        try:
            return [_attachment(part) for part in leaves]
        except RecursionError:
            raise _nested_too_deeply() from None

    def _body_part(self, content_type: str) -> EmailMessage | None:
        for part in _leaves(self.email):
            is_attachment = part.get_content_disposition() == "attachment"
            if part.get_content_type() == content_type and not is_attachment:
                return part
        return None

    def _body(self, content_type: str) -> str | None:
        part = self._body_part(content_type)
        return None if part is None else _text_of(part)


def _nested_too_deeply() -> SMTPError:
    return SMTPError("Error: message parts are nested too deeply", 554, "5.6.0")


def _leaves(part: EmailMessage) -> Iterator[EmailMessage]:
    """The parts that hold no parts; a message in the message is one."""
    if part.get_content_maintype() == "multipart" and part.is_multipart():
        for each in cast("list[EmailMessage]", part.get_payload()):
            yield from _leaves(each)
    else:
        yield part


def _octets_of(part: EmailMessage) -> bytes:
    if part.is_multipart():  # message/rfc822 and its like
        return b"".join(each.as_bytes() for each in cast("list[EmailMessage]", part.get_payload()))
    return cast("bytes", part.get_payload(decode=True) or b"")


def _text_of(part: EmailMessage) -> str:
    """The part's text, whatever its sender says of its charset, with "\\n" as line end."""
    octets = _octets_of(part)
    try:
        codec = codecs.lookup(str(part.get_content_charset("utf-8"))).name
        # Python's codecs for names of hosts: no charsets of messages, and of quadratic time.
        text = octets.decode("utf-8" if codec in ("idna", "punycode") else codec, "replace")
    except (LookupError, UnicodeError, ValueError):
        text = octets.decode("utf-8", "replace")
    return _encodable(text.replace("\r\n", "\n"))


def _attachment(part: EmailMessage) -> Attachment:
    content_id = part.get("Content-ID")
    return Attachment(
        filename=part.get_filename(),
        content_type=part.get_content_type(),
        content=_octets_of(part),
        inline=part.get_content_disposition() == "inline",
        content_id=None if content_id is None else str(content_id).strip().strip("<>"),
    )


def _unescaped(target: str) -> str:
    try:
        return unescape(target)
    except ValueError:  # a reference to a character by a number of thousands of digits
        return target


def _trimmed(link: str) -> str:
    """`link` without what belongs to the sentence around it."""
    # How many of each closing bracket have no opening one; a stranger may have sent thousands.
    unopened = {each: link.count(each) - link.count(_CLOSING[each]) for each in _CLOSING}
    end = len(link)
    while end:
        last = link[end - 1]
        if unopened.get(last, 0) > 0:
            unopened[last] -= 1
        elif last not in ".,;:!?'*_":
            break
        end -= 1
    return link[:end]
