"""Reading what a stranger sends, no longer than its size is worth."""

from __future__ import annotations

import re
from itertools import islice
from typing import AnyStr

from blocksmtp import SMTPEnvelope, SMTPSession
from blocksmtp.message import IncomingMessage

# A part may have a few octets only, but takes its time: half a second for all of these.
_MOST_PARTS = 10_000
_PART = re.compile(rb"[\r\n]--")


def before(pattern: re.Pattern[AnyStr], text: AnyStr, most: int) -> AnyStr:
    """`text`, as far as `pattern` is found in it no more than `most` times."""
    after = next(islice(pattern.finditer(text), most, None), None)
    return text if after is None else text[: after.start()]


def opened(content: bytes) -> IncomingMessage:
    """The message; of one of very many parts, the beginning."""
    session = SMTPSession(id="", server_name="", lmtp=False)
    return IncomingMessage(before(_PART, content, _MOST_PARTS), SMTPEnvelope(), session)
