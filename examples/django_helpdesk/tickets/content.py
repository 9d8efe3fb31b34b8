"""What a stranger's message says, as it can be kept: no part of it may fail, or cost, too much."""

import itertools
import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from html import unescape

from blocksmtp import SMTPError

MOST_PARTS = 100
_LONGEST_FIELD = 5_000

_TAG = re.compile(r"/?[a-z][a-z0-9]*|[/!?]", re.IGNORECASE)
_BLOCKS = ("p", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre")
_BREAKS = {"br", *_BLOCKS, *(f"/{each}" for each in _BLOCKS)}
_UNSEEN = ("script", "style", "title")


def read(message):
    """The parsed message, its text, and its attachments. Refuses what could never be read."""
    content = message.content
    try:
        _count_parts(content)
        return message.email, _text_of(message), message.attachments
    except SMTPError:
        raise
    except Exception as error:
        # The standard library raises many things for what a stranger has made up.
        raise SMTPError("Error: this message cannot be read", 554, "5.6.0") from error


def _count_parts(content):
    """Refuse a message of too many parts, before it costs what so many of them cost."""
    # The parser makes one to try the factory.
    made = itertools.count(-1)

    def part(**options):
        if next(made) >= MOST_PARTS:
            raise SMTPError(f"Error: more than {MOST_PARTS} parts", 554, "5.6.0")
        return EmailMessage(**options)

    message_from_bytes(content, part, policy=policy.SMTP)


def field(email, name):
    """A field of the header in one line, "" where there is none; as sent if it cannot be parsed."""
    raw = next((value for key, value in email.raw_items() if key.lower() == name.lower()), "")
    # Some fields take the square of their length.
    raw = str(raw)[:_LONGEST_FIELD]
    try:
        text = str(email.policy.header_fetch_parse(name, raw))
    except Exception:  # noqa: BLE001 - see `read`
        text = raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return line(text)


def line(text):
    """`text` in one line, as every database takes it, and every header."""
    shown = "".join(each if each.isprintable() else " " for each in storable(text))
    # What is left of encoded words would be decoded in a header, if it can be.
    return " ".join(shown.replace("=?", "= ?").split())


def storable(text):
    """`text` as every database takes it."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _text_of(message):
    return storable(message.text if message.text is not None else _shown_of(message.html or ""))


def _shown_of(html):
    """What a browser shows of `html`, roughly; in one pass, whatever a stranger has made up."""
    start, *others = re.sub(r"\s+", " ", html).split("<!--")
    start, *others = "".join([start, *(each.partition("-->")[2] for each in others)]).split("<")
    shown, unseen = [start], ""
    for each in others:
        tag = _TAG.match(each)
        name = tag[0].lower() if tag else ""
        if unseen and name != f"/{unseen}":
            continue
        unseen = name if name in _UNSEEN else ""
        if name in _BREAKS:
            shown.append("\n")
        if not unseen:
            shown.append(each.partition(">")[2] if tag else f"<{each}")
    lines = (each.strip() for each in "".join(shown).split("\n"))
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    # A number of more digits than Python takes is an error.
    return unescape(re.sub(r"&#\d{8,};?", "\N{REPLACEMENT CHARACTER}", text))
