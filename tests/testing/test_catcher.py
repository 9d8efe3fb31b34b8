"""MailCatcher: what it keeps, and the waiting for it."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
import threading
import unittest
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from blocksmtp.session import MessageInfo
from blocksmtp.testing import CaughtMessage, MailCatcher


def a_message(**header: str) -> EmailMessage:
    message = EmailMessage()
    fields = {"From": "ann@example.org", "To": "bob@example.org", "Subject": "Hello", **header}
    for name, value in fields.items():
        message[name] = value
    message.set_content("Hi!\n")
    return message


def send(catcher: MailCatcher, message: EmailMessage | None = None, **header: str) -> None:
    with smtplib.SMTP(catcher.host, catcher.port) as client:
        client.send_message(message or a_message(**header))


@pytest.fixture
def catcher() -> Iterator[MailCatcher]:
    with MailCatcher() as running:
        yield running


class TestMessages:
    def test_a_message(self, catcher: MailCatcher) -> None:
        send(catcher, Bcc="secret@example.org")
        (message,) = catcher.messages
        assert isinstance(message, CaughtMessage)
        assert str(message.envelope.mail_from) == "ann@example.org"
        assert [str(to) for to in message.envelope.rcpt_to] == [
            "bob@example.org",
            "secret@example.org",
        ]
        assert message.email["To"] == "bob@example.org"
        assert message.email["Bcc"] is None
        assert message.content.endswith(b"\r\n\r\nHi!\r\n")
        assert message.session.remote_address == "127.0.0.1"

    def test_in_the_order_in_which_they_were_acknowledged(self, catcher: MailCatcher) -> None:
        for number in range(5):
            send(catcher, Subject=str(number))
        assert [message.subject for message in catcher.messages] == list("01234")

    def test_the_session_is_that_of_its_time(self, catcher: MailCatcher) -> None:
        with smtplib.SMTP(catcher.host, catcher.port) as client:
            client.send_message(a_message())
            client.ehlo("other")
            client.send_message(a_message())
        first, second = catcher.messages
        assert first.session.host_name_appears_as != "other"
        assert second.session.host_name_appears_as == "other"

    def test_what_is_visible_has_been_acknowledged(self, catcher: MailCatcher) -> None:
        """The reply is written first: whoever has not read it yet finds it there."""
        with socket.create_connection((catcher.host, catcher.port)) as client:
            file = client.makefile("rb")
            file.readline()
            client.sendall(
                b"HELO me\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
                b"\r\nHi\r\n.\r\n"
            )
            catcher.wait_for(1)
            client.settimeout(0)
            assert [file.readline()[:3] for _ in range(5)] == [
                b"250",
                b"250",
                b"250",
                b"354",
                b"250",
            ]
            file.close()

    def test_a_sender_that_has_returned_has_its_message_there(self, catcher: MailCatcher) -> None:
        """However late the server's thread goes on after it has written the reply."""
        reply_is_read = threading.Event()
        server, answered = catcher._server, catcher._answered

        def answered_late(info: MessageInfo) -> None:
            reply_is_read.wait(30)
            answered(info)

        server.off("message", answered)
        server.on("message", answered_late)
        with smtplib.SMTP(catcher.host, catcher.port) as client:
            client.send_message(a_message())
            with ThreadPoolExecutor() as looking:
                seen = looking.submit(lambda: catcher.messages)
                assert not seen.done()
                reply_is_read.set()
                assert len(seen.result(30)) == 1

    def test_what_is_broken_off_is_not_there(self, catcher: MailCatcher) -> None:
        with socket.create_connection((catcher.host, catcher.port)) as client:
            client.sendall(
                b"HELO me\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n\r\nHi\r\n"
            )
        send(catcher)
        catcher.close()
        assert [message.subject for message in catcher.messages] == ["Hello"]

    def test_a_sender_that_has_not_said_quit_yet(self, catcher: MailCatcher) -> None:
        """What smtplib and Django take for an error, they do not get."""
        with smtplib.SMTP(catcher.host, catcher.port) as client:
            client.send_message(a_message())
            catcher.close()

    def test_they_outlast_the_catcher(self, catcher: MailCatcher) -> None:
        send(catcher)
        catcher.close()
        assert len(catcher.messages) == 1

    def test_the_list_is_the_caller_s_own(self, catcher: MailCatcher) -> None:
        send(catcher)
        catcher.messages.clear()
        assert len(catcher.messages) == 1

    def test_clear(self, catcher: MailCatcher) -> None:
        catcher.users["ann"] = "sesame"
        catcher.fail("CONNECT", 421)
        catcher.clear()
        assert catcher.users == {"ann": "sesame"}
        catcher.users.clear()
        send(catcher)
        catcher.clear()
        assert catcher.messages == []
        assert catcher.transcript == ""

    def test_lmtp_keeps_whom_it_accepted(self) -> None:
        with MailCatcher(lmtp=True) as catcher:
            catcher.fail("MESSAGE", 452, to="eve@example.org")
            with catcher.test_client() as client:
                reply = client.send_message(a_message(Cc="eve@example.org"))
            assert [each.code for each in reply.recipients.values()] == [250, 452]
            (message,) = catcher.wait_for(to="bob@example.org")
            assert [str(to) for to in message.envelope.rcpt_to] == ["bob@example.org"]

    def test_in_memory_too(self, catcher: MailCatcher) -> None:
        with catcher.test_client() as client:
            assert client.send_message(a_message()).code == 250
        assert len(catcher.messages) == 1


class TestWaiting:
    def test_woken_by_the_message(self, catcher: MailCatcher) -> None:
        sender = threading.Thread(target=send, args=(catcher,))
        sender.start()
        (message,) = catcher.wait_for()
        sender.join()
        assert message.subject == "Hello"

    def test_for_some_of_them(self, catcher: MailCatcher) -> None:
        send(catcher, Subject="One", To="Bob <Bob@example.org>")
        send(catcher, Subject="Two", To="eve@example.org")
        send(catcher, Subject="Three", To="bob@EXAMPLE.org")
        subjects = [message.subject for message in catcher.wait_for(2, to="bob@example.org")]
        assert subjects == ["One", "Three"]
        assert catcher.wait_for(subject="Two") == catcher.messages[1:2]
        assert catcher.wait_for(2, subject=re.compile("^T")) == catcher.messages[1:]
        assert len(catcher.wait_for()) == 3

    def test_in_vain(self, catcher: MailCatcher) -> None:
        send(catcher, Subject="One")
        with pytest.raises(TimeoutError) as raised:
            catcher.wait_for(2, to="bob@example.org", subject=re.compile("One|Two"), timeout=0.01)
        assert str(raised.value) == (
            "waited 0.01 s for 2 messages to bob@example.org with the subject 'One|Two', got 1; "
            "in all arrived:\n"
            "  <CaughtMessage 'One' from <ann@example.org> to bob@example.org>"
        )

    def test_for_what_never_came(self, catcher: MailCatcher) -> None:
        with pytest.raises(
            TimeoutError, match=r"nothing\nand no client has connected to 127.0.0.1:"
        ):
            catcher.wait_for(timeout=0)

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ({"count": 0}, ValueError),
            ({"count": "1"}, TypeError),
            ({"count": True}, TypeError),
            ({"to": ["a@b.example"]}, TypeError),
            ({"subject": b"x"}, TypeError),
        ],
    )
    def test_misuse(
        self, catcher: MailCatcher, arguments: dict[str, Any], error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            catcher.wait_for(**arguments)


class TestMisuse:
    def test_on_data(self) -> None:
        with pytest.raises(TypeError, match="look at `messages`"):
            MailCatcher(on_data=print)
        with pytest.raises(TypeError, match="look at `messages`"):
            MailCatcher(onData=print)

    def test_an_unknown_option(self) -> None:
        with pytest.raises(TypeError, match="did you mean 'secure'"):
            MailCatcher(secured=True)

    def test_not_started(self) -> None:
        catcher = MailCatcher()
        for use in (lambda: catcher.host, lambda: catcher.port, catcher.wait_for):
            with pytest.raises(RuntimeError, match="not started"):
                use()
        assert repr(catcher) == "<MailCatcher not started, 0 messages>"
        catcher.close()

    def test_started_twice(self, catcher: MailCatcher) -> None:
        with pytest.raises(RuntimeError, match="already"):
            catcher.start()

    def test_a_port_that_is_taken(self, catcher: MailCatcher) -> None:
        with pytest.raises(OSError, match="in use"):
            MailCatcher(port=catcher.port).start()

    def test_its_name(self, catcher: MailCatcher) -> None:
        assert repr(catcher) == f"<MailCatcher 127.0.0.1:{catcher.port}, 0 messages>"


class TestUsers:
    def test_without_any_every_password_is_right(self, catcher: MailCatcher) -> None:
        with smtplib.SMTP(catcher.host, catcher.port) as client:
            client.login("whoever", "whatever")
            client.send_message(a_message())
        assert catcher.messages[0].session.user == "whoever"

    @pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
    def test_with_some_they_are_needed(self, mechanism: str) -> None:
        with MailCatcher(auth_methods=[mechanism]) as catcher:
            catcher.users = {"ann": "sesame"}
            with smtplib.SMTP(catcher.host, catcher.port) as client:
                with pytest.raises(smtplib.SMTPSenderRefused) as refused:
                    client.send_message(a_message())
                assert refused.value.smtp_code == 530
                for name, password in (("ann", "wrong"), ("eve", "sesame"), ("eve", "None")):
                    with pytest.raises(smtplib.SMTPAuthenticationError):
                        client.login(name, password)
            with smtplib.SMTP(catcher.host, catcher.port) as client:
                client.login("ann", "sesame")
                client.send_message(a_message())
            assert catcher.messages[0].session.user == "ann"
            assert "sesame" not in catcher.transcript

    def test_a_token(self) -> None:
        with MailCatcher(auth_methods=["XOAUTH2"]) as catcher:
            catcher.users = {"ann": "token"}

            def answer(challenge: bytes | None = None) -> str:
                return "user=ann\x01auth=Bearer token\x01\x01"

            with smtplib.SMTP(catcher.host, catcher.port) as client:
                client.ehlo()
                assert client.auth("XOAUTH2", answer)[0] == 235

    def test_one_s_own_callback(self) -> None:
        with MailCatcher(on_auth=lambda auth, session: {"name": auth.username}) as catcher:
            with smtplib.SMTP(catcher.host, catcher.port) as client:
                client.login("ann", "x")
                client.send_message(a_message())
            assert catcher.messages[0].session.user == {"name": "ann"}


class TestTLS:
    @pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
    def test_starttls_that_every_client_can_verify(self, catcher: MailCatcher, name: str) -> None:
        context = ssl.create_default_context(cafile=catcher.ca_file)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        with smtplib.SMTP(name, catcher.port) as client:
            client.starttls(context=context)
            client.send_message(a_message())
        assert catcher.messages[0].session.secure

    def test_implicit_tls(self) -> None:
        with MailCatcher(secure=True) as catcher:
            context = catcher.ssl_context
            with smtplib.SMTP_SSL("localhost", catcher.port, context=context) as client:
                client.send_message(a_message())
            assert catcher.messages[0].session.secure

    def test_over_ipv6(self) -> None:
        with MailCatcher("::1") as catcher, smtplib.SMTP("::1", catcher.port) as client:
            client.starttls(context=catcher.ssl_context)
            client.send_message(a_message())
            assert len(catcher.messages) == 1

    def test_another_is_not_trusted(self, catcher: MailCatcher) -> None:
        with MailCatcher() as other:
            client = smtplib.SMTP("localhost", catcher.port)
            with pytest.raises(ssl.SSLCertVerificationError):
                client.starttls(context=other.ssl_context)
            client.close()

    def test_the_file_ends_with_the_catcher(self, catcher: MailCatcher) -> None:
        path = Path(catcher.ca_file)
        assert path.read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")
        assert catcher.ca_file == str(path)
        catcher.close()
        assert not path.exists()

    def test_a_certificate_of_one_s_own(self, tmp_path: Path) -> None:
        from tests.certificates import Authority

        authority = Authority()
        leaf = authority.issue("localhost")
        with MailCatcher(cert=leaf.combined, name="localhost") as catcher:
            with pytest.raises(RuntimeError, match="given"):
                _ = catcher.ca_file
            context = ssl.create_default_context()
            authority.trusted_by(context)
            with smtplib.SMTP("localhost", catcher.port) as client:
                client.starttls(context=context)


class TestTranscript:
    def test_of_several_clients(self, catcher: MailCatcher) -> None:
        with contextlib.ExitStack() as stack:
            for name in ("one", "two"):
                client = stack.enter_context(smtplib.SMTP(catcher.host, catcher.port))
                client.helo(name)
        lines = catcher.transcript.splitlines()
        assert "1 C: helo one" in lines
        assert "2 C: helo two" in lines
        assert "1 S: 220 localhost ESMTP" in lines

    def test_what_a_client_makes_up_is_no_line(self, catcher: MailCatcher) -> None:
        with smtplib.SMTP(catcher.host, catcher.port) as client:
            client.sock.sendall(b"NOOP \x1b[31m\n") if client.sock else None
            client.getreply()
        assert "1 C: NOOP \\x1b[31m" in catcher.transcript
        assert "\x1b" not in catcher.transcript

    def test_a_defect_of_a_callback(self, caplog: pytest.LogCaptureFixture) -> None:
        def on_rcpt_to(address: Any, session: Any) -> None:
            raise ZeroDivisionError("one's own")

        with MailCatcher(on_rcpt_to=on_rcpt_to) as catcher:
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                send(catcher)
            assert "ZeroDivisionError: one's own" in catcher.transcript
        assert [record.levelname for record in caplog.records] == ["ERROR"]


class UnittestStyle(unittest.TestCase):
    """As it is used without pytest."""

    def setUp(self) -> None:
        self.catcher = MailCatcher().start()
        self.addCleanup(self.catcher.close)

    def test_a_message(self) -> None:
        send(self.catcher)
        (message,) = self.catcher.wait_for()
        self.assertEqual(message.subject, "Hello")  # noqa: PT009 - the style that is shown
