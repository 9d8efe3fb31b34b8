"""Target `dialogue`: a whole conversation, against a simple reading of the client's octets.

The reference knows as little of SMTP as it can: a line gets one reply; after 354 comes a message,
which gets one reply, in LMTP one for each recipient; after BDAT come so many octets, and the reply
to them; after 334 a line that is no command; 421 and 221 are the end, 220 to STARTTLS leads to TLS.
With that, and with the application's diary, it tells what must have been.
"""

from __future__ import annotations

import base64
import re

from tests.fuzz.application import ACCEPTED, EACH, REFUSED, Event
from tests.fuzz.conversation import Conversation, Reply
from tests.fuzz.inputs import read_plan
from tests.wire.test_dot_stuffing import END, reference

_HELLO = (b"HELO", b"EHLO", b"LHLO")
# A BDAT that tells how many octets follow, and one that is well-formed (RFC 3030, section 2).
_CHUNK = re.compile(rb"BDAT [ \t]*([0-9]+)(?:[ \t].*)?", re.IGNORECASE | re.DOTALL)
_GOOD_CHUNK = re.compile(rb"BDAT [ \t]*[0-9]+[ \t]*([ \t]LAST[ \t]*)?", re.IGNORECASE)
_LARGEST_CHUNK = 2**31
_ABORTING = (b"RSET", b"QUIT", b"BDAT")
_REFUSED_BETWEEN = (b"MAIL", b"RCPT", b"DATA", b"AUTH", b"STARTTLS", b"XCLIENT", b"XFORWARD")
# Every octet alone, where that does not take too long; else in small pieces.
_ALONE = 400


def dialogue_target(octets: bytes) -> None:
    """A plan, and what the client says."""
    plan = read_plan(octets)
    whole = Conversation(plan.letters, plan.octets, (), logged=True)
    expected = Reading(whole)
    expected.check()
    check_log(whole)
    lengths = plan.lengths or ((1,) if len(plan.octets) <= _ALONE else (13,))
    pieces = Conversation(plan.letters, plan.octets, lengths, logged=False)
    reading = Reading(pieces)
    reading.check()
    assert reading.outcome() == expected.outcome(), "it matters how it is cut"
    assert _calls(pieces) == _calls(whole), "it matters how it is cut"


def check_log(conversation: Conversation) -> None:
    """Every record is one line of printable ASCII."""
    for line in conversation.log:
        assert re.fullmatch(r"[ -~]+", line), line


def _calls(conversation: Conversation) -> list[tuple[object, ...]]:
    """The diary, but for the wire's affairs: how much of a message had come when it was read."""
    return [
        event[:3] if event.name == "on_data" else event[:5]
        for event in conversation.application.diary
        if event.name != "on_secure"
    ]


class Reading:
    """The reference's reading of a conversation; it fails where that cannot have been."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._letters = conversation.letters
        self._client = conversation.client
        self._replies = list(reversed(conversation.client.replies))
        self._diary = [
            event
            for event in reversed(conversation.application.diary)
            if event.name not in ("on_connect", "on_secure")
        ]
        self._segment = 0
        self._position = 0
        self._lines = 0
        self._ended = False
        self._again: bytes | None = None
        """A line that has ended a message in chunks, and is still to be read as a command."""
        self._proper_end = False
        # The session, as far as the replies tell.
        self._hello = False
        self._secure = "S" in conversation.letters
        self._user = False
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._messages = 0
        self._cut_short = False

    def check(self) -> None:
        """Read it from end to end."""
        greeting = self._reply()
        self._ended = greeting.code != 220
        assert self._ended is ("p" in self._letters)
        in_exchange = False
        while not self._ended:
            line, self._again = self._again or self._line(), None
            if line is None:
                break
            if not in_exchange and self._is_chunk(line):
                self._chunk(line)
                continue
            if self._must_break_off(line, in_exchange):
                break
            reply = self._reply()
            self._check_enhanced_code(line, reply)
            verb = b"" if in_exchange else line.split(b" ")[0].upper()
            self._follow(verb, line, reply, in_exchange)
            in_exchange = reply.code == 334
        assert not self._replies, "more replies than commands"
        assert not self._diary, "a callback was called for nothing"
        session, application = self._conversation.session, self._conversation.application
        assert session.transaction == self._messages
        assert (session.user is not None) is self._user
        assert application.reported == application.defects

    def outcome(self) -> list[bytes]:
        """The replies, but for what is never the same twice."""
        octets = [_same_challenge(reply.octets) for reply in self._client.replies]
        # Whether octets behind STARTTLS are there already when it is answered is the wire's affair.
        return octets[:-1] if self._cut_short else octets

    # --- what comes next -------------------------------------------------------------------

    def _rest(self) -> bytes:
        if self._segment >= len(self._client.segments):
            return b""
        return self._client.segments[self._segment][self._position :]

    def _line(self) -> bytes | None:
        """The client's next line without its end, None where there is no whole one."""
        line, end, _ = self._rest().partition(b"\n")
        if not end:
            return None
        self._position += len(line) + 1
        self._lines += 1
        options = self._conversation.options
        self._proper_end = line.endswith(b"\r") or options.bare_newline != "reject"
        self._proper_end &= len(line) + 1 <= options.max_command_length
        return line.removesuffix(b"\r")

    def _reply(self) -> Reply:
        """The next reply, which came as soon as it could, and no sooner."""
        assert self._replies, "a command without a reply"
        reply = self._replies.pop()
        boundaries = self._client.boundaries[self._segment]
        assert reply.segment == self._segment
        due = next(received for received in boundaries if received >= self._position)
        assert reply.received == due, "a reply before its command, or after more was waited for"
        if b"SMTPUTF8" not in b"".join(self._client.segments).upper():
            assert reply.octets.isascii(), reply
        assert b"secret detail" not in reply.octets
        return reply

    def _event(self, name: str) -> Event | None:
        """The call of a callback that this line has led to, if there was one."""
        if not self._diary or self._diary[-1].line != self._lines:
            return None
        event = self._diary.pop()
        assert event.name == name
        assert event.envelope == (self._sender, tuple(self._recipients)), "the envelope has changed"
        return event

    # --- what follows from it --------------------------------------------------------------

    def _must_break_off(self, line: bytes, in_exchange: bool) -> bool:
        """Whether this is a STARTTLS with more behind it, which must not survive."""
        is_starttls = not in_exchange and line.rstrip(b" \t").upper() == b"STARTTLS"
        if self._secure or not is_starttls or not self._rest():
            return False
        if self._replies and self._replies[-1].code != 220:
            return False  # It was refused, for one limit or another.
        if self._replies:
            self._cut_short = True
            assert self._reply().code == 220
            assert self._client.broke_off
            self._user = False
        assert not self._replies, "octets before the handshake were heard after it"
        return True

    def _follow(self, verb: bytes, line: bytes, reply: Reply, in_exchange: bool) -> None:
        code = reply.code
        # The octets of the largest chunks are read by nobody.
        self._ended = code in (421, 221) or (verb == b"BDAT" and code == 552)
        if in_exchange or verb in (b"AUTH", b"XCLIENT"):
            self._authenticate(verb, code)
        if in_exchange:
            return
        if verb in _HELLO and code == 250:
            self._hello = True
            self._forget()
        elif verb == b"RSET" and code == 250:
            self._forget()
        elif verb == b"XCLIENT" and code == 220:
            assert "X" in self._letters
            self._hello = False
            self._forget()
        elif verb == b"STARTTLS" and code == 220:
            self._start_tls()
        elif verb in (b"MAIL", b"RCPT"):
            self._address(verb, line, code)
        elif code == 354:
            assert verb == b"DATA"
            assert self._recipients, "a message for nobody"
            self._message()

    def _forget(self) -> None:
        self._sender = None
        self._recipients = []

    def _start_tls(self) -> None:
        assert not self._secure
        self._segment, self._position = self._segment + 1, 0
        self._secure, self._hello, self._user = True, False, False
        self._forget()
        self._ended = "s" in self._letters

    def _authenticate(self, verb: bytes, code: int) -> None:
        event = self._event("on_auth")
        accepted = event is not None and event.outcome is ACCEPTED
        if verb == b"XCLIENT":
            if code == 220:
                self._user = accepted
            else:
                assert not accepted
            return
        if code in (235, 334):
            assert self._secure or "I" in self._letters, "credentials in clear"
            assert self._secure or "U" not in self._letters, "credentials before TLS"
            assert self._hello
            assert not self._user
            assert self._sender is None
        assert accepted is (code == 235)
        self._user = self._user or accepted

    def _address(self, verb: bytes, line: bytes, code: int) -> None:
        event = self._event("on_mail_from" if verb == b"MAIL" else "on_rcpt_to")
        assert (event is not None and event.outcome is ACCEPTED) is (code == 250)
        if event is None or code != 250:
            return
        assert event.about.encode() in line
        assert self._hello
        assert self._user or "A" not in self._letters or "D" in self._letters
        if verb == b"MAIL":
            assert self._secure or "U" not in self._letters, "mail before TLS"
            assert self._sender is None, "nested MAIL"
            self._sender = event.about
        else:
            assert self._sender is not None, "a recipient without a sender"
            self._recipients.append(event.about)
            assert len(self._recipients) <= self._conversation.options.max_recipients

    def _message(self) -> None:
        wire = self._rest()
        complete = END in b"\r\n" + wire
        options = self._conversation.options
        message, bare, rest = reference(wire if complete else wire + END, options.bare_newline)
        event = self._event("on_data")
        assert event is not None, "a message that nobody was given"
        self._check_read(event, message[: options.size])
        if not complete:
            self._ended = True
            return
        self._position += len(wire) - len(rest)
        noticed = bare and options.bare_newline == "reject"
        self._judge(event, message, self._codes(each=options.lmtp), noticed=noticed)

    def _codes(self, *, each: bool) -> list[int]:
        """Those of the reply to a message, or of the replies to each recipient."""
        replies = [self._reply() for _ in self._recipients] if each else [self._reply()]
        for reply in replies:
            self._check_enhanced_code(b"", reply)
        return [reply.code for reply in replies]

    def _judge(self, event: Event, message: bytes, codes: list[int], *, noticed: bool) -> None:
        """The message came whole, or as far as the server wanted it, and is answered so."""
        options = self._conversation.options
        too_large = options.size is not None and len(message) > options.size
        if noticed:
            assert set(codes) == {550}
        elif too_large or event.outcome not in (ACCEPTED, EACH):
            assert min(codes) >= 400, "acknowledged for nothing"
            assert not event.whole or event.outcome is not REFUSED or set(codes) <= {421, 554}
        elif event.outcome is ACCEPTED:
            assert set(codes) == {250}
        if event.whole and not noticed:
            assert event.read == message[: options.size]
        self._messages += min(codes) < 400
        self._ended = 421 in codes
        self._forget()

    # --- messages in chunks ----------------------------------------------------------------

    def _is_chunk(self, line: bytes) -> bool:
        """Whether octets follow this line that are no commands."""
        match = _CHUNK.fullmatch(line)
        return match is not None and self._proper_end and self._size(line) is not None

    def _size(self, line: bytes) -> int | None:
        """How many octets follow; None for more than anybody reads."""
        match = _CHUNK.fullmatch(line)
        assert match is not None
        small = len(match[1]) <= 20 and int(match[1]) <= _LARGEST_CHUNK
        return int(match[1]) if small else None

    def _is_good_chunk(self, line: bytes) -> bool:
        return self._is_chunk(line) and _GOOD_CHUNK.fullmatch(line) is not None

    def _chunk(self, line: bytes) -> None:
        """A BDAT outside of a message: it begins one, or its octets are for nobody."""
        options = self._conversation.options
        disabled = "BDAT" in options.disabled_commands
        if self._recipients and self._is_good_chunk(line) and not disabled:
            self._message_in_chunks(line)
            return
        last = self._replies[-1] if self._replies else None
        size = self._size(line) or 0
        if last is not None and last.code == 421 and len(self._replies) == 1:
            size = 0  # One bad command too many: the rest is not even read.
        if len(self._rest()) < size:
            self._ended = True
            return
        self._position += size
        reply = self._reply()
        self._check_enhanced_code(line, reply)
        assert reply.code >= 400, "a chunk for nobody"
        self._ended = reply.code == 421

    def _message_in_chunks(self, line: bytes) -> None:
        message = b""
        while True:
            size = self._size(line) or 0
            octets = self._rest()[:size]
            message += octets
            self._position += len(octets)
            if len(octets) < size:
                self._broken_off(message)
                self._ended = True
                return
            good = _GOOD_CHUNK.fullmatch(line)
            assert good is not None
            if good[1] is not None:
                codes = self._codes(each=self._conversation.options.lmtp)
                self._judge(self._on_data(message), message, codes, noticed=False)
                return
            [code] = self._codes(each=False)
            if code != 250:
                event = self._on_data(message)
                limit = self._conversation.options.size
                too_large = limit is not None and len(message) > limit
                assert too_large or event.outcome is not ACCEPTED, "refused for nothing"
                self._judge(event, message, [code], noticed=False)
                return
            following = self._between_chunks()
            if following is None:
                self._broken_off(message)
                self._forget()
                return
            line = following

    def _between_chunks(self) -> bytes | None:
        """The line that announces the next chunk; None where none does."""
        while True:
            line = self._line()
            if line is None:
                self._ended = True
                return None
            if self._is_good_chunk(line):
                return line
            verb = line.split(b" ")[0].upper() if self._proper_end else b""
            hello = _HELLO[2:] if self._conversation.options.lmtp else _HELLO[:2]
            disabled = self._conversation.options.disabled_commands
            known = verb.decode("latin-1") not in disabled
            if verb == b"BDAT" or (verb in (*_ABORTING, *hello) and known):
                self._again = line
                return None
            reply = self._reply()
            self._check_enhanced_code(line, reply)
            assert verb not in _REFUSED_BETWEEN or reply.code in (503, 421), "out of order"
            if reply.code == 421:
                self._ended = True
                return None

    def _on_data(self, message: bytes) -> Event:
        """The call for a message in chunks, which may have ended any number of lines ago."""
        assert self._diary, "a message that nobody was given"
        event = self._diary.pop()
        assert event.name == "on_data"
        assert event.line <= self._lines
        assert event.envelope == (self._sender, tuple(self._recipients)), "the envelope has changed"
        self._check_read(event, message[: self._conversation.options.size])
        return event

    def _broken_off(self, message: bytes) -> None:
        event = self._on_data(message)
        assert not event.whole, "the end of a message that has none"

    def _check_read(self, event: Event, message: bytes) -> None:
        assert message.startswith(event.read), "the application got another message"

    def _check_enhanced_code(self, line: bytes, reply: Reply) -> None:
        """RFC 2034: each line has the status code, of the class of the reply."""
        without = line.split(b" ")[0].upper() in (*_HELLO, b"XCLIENT") and reply.code in (220, 250)
        lines = reply.octets.split(b"\r\n")[:-1]
        codes = {found and found[0] for found in map(_ENHANCED.match, (each[4:] for each in lines))}
        if "H" in self._letters or without or reply.code in (334, 354):
            return
        assert len(codes) == 1, reply.octets
        assert (codes.pop() or b"")[:1] == reply.octets[:1], reply.octets


_ENHANCED = re.compile(rb"[245]\.[0-9]{1,3}\.[0-9]{1,3} ")
_CHALLENGE = re.compile(rb"334 (\S+)\r\n")


def _same_challenge(reply: bytes) -> bytes:
    """`reply`, with the challenge of CRAM-MD5 or SCRAM replaced, which is never the same."""
    challenge = _CHALLENGE.fullmatch(reply)
    if challenge is None or not base64.b64decode(challenge[1]).startswith((b"<", b"r=")):
        return reply
    return b"334 <challenge>\r\n"
