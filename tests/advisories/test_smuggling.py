r"""SMTP smuggling: a message inside another, taken out by whoever sees an end where there is none.

CVE-2023-51764 (Postfix), CVE-2023-51765 (sendmail), CVE-2023-51766 (Exim), CVE-2023-51747 (Apache
James), CVE-2024-27305 = GHSA-pr2m-px7j-xg65 (aiosmtpd); CERT/CC VU#302671. Each took something
like <LF>.<LF> or <LF>.<CR><LF> for the end of a message, and what followed for commands. A sender
that passed these octets on had vouched, with SPF and DKIM, for a message that it never saw.

Here only <CR><LF>.<CR><LF> ends a message, under every policy; with the policy "reject" a message
with any other line end is refused besides. What the application reads under "normalize" holds no
bare LF, so that it smuggles nothing into the next server either. After a message that was refused,
too large, or left unread the dialogue goes on with the first octet behind the true end.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest

from blocksmtp import DataStream, SMTPError, SMTPSession
from tests.client import connect, serving, trusting
from tests.memory import Cut, at, octets, whole
from tests.protocol.bench import GivenCallbacks
from tests.wire.scripted import dot_stuffed

from .talk import Talk, codes, every_string

POLICIES = ("normalize", "reject", "keep")
every_policy = pytest.mark.parametrize("policy", POLICIES)

END = b"\r\n.\r\n"
ENVELOPE = b"MAIL FROM:<good@client.example>\r\nRCPT TO:<me@server.example>\r\nDATA\r\n"
SMUGGLED = (
    b"MAIL FROM:<evil@attacker.example>\r\nRCPT TO:<me@server.example>\r\nDATA\r\n"
    b"Subject: forged\r\n\r\nforged" + END
)
SHORT = every_string([b"\r", b"\n", b"\0"], 2)
AROUND = sorted(
    {*every_string([b"\r", b"\n", b"\0"], 3), *every_string([b"\r\n", b"\r", b"\n"], 2)}
)
FAKE_ENDS = [
    *(b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r", b"\r.\n"),
    *(
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
        b"\r\0\n.\r\n",
        b"\r\n.\r\0\n",
        b"\n\r.\n\r",
        b"\r\r\n.\r\r\n",
    ),
    *(b"\n.\r\r\n", b"\r\n.\r\r\n", b"\r\n..\r\n", b"\r\n. \r\n"),
]


class Mailbox:
    """An application that notes whom it heard of and what it read."""

    def __init__(self) -> None:
        self.senders: list[str] = []
        self.recipients: list[str] = []
        self.read: list[bytes] = []
        self.messages = 0

    def on_data(self, stream: DataStream, session: SMTPSession) -> None:
        self.messages += 1
        self.read.append(stream.read())

    @property
    def callbacks(self) -> GivenCallbacks:
        return GivenCallbacks(
            on_mail_from=lambda address, session: self.senders.append(address.address),
            on_rcpt_to=lambda address, session: self.recipients.append(address.address),
            on_data=self.on_data,
        )


def has_bare_newline(message: bytes) -> bool:
    return any(octet in message.replace(b"\r\n", b"") for octet in b"\r\n")


def messages_of(bodies: list[bytes], policy: str, cut: Cut = whole) -> Mailbox:
    """Send all bodies, each in a transaction of its own, and see that each is one message."""
    mailbox = Mailbox()
    writes = [write for body in bodies for write in (ENVELOPE, body, b"VRFY in.step\r\n")]
    talk = Talk(
        b"EHLO client.example\r\n",
        *writes,
        callbacks=mailbox.callbacks,
        bare_newline=policy,
        cut=cut,
    )
    assert not talk.closed_by_server
    for body, answers in zip(bodies, zip(*[iter(talk.turns[2:])] * 3, strict=True), strict=True):
        refused = policy == "reject" and has_bare_newline(body)
        expected = [[250, 250, 354], [550 if refused else 250], [252]]
        assert [codes(answer) for answer in answers] == expected, body
    # One sender, one recipient and one message for each: nothing came out of a body.
    assert mailbox.senders == ["good@client.example"] * len(bodies)
    assert mailbox.recipients == ["me@server.example"] * len(bodies)
    assert mailbox.messages == len(bodies)
    return mailbox


def bodies_around_a_dot(before: bytes, around: list[bytes], start: bytes) -> list[bytes]:
    """Bodies that begin with `start`, where `before` and each of `around` enclose a dot."""
    heads = [start + before + b"." + after for after in around]
    return [head + SMUGGLED for head in heads if END not in b"\r\n" + head]


@every_policy
@pytest.mark.parametrize("start", [b"", b"text"], ids=["at the start", "later"])
def test_no_octets_around_a_dot_end_a_message_but_crlf(policy: str, start: bytes) -> None:
    """The whole matrix; the dialogue of each row goes on through all its messages."""
    for before in AROUND:
        messages_of(bodies_around_a_dot(before, AROUND, start), policy)


@every_policy
def test_nor_do_they_octet_by_octet(policy: str) -> None:
    for before in SHORT:
        messages_of(bodies_around_a_dot(before, SHORT, b"text"), policy, octets)


@every_policy
@pytest.mark.parametrize("cut", [whole, octets], ids=["whole", "octets"])
def test_the_true_end_is_an_end_for_all_policies(policy: str, cut: Cut) -> None:
    """What stands behind it is the client's own next command, and answered as such."""
    mailbox = Mailbox()
    talk = Talk(
        b"EHLO client.example\r\n",
        ENVELOPE,
        b"first" + END + ENVELOPE + b"second" + END + b"VRFY in.step\r\n",
        callbacks=mailbox.callbacks,
        bare_newline=policy,
        cut=cut,
    )
    assert talk.codes == [220, 250, 250, 250, 354, 250, 250, 250, 354, 250, 252]
    assert mailbox.read == [b"first\r\n", b"second\r\n"]


# --- messages that are not taken ----------------------------------------------------------------


def read_nothing(stream: Any, session: SMTPSession) -> None:
    """Accepts what it has not read."""


def close_the_stream(stream: Any, session: SMTPSession) -> None:
    stream.close()


def refuse_at_once(stream: Any, session: SMTPSession) -> None:
    raise SMTPError("Not wanted", 554)


def refuse_midway(stream: Any, session: SMTPSession) -> None:
    stream.read(6)
    raise SMTPError("Not wanted", 554)


def refuse_in_the_end(stream: Any, session: SMTPSession) -> None:
    stream.read()
    raise SMTPError("Not wanted", 554)


def refuse_whatever_happens(stream: Any, session: SMTPSession) -> None:
    with contextlib.suppress(SMTPError):
        stream.read()
    raise SMTPError("Not wanted", 554)


def fail_at_once(stream: Any, session: SMTPSession) -> None:
    raise LookupError("a defect")


def fail_midway(stream: Any, session: SMTPSession) -> None:
    stream.readline()
    raise LookupError("a defect")


def return_nonsense(stream: Any, session: SMTPSession) -> Any:
    return 5


NOT_TAKEN: dict[Callable[..., Any], int] = {
    read_nothing: 250,
    close_the_stream: 250,
    refuse_at_once: 554,
    refuse_midway: 554,
    refuse_in_the_end: 554,
    refuse_whatever_happens: 554,
    fail_at_once: 451,
    fail_midway: 451,
    return_nonsense: 451,
}


@every_policy
@pytest.mark.parametrize("size", [None, 10], ids=["any size", "too large"])
@pytest.mark.parametrize("lmtp", [False, True], ids=["SMTP", "LMTP"])
@pytest.mark.parametrize("callback", NOT_TAKEN, ids=lambda callback: callback.__name__)
def test_a_message_that_is_not_taken_leaves_nothing_behind(
    policy: str, size: int | None, lmtp: bool, callback: Callable[..., Any]
) -> None:
    senders: list[str] = []
    callbacks = GivenCallbacks(
        on_mail_from=lambda address, session: senders.append(address.address), on_data=callback
    )
    writes = [
        write
        for fake_end in FAKE_ENDS
        for write in (ENVELOPE, b"text" + fake_end + SMUGGLED, b"VRFY in.step\r\n")
    ]
    talk = Talk(
        b"LHLO client.example\r\n" if lmtp else b"EHLO client.example\r\n",
        *writes,
        callbacks=callbacks,
        bare_newline=policy,
        size=size,
        lmtp=lmtp,
        # What is left to discard has not all arrived when the callback returns.
        cut=at(16),
    )
    for fake_end, envelope, message, behind in zip(
        FAKE_ENDS, talk.turns[2::3], talk.turns[3::3], talk.turns[4::3], strict=True
    ):
        if policy == "reject" and has_bare_newline(fake_end):
            expected = 550
        elif size is not None and NOT_TAKEN[callback] in (250, 451):
            expected = 552
        else:
            expected = NOT_TAKEN[callback]
        assert codes(envelope) == [250, 250, 354], fake_end
        assert codes(message) == [expected], fake_end
        assert codes(behind) == [252], fake_end
    assert senders == ["good@client.example"] * len(FAKE_ENDS)


# --- commands -----------------------------------------------------------------------------------


@every_policy
@pytest.mark.parametrize(
    "between", [b"\r", b"\0", b"\r\0\n\r", b"\x0b", b"\x0c", b"\x85"], ids=repr
)
def test_nothing_but_a_line_end_makes_two_commands(policy: str, between: bytes) -> None:
    """A server in front may have taken the same octets for one argument."""
    mailbox = Mailbox()
    line = b"NOOP x" + between.replace(b"\n", b"") + b"MAIL FROM:<evil@attacker.example>\r\n"
    talk = Talk(b"EHLO client.example\r\n", line, callbacks=mailbox.callbacks, bare_newline=policy)
    assert talk.codes == [220, 250, 250]
    assert mailbox.senders == []


def test_a_command_that_ends_in_a_bare_lf_is_refused_where_these_are() -> None:
    mailbox = Mailbox()
    talk = Talk(
        b"EHLO client.example\r\n",
        b"NOOP x\nMAIL FROM:<evil@attacker.example>\nNOOP\r\n",
        callbacks=mailbox.callbacks,
        bare_newline="reject",
    )
    assert talk.codes == [220, 250, 500, 500, 250]
    assert mailbox.senders == []


# --- what goes on from here ---------------------------------------------------------------------


def passed_on(start: bytes, policy: str) -> list[bytes]:
    """Every message of the matrix as the application would send it on."""
    mailboxes = [messages_of(bodies_around_a_dot(before, SHORT, start), policy) for before in SHORT]
    return [dot_stuffed(message) for mailbox in mailboxes for message in mailbox.read]


@pytest.mark.parametrize("start", [b"", b"text"], ids=["at the start", "later"])
def test_what_was_normalised_smuggles_nothing_into_the_next_server(start: bytes) -> None:
    """Not even into one that takes a bare LF for a line end, as Postfix and sendmail did."""
    for message in passed_on(start, "normalize"):
        lines = message.replace(b"\r\n", b"\n")
        assert (b"\n" + lines).index(b"\n.\n") == len(lines) - 2, message
        assert b"\n" not in message.replace(b"\r\n", b"")


@pytest.mark.parametrize("start", [b"", b"text"], ids=["at the start", "later"])
def test_what_was_not_rejected_smuggles_nothing_anywhere(start: bytes) -> None:
    """Not even into one that takes a bare CR for a line end."""
    messages = passed_on(start, "reject")
    assert messages
    for message in messages:
        assert not has_bare_newline(message)
        assert (b"\r\n" + message).index(END) == len(message) - 3, message


# --- on the wire --------------------------------------------------------------------------------


@every_policy
@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
def test_nothing_is_smuggled_on_the_wire(policy: str, secure: bool) -> None:
    """A sample; the fake end arrives in a packet of its own."""
    mailbox = Mailbox()
    callbacks = {name: each for name, each in vars(mailbox.callbacks).items() if each is not None}
    with (
        serving(secure=secure, bare_newline=policy, **callbacks) as server,
        connect(server, tls=trusting() if secure else None) as client,
    ):
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.hello()
        for fake_end in FAKE_ENDS:
            client.send(ENVELOPE)
            assert [reply.code for reply in client.replies(3)] == [250, 250, 354]
            for piece in (b"text", fake_end, SMUGGLED):
                client.send(piece)
            refused = policy == "reject" and has_bare_newline(fake_end)
            assert client.reply().code == (550 if refused else 250), fake_end
            client.expect(252, "VRFY in.step")
    assert mailbox.senders == ["good@client.example"] * len(FAKE_ENDS)
    assert mailbox.messages == len(FAKE_ENDS)
