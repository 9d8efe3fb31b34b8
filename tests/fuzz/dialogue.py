"""Target `dialogue`: a whole conversation, against a simple reading of the client's octets.

The reference knows as little of SMTP as it can: a line gets one reply; after 354 comes a message,
which gets one reply, in LMTP one for each recipient; after 334 a line that is no command; 421 and
221 are the end, 220 to STARTTLS leads to TLS. With that, and with the application's diary, it tells
what must have been.
"""

from __future__ import annotations

import base64
import re

from tests.fuzz.application import ACCEPTED, EACH, REFUSED, Event
from tests.fuzz.conversation import Conversation, Reply
from tests.fuzz.inputs import read_plan
from tests.wire.test_dot_stuffing import END, reference

_HELLO = (b"HELO", b"EHLO", b"LHLO")
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
            line = self._line()
            if line is None:
                break
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
        self._ended = code in (421, 221)
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
        replies = [self._reply() for _ in self._recipients] if options.lmtp else [self._reply()]
        codes = [reply.code for reply in replies]
        for reply in replies:
            self._check_enhanced_code(b"", reply)
        noticed = bare and options.bare_newline == "reject"
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
    """`reply`, with the challenge of CRAM-MD5 replaced, which is never the same."""
    challenge = _CHALLENGE.fullmatch(reply)
    if challenge is None or not base64.b64decode(challenge[1]).startswith(b"<"):
        return reply
    return b"334 <challenge>\r\n"
