"""`server.test_client()`: the whole dialogue in the calling thread."""

from __future__ import annotations

import email
import email.policy
import io
import smtplib
import sqlite3
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest

from blocksmtp import AuthResponse, SMTPError, SMTPServer
from blocksmtp.session import ProxyInfo


class Mailbox:
    """An application that keeps what it is given."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self.envelopes: list[Any] = []
        self.threads: list[threading.Thread] = []
        self.closed = 0

    def on_data(self, stream: Any, session: Any) -> None:
        self.threads.append(threading.current_thread())
        self.contents.append(stream.read())
        self.envelopes.append(session.envelope)

    def on_close(self, session: Any) -> None:
        self.closed += 1


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


def server_for(mailbox: Mailbox, **options: Any) -> SMTPServer:
    options = {"name": "mx.example.org", "auth_optional": True, **options}
    return SMTPServer(on_data=mailbox.on_data, on_close=mailbox.on_close, **options)


def a_message(**header: str) -> EmailMessage:
    message = EmailMessage()
    fields = {"From": "ann@example.org", "To": "bob@example.org", "Subject": "Hello", **header}
    for name, value in fields.items():
        message[name] = value
    message.set_content("Hi!\n.\nBye!\n")
    return message


def test_a_dialogue(mailbox: Mailbox) -> None:
    threads = threading.active_count()
    with server_for(mailbox).test_client() as client:
        assert str(client.greeting) == "220 mx.example.org ESMTP"
        hello = client.command("EHLO me")
        assert (hello.code, hello.lines[0]) == (250, "mx.example.org Nice to meet you, localhost")
        assert "PIPELINING" in hello.lines
        assert client.command("MAIL FROM:<ann@example.org>").code == 250
        reply = client.command("RCPT TO:<bob@example.org>")
        assert (reply.code, reply.enhanced_code, reply.accepted) == (250, "2.1.5", True)
        assert client.command("DATA").code == 354
        assert client.data("Subject: x\n\n.hello\n").code == 250
        assert client.session.opening_command == "EHLO"
        assert threading.active_count() == threads
    assert mailbox.contents == [b"Subject: x\r\n\r\n.hello\r\n"]
    assert mailbox.threads == [threading.current_thread()]
    assert client.closed
    assert mailbox.closed == 1


def test_the_callback_sees_the_transaction_of_the_test(mailbox: Mailbox) -> None:
    database = sqlite3.connect(":memory:")  # For one thread only.
    database.execute("CREATE TABLE users (address)")
    database.commit()
    database.execute("INSERT INTO users VALUES ('bob@example.org')")

    def on_rcpt_to(address: Any, session: Any) -> None:
        row = database.execute("SELECT 1 FROM users WHERE address = ?", [address.address])
        if row.fetchone() is None:
            raise SMTPError("no such user")
        database.execute("INSERT INTO users VALUES ('seen')")

    with server_for(mailbox, on_rcpt_to=on_rcpt_to).test_client() as client:
        reply = client.send_message(a_message(Cc="eve@example.org"))
    assert reply.code == 250
    assert {name: each.code for name, each in reply.recipients.items()} == {
        "bob@example.org": 250,
        "eve@example.org": 550,
    }
    assert database.execute("SELECT count(*) FROM users").fetchone() == (2,)
    database.rollback()
    assert database.execute("SELECT count(*) FROM users").fetchone() == (0,)
    database.close()


class TestMessages:
    def test_bcc_is_in_the_envelope_only(self, mailbox: Mailbox) -> None:
        with server_for(mailbox).test_client() as client:
            message = a_message(Bcc="secret@example.org")
            assert client.send_message(message).code == 250
        (envelope,) = mailbox.envelopes
        assert [to.address for to in envelope.rcpt_to] == ["bob@example.org", "secret@example.org"]
        assert b"secret" not in mailbox.contents[0]
        assert message["Bcc"] == "secret@example.org"

    def test_the_same_octets_as_smtplib(self, mailbox: Mailbox) -> None:
        message = a_message(Subject="Grüße", Bcc="secret@example.org")
        server = server_for(mailbox, disable_reverse_lookup=True)
        with server.test_client() as client:
            client.send_message(message)
        port = server.listen(0, "127.0.0.1").port or 0
        with server, smtplib.SMTP("127.0.0.1", port) as sender:
            sender.send_message(message)
        in_memory, on_the_wire = mailbox.contents
        assert in_memory == on_the_wire
        assert mailbox.envelopes[0].rcpt_to == mailbox.envelopes[1].rcpt_to

    def test_addresses_given(self, mailbox: Mailbox) -> None:
        with server_for(mailbox).test_client() as client:
            assert client.send_message(a_message(), "", "x@example.org").code == 250
            assert client.send_message(b"y\r\n", "a@b.example", ["x@example.org"]).code == 250
        assert [str(envelope.mail_from) for envelope in mailbox.envelopes] == ["", "a@b.example"]
        assert mailbox.contents[1] == b"y\r\n"

    def test_resent(self, mailbox: Mailbox) -> None:
        header = {
            "Resent-Date": "Fri, 27 Nov 2026 12:00:00 +0000",
            "Resent-From": "carol@example.org",
            "Resent-To": "dan@example.org",
        }
        with server_for(mailbox).test_client() as client:
            client.send_message(a_message(**header))
        (envelope,) = mailbox.envelopes
        assert str(envelope.mail_from) == "carol@example.org"
        assert [str(to) for to in envelope.rcpt_to] == ["dan@example.org"]

    def test_international_addresses(self, mailbox: Mailbox) -> None:
        with server_for(mailbox).test_client() as client:
            assert client.send_message(a_message(To="jürgen@example.org")).code == 250
        (envelope,) = mailbox.envelopes
        assert envelope.smtp_utf8
        assert "jürgen@example.org".encode() in mailbox.contents[0]

    def test_options_of_mail_and_rcpt(self, mailbox: Mailbox) -> None:
        with server_for(mailbox, hide_dsn=False).test_client() as client:
            client.send_message(
                a_message(), mail_options=["RET=HDRS"], rcpt_options=["NOTIFY=NEVER"]
            )
        (envelope,) = mailbox.envelopes
        assert envelope.dsn.ret == "HDRS"
        assert envelope.rcpt_to[0].dsn.notify == ["NEVER"]

    @pytest.mark.parametrize(
        ("header", "addresses", "complaint"),
        [
            ({"From": None}, (None, "a@example.org"), "no sender"),
            ({"From": ""}, (None, "a@example.org"), "no sender"),
            ({"From": "undisclosed:;"}, (None, "a@example.org"), "no sender"),
            ({"To": None}, (None, None), "no recipient"),
            ({"To": "undisclosed:;"}, (None, None), "no recipient"),
            ({}, ("a@example.org\r\nRSET", None), "no address for an envelope"),
            ({}, ("a@example.org> SIZE=1", None), "no address for an envelope"),
            ({}, (None, "a\ud800@example.org"), "no address for an envelope"),
        ],
    )
    def test_an_envelope_that_is_none(
        self, mailbox: Mailbox, header: dict[str, str | None], addresses: Any, complaint: str
    ) -> None:
        message = a_message()
        for name, value in header.items():
            del message[name]
            if value is not None:
                message[name] = value
        client = server_for(mailbox).test_client()
        with client, pytest.raises(ValueError, match=complaint):
            client.send_message(message, *addresses)

    @pytest.mark.parametrize("name", ["From", "To"])
    @pytest.mark.parametrize("value", ["<", "=?utf-7?Q?+2AA-@x?=", "=?utf-8?q?a=0Ab=40c?="])
    def test_what_cannot_be_parsed(self, mailbox: Mailbox, name: str, value: str) -> None:
        header = {"From": "a@example.org", "To": "b@example.org", name: value}
        text = "".join(f"{each}: {header[each]}\n" for each in header)
        message = email.message_from_string(f"{text}\nHello\n", policy=email.policy.default)
        client = server_for(mailbox).test_client()
        with client, pytest.raises(ValueError, match=r"no (address|sender|recipient)"):
            client.send_message(message)

    def test_sender_without_an_address(self, mailbox: Mailbox) -> None:
        with server_for(mailbox).test_client() as client:
            assert client.send_message(a_message(Sender="undisclosed:;")).code == 250
        assert str(mailbox.envelopes[0].mail_from) == "ann@example.org"

    def test_a_refused_sender(self, mailbox: Mailbox) -> None:
        def on_mail_from(address: Any, session: Any) -> None:
            raise SMTPError("not you", 553)

        with server_for(mailbox, on_mail_from=on_mail_from).test_client() as client:
            reply = client.send_message(a_message())
        assert str(reply) == "553 5.1.3 not you"
        assert reply.recipients == {}

    def test_all_recipients_refused(self, mailbox: Mailbox) -> None:
        def on_rcpt_to(address: Any, session: Any) -> None:
            raise SMTPError("nobody here")

        with server_for(mailbox, on_rcpt_to=on_rcpt_to).test_client() as client:
            reply = client.send_message(a_message())
            assert client.session.envelope.mail_from is None
        assert str(reply) == "550 5.1.1 nobody here"
        assert mailbox.contents == []

    def test_lmtp_answers_for_each(self) -> None:
        def on_data(stream: Any, session: Any) -> list[Any]:
            stream.read()
            return ["kept", SMTPError("full", 452)]

        server = SMTPServer(lmtp=True, auth_optional=True, on_data=on_data)
        with server.test_client() as client:
            reply = client.send_message(a_message(Cc="eve@example.org"))
        assert [each.code for each in reply.recipients.values()] == [250, 452]
        assert client.session.opening_command == "LHLO"


class TestBodies:
    def test_in_pieces(self, mailbox: Mailbox) -> None:
        with server_for(mailbox).test_client() as client:
            client.pipeline("EHLO me", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>")
            assert client.data([b"x\r", b"\n", b".", b"y\r\n", b".\r\n", b"z"]).code == 250
        assert mailbox.contents == [b"x\r\n.y\r\n.\r\nz\r\n"]

    @pytest.mark.parametrize(
        "content", [b"a\r\n", "a\n", "a\r\n", io.BytesIO(b"a\r\n"), [b"a\r\n"]]
    )
    def test_in_any_form(self, mailbox: Mailbox, content: Any) -> None:
        with server_for(mailbox).test_client() as client:
            client.send_message(content, "a@b.example", "c@d.example")
        assert mailbox.contents == [b"a\r\n"]

    def test_each_piece_comes_when_it_is_read(self) -> None:
        seen: list[str] = []

        def pieces() -> Iterator[bytes]:
            for number in range(3):
                seen.append(f"sent {number}")
                yield b"%d\r\n" % number

        def on_data(stream: Any, session: Any) -> None:
            seen.extend(f"read {line.decode().strip()}" for line in stream)

        with SMTPServer(auth_optional=True, on_data=on_data).test_client() as client:
            client.send_message(pieces(), "a@b.example", "c@d.example")
        # The end of a line may be that of the message, as far as the server knows.
        assert seen == ["sent 0", "sent 1", "read 0", "sent 2", "read 1", "read 2"]

    def test_pieces_that_fail_break_the_connection(self, mailbox: Mailbox) -> None:
        failures: list[BaseException] = []

        def pieces() -> Iterator[bytes]:
            yield b"a\r\n"
            raise OSError("the test's own")

        def on_data(stream: Any, session: Any) -> None:
            try:
                stream.read()
            except ConnectionError as error:
                failures.append(error)
                raise

        server = server_for(mailbox)
        server.on_data = on_data
        client = server.test_client()
        with pytest.raises(OSError, match="the test's own"):
            client.send_message(pieces(), "a@b.example", "c@d.example")
        assert client.closed
        assert len(failures) == 1

    def test_a_client_that_goes_inside_a_message(self, mailbox: Mailbox) -> None:
        client = server_for(mailbox).test_client()
        client.pipeline("EHLO me", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA")
        client.close()
        assert mailbox.contents == []
        assert mailbox.closed == 1

    def test_chunks(self, mailbox: Mailbox) -> None:
        with server_for(mailbox).test_client() as client:
            client.pipeline("EHLO me", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>")
            replies = client.pipeline("BDAT 4", b"a\r\n.", "BDAT 3 LAST", b"b\r\n")
        assert [reply.code for reply in replies] == [250, 250]
        assert mailbox.contents == [b"a\r\n.b\r\n"]


class TestPipelining:
    def test_a_whole_group(self, mailbox: Mailbox) -> None:
        with server_for(mailbox).test_client() as client:
            replies = client.pipeline(
                "EHLO me", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "RCPT TO:<>",
                "DATA", b"hello\r\n.\r\n", "NOOP",
            )  # fmt: skip
        assert [reply.code for reply in replies] == [250, 250, 250, 501, 354, 250, 250]
        assert mailbox.contents == [b"hello\r\n"]

    def test_a_command_in_place_of_the_message(self, mailbox: Mailbox) -> None:
        with server_for(mailbox).test_client() as client:
            client.pipeline("EHLO me", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA")
            with pytest.raises(RuntimeError, match=r"say it with data\(\)"):
                client.command("NOOP")
            assert client.data(b"x").code == 250

    def test_half_a_message(self, mailbox: Mailbox) -> None:
        client = server_for(mailbox).test_client()
        client.pipeline("EHLO me", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>")
        with pytest.raises(RuntimeError, match="waits for the rest"):
            client.pipeline("DATA", b"hello\r\n")
        assert client.closed
        assert mailbox.contents == []

    def test_lines_that_are_none(self, mailbox: Mailbox) -> None:
        with server_for(mailbox).test_client() as client:
            with pytest.raises(ValueError, match="one line"):
                client.command("NOOP\r\nQUIT")
            with pytest.raises(ValueError, match="more than one command"):
                client.command(b"NOOP\r\nNOOP")
            assert client.command(b"NOOP \xff").code == 250

    def test_data_refused(self, mailbox: Mailbox) -> None:
        with server_for(mailbox).test_client() as client:
            assert client.data(b"x").code == 503


class TestAuthentication:
    @pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
    def test_login(self, mailbox: Mailbox, mechanism: str) -> None:
        def on_auth(auth: Any, session: Any) -> AuthResponse | None:
            right = (
                auth.validate_password("sesame")
                if auth.method == "CRAM-MD5"
                else auth.password == "sesame"
            )
            return AuthResponse(user="ann") if auth.username == "ann" and right else None

        server = server_for(
            mailbox, auth_optional=False, auth_methods=["PLAIN", "LOGIN", "CRAM-MD5"],
            on_auth=on_auth,
        )  # fmt: skip
        with server.test_client(secure=True) as client:
            assert client.send_message(a_message()).code == 530
            assert client.login("ann", "wrong", mechanism).code == 535
            assert client.login("ann", "sesame", mechanism).code == 235
            assert client.session.user == "ann"
            assert client.send_message(a_message()).code == 250

    def test_not_in_clear(self, mailbox: Mailbox) -> None:
        with server_for(mailbox).test_client() as client:
            assert client.login("ann", "sesame", "LOGIN").code == 538
            assert client.login("ann", "sesame", "CRAM-MD5").code >= 500

    def test_an_unknown_mechanism(self, mailbox: Mailbox) -> None:
        client = server_for(mailbox).test_client()
        with client, pytest.raises(ValueError, match="not NTLM"):
            client.login("ann", "sesame", "NTLM")


class TestPretendedTLS:
    def test_from_the_start(self, mailbox: Mailbox) -> None:
        approved: list[Any] = []

        def on_secure(connection: Any, session: Any) -> None:
            approved.append(session.servername)

        server = server_for(mailbox, on_secure=on_secure)
        with server.test_client(secure=True, servername="mx.example.org") as client:
            assert "STARTTLS" not in client.command("EHLO me").lines
            assert client.session.secure
            assert client.session.tls_options is not None
        assert approved == ["mx.example.org"]

    def test_refused(self, mailbox: Mailbox) -> None:
        def on_secure(connection: Any, session: Any) -> None:
            raise SMTPError("no")

        server = server_for(mailbox, on_secure=on_secure)
        with pytest.raises(ConnectionError, match="on_secure"):
            server.test_client(secure=True)
        assert mailbox.closed == 1

    def test_starttls(self, mailbox: Mailbox) -> None:
        with server_for(mailbox, needs_upgrade=True).test_client(servername="a.example") as client:
            assert client.command("EHLO me").code == 250
            assert client.command("MAIL FROM:<a@b.example>").code == 530
            assert client.starttls().code == 220
            assert client.session.servername == "a.example"
            assert client.command("MAIL FROM:<a@b.example>").code == 503  # EHLO is due again.
            assert client.send_message(a_message()).code == 250

    def test_octets_after_starttls(self, mailbox: Mailbox) -> None:
        client = server_for(mailbox).test_client()
        client.command("EHLO me")
        with pytest.raises(ConnectionError):
            client.pipeline("STARTTLS", "NOOP")
        assert client.closed


class TestWhoTheClientIs:
    def test_what_is_said_of_it(self, mailbox: Mailbox) -> None:
        proxy = ProxyInfo(2)
        client = server_for(mailbox).test_client(
            remote_address="192.0.2.7", remote_port=1234, local_address="192.0.2.1",
            local_port=587, client_hostname="mail.example.org", client_hostname_verified=True,
            proxy=proxy,
        )  # fmt: skip
        session = client.session
        assert (session.remote_address, session.remote_port) == ("192.0.2.7", 1234)
        assert (session.local_address, session.local_port) == ("192.0.2.1", 587)
        assert session.client_hostname == "mail.example.org"
        assert session.client_hostname_verified
        assert session.proxy is proxy
        client.close()

    def test_xclient_by_its_address(self, mailbox: Mailbox) -> None:
        server = server_for(mailbox, use_xclient=["192.0.2.0/24"])
        with server.test_client(remote_address="192.0.2.7") as client:
            assert client.session.client_hostname == "[192.0.2.7]"
            client.command("EHLO me")
            assert client.command("XCLIENT ADDR=198.51.100.1").code == 220
            assert client.session.remote_address == "198.51.100.1"
        with server.test_client(remote_address="198.51.100.1") as client:
            client.command("EHLO me")
            assert client.command("XCLIENT ADDR=198.51.100.2").code == 550

    def test_an_unknown_keyword(self, mailbox: Mailbox) -> None:
        with pytest.raises(TypeError, match="remote_adress"):
            server_for(mailbox).test_client(remote_adress="192.0.2.7")


class TestEnds:
    def test_a_refused_connection(self, mailbox: Mailbox) -> None:
        def on_connect(session: Any) -> None:
            raise SMTPError("go away")

        client = server_for(mailbox, on_connect=on_connect).test_client()
        assert str(client.greeting) == "554 5.7.1 go away"
        assert client.closed
        with pytest.raises(RuntimeError, match="has been closed"):
            client.command("EHLO me")

    def test_quit(self, mailbox: Mailbox) -> None:
        client = server_for(mailbox).test_client()
        assert client.quit().code == 221
        assert client.closed
        client.close()
        assert mailbox.closed == 1

    def test_a_defect_of_the_application(self, mailbox: Mailbox) -> None:
        def on_data(stream: Any, session: Any) -> None:
            raise ZeroDivisionError

        server = server_for(mailbox)
        server.on_data = on_data
        told: list[BaseException] = []
        server.on("error", told.append)
        with server.test_client() as client:
            assert client.send_message(a_message()).code == 451
            assert [type(error) for error in client.errors] == [ZeroDivisionError]
        assert told == client.errors

    def test_events(self, mailbox: Mailbox) -> None:
        server = server_for(mailbox)
        events: list[Any] = []
        server.on("connect", events.append)
        server.on("message", events.append)
        with server.test_client() as client:
            client.send_message(a_message())
        connect, message = events
        assert connect.id == message.id == client.session.id
        assert message.accepted
        assert message.reply_written

    def test_a_closed_server(self, mailbox: Mailbox) -> None:
        server = server_for(mailbox)
        server.close()
        with pytest.raises(RuntimeError, match="closed"):
            server.test_client()

    def test_many_at_once(self, mailbox: Mailbox) -> None:
        server = server_for(mailbox)
        first, second = server.test_client(), server.test_client()
        assert first.session.id != second.session.id
        first.send_message(a_message())
        second.send_message(a_message())
        first.quit()
        second.quit()
        assert len(mailbox.contents) == 2
