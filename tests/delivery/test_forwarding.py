"""ForwardDelivery: what the other server gets, and what becomes of its answers."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from blocksmtp import SMTPError, SMTPServer
from blocksmtp.delivery import ForwardDelivery
from blocksmtp.testing import MailCatcher

from .senders import MESSAGE, deliver, ready, server_with


@pytest.fixture
def smarthost() -> Iterator[MailCatcher]:
    with MailCatcher(hide_dsn=False) as catcher:
        yield catcher


def forward(to: MailCatcher, **options: Any) -> ForwardDelivery:
    return ForwardDelivery(to.host, to.port, **{"tls": "never", **options})


def logged(caplog: pytest.LogCaptureFixture) -> str:
    (record,) = [
        each
        for each in caplog.records
        if each.levelno >= logging.WARNING and each.name == "blocksmtp.delivery"
    ]
    return record.getMessage()


@contextlib.contextmanager
def scripted(*conversations: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """A server that says in each connection these replies, one a line; then it closes.

    Its port, and the lines that it got.
    """
    said: list[bytes] = []

    def serve() -> None:
        for replies in conversations:
            sock, _ = listener.accept()
            with sock, sock.makefile("rb") as lines:
                for reply in replies:
                    sock.sendall(reply)
                    said.append(lines.readline())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], said
        thread.join()


HELLO = [b"220 x\r\n", b"250 x\r\n"]
OK = b"250 ok\r\n"


# --- what it gets --------------------------------------------------------------------------------


def test_the_message_with_its_trace(smarthost: MailCatcher) -> None:
    reply = deliver(forward(smarthost), to=["b@server.example", "c@server.example"])
    assert str(reply).startswith("250 2.6.0 OK: forwarded, ")
    (message,) = smarthost.messages
    header, rest = message.content[: -len(MESSAGE)], message.content[-len(MESSAGE) :]
    assert rest == MESSAGE
    assert header.startswith(b"Received: from me\r\n")
    # It is not delivered yet (RFC 5321, section 4.4).
    assert b"Return-Path" not in header
    assert message.envelope.mail_from is not None
    assert message.envelope.mail_from.address == "a@client.example"
    assert [each.address for each in message.envelope.rcpt_to] == [
        "b@server.example",
        "c@server.example",
    ]
    # It says our server's name.
    assert message.session.host_name_appears_as == "mx.example"


@pytest.mark.parametrize(
    "content",
    [
        b".\r\n..\r\n.x\r\n",
        [b"x\r\n", b".y\r", b"\n.", b".z\r\n"],
        [b"x\r", b"\n", b".\r\n"],
        b"x\r\n" + b"." * 200_000 + b"\r\n",
        b"a" * 65_535 + b"\r\n.\r\n" * 50_000,
        b"",
        b"no line end",
    ],
)
def test_it_comes_as_it_was_sent(smarthost: MailCatcher, content: bytes | list[bytes]) -> None:
    assert deliver(forward(smarthost), content).code == 250
    sent = content if isinstance(content, bytes) else b"".join(content)
    (message,) = smarthost.messages
    assert message.content.partition(b"+0000\r\n")[2].removesuffix(b"\r\n") == sent.removesuffix(
        b"\r\n"
    )


def test_what_the_envelope_says(smarthost: MailCatcher) -> None:
    sender = "b\N{LATIN SMALL LETTER U WITH DIAERESIS}@client.example"
    server = server_with(forward(smarthost), hide_dsn=False)
    with server.test_client() as client:
        client.command("EHLO me")
        client.command(f"MAIL FROM:<{sender}> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb+3Dc")
        client.command("RCPT TO:<b@server.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;x+2By@z")
        assert client.data(MESSAGE).code == 250
    (message,) = smarthost.messages
    envelope = message.envelope
    assert envelope.mail_from is not None
    assert envelope.mail_from.address == sender
    assert (envelope.body_type, envelope.smtp_utf8) == ("8bitmime", True)
    assert (envelope.dsn.ret, envelope.dsn.envid) == ("HDRS", "a+b=c")
    dsn = envelope.rcpt_to[0].dsn
    assert (dsn.notify, dsn.orcpt) == (["FAILURE", "DELAY"], "rfc822;x+y@z")


def test_the_null_sender(smarthost: MailCatcher) -> None:
    assert deliver(forward(smarthost), sender="").code == 250
    assert smarthost.messages[0].envelope.mail_from is not None
    assert smarthost.messages[0].envelope.mail_from.address == ""


@pytest.mark.parametrize(
    ("hidden", "sender", "reply"),
    [
        ("hide_smtputf8", "\u00fc@client.example SMTPUTF8", "550 5.6.7"),
        ("hide_8bitmime", "a@client.example BODY=8BITMIME", "554 5.6.3"),
        ("hide_dsn", "a@client.example REQUIRETLS", "550 5.7.30"),
    ],
)
def test_what_it_has_not_the_means_for(hidden: str, sender: str, reply: str) -> None:
    options: dict[str, Any] = {hidden: True}
    with MailCatcher(**options) as smarthost:
        server = server_with(forward(smarthost), hide_requiretls=False)
        with server.test_client(secure=True) as client:
            client.command("EHLO me")
            assert client.command(f"MAIL FROM:<{sender.replace(' ', '> ', 1)}").code == 250
            # Asked at RCPT already.
            assert str(client.command("RCPT TO:<b@server.example>")).startswith(reply)
        assert smarthost.messages == []


def test_binary_messages_are_refused(smarthost: MailCatcher) -> None:
    with server_with(forward(smarthost)) as server, server.test_client() as client:
        client.command("EHLO me")
        client.command("MAIL FROM:<a@client.example> BODY=BINARYMIME")
        assert client.command("RCPT TO:<b@server.example>").code == 554


def test_a_loop_is_cut() -> None:
    with MailCatcher() as smarthost:
        delivery = forward(smarthost)
        assert deliver(delivery, b"Received: x\r\n" * 100 + b"\r\n").code == 250
        reply = deliver(delivery, b"RECEIVED: x\r\n" * 101 + b"\r\n")
        assert str(reply).startswith("554 5.4.6 ")
        # Only in the header.
        assert deliver(delivery, b"\r\n" + b"Received: x\r\n" * 101).code == 250
        assert len(smarthost.messages) == 2


@pytest.mark.parametrize("content", [b"a\n.\r\nb\r\n", b"a\r.\r\n", [b"x\r", b"x\r\n"]])
def test_bare_line_ends_are_never_sent_on(
    smarthost: MailCatcher, content: bytes | list[bytes]
) -> None:
    reply = deliver(forward(smarthost), content, bare_newline="keep")
    assert str(reply).startswith("554 5.6.0 ")
    assert smarthost.messages == []


def test_a_message_beyond_the_size_is_not_sent_on(smarthost: MailCatcher) -> None:
    assert deliver(forward(smarthost), b"x" * 2000 + b"\r\n", size=1000).code == 552
    assert smarthost.messages == []


# --- its answers ---------------------------------------------------------------------------------


def test_a_refused_recipient_is_refused_at_rcpt(smarthost: MailCatcher) -> None:
    smarthost.fail("RCPT", 550, to="b@server.example")
    with server_with(forward(smarthost)).test_client() as client:
        client.command("EHLO me")
        client.command("MAIL FROM:<a@client.example>")
        assert client.command("RCPT TO:<b@server.example>").code == 550
        assert client.command("RCPT TO:<c@server.example>").code == 250
        assert client.data(MESSAGE).code == 250
    (message,) = smarthost.messages
    assert [each.address for each in message.envelope.rcpt_to] == ["c@server.example"]


def only_on_data(delivery: ForwardDelivery, **options: Any) -> SMTPServer:
    return SMTPServer(auth_optional=True, on_data=delivery, **options)


@pytest.mark.parametrize("code", [450, 550])
def test_without_on_rcpt_to_one_refused_recipient_refuses_the_message(
    smarthost: MailCatcher, code: int
) -> None:
    smarthost.fail("RCPT", code, to="b@server.example")
    smarthost.fail("RCPT", 553, to="d@server.example")
    server = only_on_data(forward(smarthost))
    to = ("b@server.example", "c@server.example", "d@server.example")
    with ready(server, "a@client.example", *to) as client:
        # What may be tried again comes first.
        assert client.data(MESSAGE).code == code
    assert smarthost.messages == []


def test_each_recipient_for_itself_in_lmtp(smarthost: MailCatcher) -> None:
    smarthost.fail("RCPT", 550, to="b@server.example")
    server = only_on_data(forward(smarthost), lmtp=True)
    with ready(server, "a@client.example", "b@server.example", "c@server.example") as client:
        replies = client.data(MESSAGE).recipients
    assert [reply.code for reply in replies.values()] == [550, 250]
    assert len(smarthost.messages) == 1


def test_all_recipients_refused_in_lmtp(smarthost: MailCatcher) -> None:
    smarthost.fail("RCPT", 452)
    server = only_on_data(forward(smarthost), lmtp=True)
    with ready(server, "a@client.example", "b@server.example", "c@server.example") as client:
        assert [each.code for each in client.data(MESSAGE).recipients.values()] == [452, 452]


def test_a_refused_message_in_lmtp(smarthost: MailCatcher) -> None:
    smarthost.fail("RCPT", 550, to="b@server.example")
    smarthost.fail("MESSAGE", 554)
    server = only_on_data(forward(smarthost), lmtp=True)
    with ready(server, "a@client.example", "b@server.example", "c@server.example") as client:
        assert [each.code for each in client.data(MESSAGE).recipients.values()] == [550, 554]


@pytest.mark.parametrize(
    ("command", "code"), [("MAIL", 553), ("MAIL", 451), ("DATA", 554), ("MESSAGE", 452)]
)
def test_other_refusals(smarthost: MailCatcher, command: str, code: int) -> None:
    smarthost.fail(command, code)
    with ready(only_on_data(forward(smarthost))) as client:
        assert client.data(MESSAGE).code == code
    assert smarthost.messages == []


def test_its_text_and_codes_are_passed_on() -> None:
    def on_rcpt_to(address: object, session: object) -> None:
        raise SMTPError("No such user here", 550, "5.1.1")

    with (
        MailCatcher(on_rcpt_to=on_rcpt_to) as smarthost,
        ready(only_on_data(forward(smarthost))) as client,
    ):
        assert str(client.data(MESSAGE)) == "550 5.1.1 No such user here"


def test_a_reply_that_is_odd(caplog: pytest.LogCaptureFixture) -> None:
    refusal = b"550-5.1.1 one\x1b[2J\r\n550 4.9.9 two \xff\r\n"
    with (
        scripted([*HELLO, OK, refusal]) as (port, _),
        ready(only_on_data(ForwardDelivery("127.0.0.1", port))) as client,
    ):
        reply = str(client.data(MESSAGE))
    assert reply == r"550 5.1.1 one\x1b[2J two \xff"


# --- when it is away -----------------------------------------------------------------------------

AWAY = "451 4.4.1 Error: cannot forward the message now"


def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with ready(only_on_data(ForwardDelivery("127.0.0.1", port))) as client:
        assert str(client.data(MESSAGE)) == AWAY
    assert f"127.0.0.1 port {port}: " in logged(caplog)
    assert "refused" in logged(caplog)


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        ([b"554 go away\x1b\r\n"], r"554 go away\x1b"),
        ([b"421 later\r\n"], "421 later"),
        ([b"nonsense\r\n"], "-1"),
        ([b"220 x\r\n", b"502 x\r\n", b"502 no HELO\r\n"], "502 no HELO"),
        ([*HELLO, b"530 5.7.0 log in first\r\n"], "MAIL: 530"),
        ([*HELLO, b"421 closing\r\n"], "MAIL: 421 closing"),
        (HELLO, "Connection unexpectedly closed"),
        ([*HELLO, OK, OK], "closed"),
    ],
)
def test_it_does_not_talk_with_us(
    replies: list[bytes], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        scripted(replies) as (port, _),
        ready(only_on_data(ForwardDelivery("127.0.0.1", port))) as client,
    ):
        assert str(client.data(MESSAGE)) == AWAY
    assert said in logged(caplog)


def test_it_says_nothing_any_more(caplog: pytest.LogCaptureFixture) -> None:
    with MailCatcher() as smarthost:
        smarthost.delay("MESSAGE", 30)
        delivery = forward(smarthost, data_timeout=0.2)
        with ready(only_on_data(delivery)) as client:
            assert str(client.data(MESSAGE)) == AWAY
    assert "in the message: Connection unexpectedly closed: timed out" in logged(caplog)


def test_a_connection_that_was_closed_meanwhile_is_made_again() -> None:
    whole = [*HELLO, OK, OK, b"354 go on\r\n"]
    with (
        # The first ends after the reply to RCPT, as one that was idle for too long.
        scripted([*HELLO, OK, OK], whole) as (port, said),
        ready(server_with(ForwardDelivery("127.0.0.1", port))) as client,
    ):
        # The second ends in the message, and is not made again.
        assert str(client.data(MESSAGE)) == AWAY
    verbs = [line.split()[0] for line in said if line]
    assert verbs == [
        b"ehlo",
        b"MAIL",
        b"RCPT",
        b"DATA",
        b"ehlo",
        b"MAIL",
        b"RCPT",
        b"DATA",
        b"Received:",
    ]


def test_a_message_is_never_sent_twice(smarthost: MailCatcher) -> None:
    """When the answer is lost nobody knows whether it was accepted: the client must decide."""
    smarthost.drop(after="DATA", times=1)
    with ready(server_with(forward(smarthost))) as client:
        assert str(client.data(MESSAGE)) == AWAY
    assert smarthost.transcript.count("C: DATA") == 1


def test_two_messages_of_one_client(smarthost: MailCatcher) -> None:
    with server_with(forward(smarthost)).test_client() as client:
        client.command("EHLO me")
        for number in range(2):
            client.command(f"MAIL FROM:<{number}@client.example>")
            client.command("RCPT TO:<b@server.example>")
            client.command("RSET")
            client.command(f"MAIL FROM:<{number}@client.example>")
            client.command("RCPT TO:<c@server.example>")
            assert client.data(MESSAGE).code == 250
    envelopes = [message.envelope for message in smarthost.messages]
    assert [str(each.mail_from) for each in envelopes] == ["0@client.example", "1@client.example"]
    assert [str(each) for envelope in envelopes for each in envelope.rcpt_to] == [
        "c@server.example"
    ] * 2


# --- TLS and passwords ---------------------------------------------------------------------------


def trusting(catcher: MailCatcher) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=catcher.ca_file)


@pytest.mark.parametrize(
    ("mode", "options", "secure"),
    [
        ("never", {}, False),
        ("opportunistic", {}, True),
        ("opportunistic", {"disabled_commands": ["STARTTLS"]}, False),
        ("required", {}, True),
        ("implicit", {"secure": True}, True),
    ],
)
def test_tls(mode: str, options: dict[str, Any], *, secure: bool) -> None:
    with MailCatcher(**options) as smarthost:
        context = trusting(smarthost) if mode in ("required", "implicit") else None
        assert deliver(forward(smarthost, tls=mode, context=context)).code == 250
        (message,) = smarthost.messages
        assert message.session.secure is secure


@pytest.mark.parametrize(
    ("mode", "options", "said"),
    [
        ("required", {}, "CERTIFICATE_VERIFY_FAILED"),
        ("implicit", {"secure": True}, "CERTIFICATE_VERIFY_FAILED"),
        ("required", {"disabled_commands": ["STARTTLS"]}, "STARTTLS extension not supported"),
    ],
)
def test_tls_that_must_be_and_is_not(
    mode: str, options: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with MailCatcher(**options) as smarthost:
        with ready(only_on_data(forward(smarthost, tls=mode))) as client:
            assert str(client.data(MESSAGE)) == AWAY
        assert smarthost.messages == []
    assert said in logged(caplog)


@pytest.mark.parametrize(("password", "code"), [("right", 250), ("wr0ng", 451)])
def test_a_login(password: str, code: int, caplog: pytest.LogCaptureFixture) -> None:
    with MailCatcher() as smarthost:
        smarthost.users = {"me": "right"}
        delivery = forward(
            smarthost,
            tls="required",
            context=trusting(smarthost),
            username="me",
            password=password,
        )
        with ready(only_on_data(delivery)) as client:
            assert client.data(MESSAGE).code == code
    assert password not in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"tls": "maybe"},
        {"tls": "required", "username": "me"},
        {"tls": "never", "username": "me", "password": "x"},
        {"username": "me", "password": "x"},
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"tls|username|password"):
        ForwardDelivery("127.0.0.1", **options)
