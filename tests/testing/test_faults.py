"""Faults that a test orders."""

from __future__ import annotations

import smtplib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from blocksmtp.testing import MailCatcher

from .test_catcher import a_message, send


@pytest.fixture
def catcher() -> Iterator[MailCatcher]:
    with MailCatcher() as running:
        yield running


class TestRefusals:
    @pytest.mark.parametrize(
        ("command", "error", "code"),
        [
            ("CONNECT", smtplib.SMTPConnectError, 554),
            ("EHLO", smtplib.SMTPHeloError, 550),
            ("MAIL", smtplib.SMTPSenderRefused, 550),
            ("RCPT", smtplib.SMTPRecipientsRefused, 550),
            ("DATA", smtplib.SMTPDataError, 550),
            ("MESSAGE", smtplib.SMTPDataError, 550),
        ],
    )
    def test_each_command(
        self, catcher: MailCatcher, command: str, error: type[Exception], code: int
    ) -> None:
        catcher.fail(command, 550, "as ordered")
        catcher.fail("HELO", 550)
        with pytest.raises(error):
            send(catcher)
        assert f"S: {code} " in catcher.transcript
        assert "as ordered" in catcher.transcript
        assert catcher.messages == []

    def test_auth_and_starttls(self, catcher: MailCatcher) -> None:
        catcher.fail("auth", 454, "Temporary failure")
        catcher.fail("STARTTLS", 454)
        with smtplib.SMTP(catcher.host, catcher.port) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
                client.login("ann", "sesame")
            assert refused.value.smtp_code == 454
            with pytest.raises(smtplib.SMTPResponseException) as no_tls:
                client.starttls()
            assert no_tls.value.smtp_code == 454

    def test_so_many_times(self, catcher: MailCatcher) -> None:
        catcher.fail("MAIL", 451, times=2)
        for _ in range(2):
            with pytest.raises(smtplib.SMTPSenderRefused):
                send(catcher)
        send(catcher)
        assert len(catcher.messages) == 1

    def test_one_recipient(self, catcher: MailCatcher) -> None:
        catcher.fail("RCPT", 550, "no such user", to="Eve@example.org")
        with smtplib.SMTP(catcher.host, catcher.port) as client:
            refused = client.send_message(a_message(Cc="eve@example.org"))
        assert refused == {"eve@example.org": (550, b"5.7.1 no such user")}
        (message,) = catcher.messages
        assert [str(to) for to in message.envelope.rcpt_to] == ["bob@example.org"]

    def test_data_for_one_recipient(self, catcher: MailCatcher) -> None:
        catcher.fail("DATA", 451, to="eve@example.org")
        send(catcher)
        with pytest.raises(smtplib.SMTPDataError):
            send(catcher, Cc="eve@example.org")

    def test_the_last_comes_first(self, catcher: MailCatcher) -> None:
        catcher.fail("MAIL", 550)
        catcher.fail("MAIL", 451, times=1)
        for code in (451, 550, 550):
            with pytest.raises(smtplib.SMTPSenderRefused) as refused:
                send(catcher)
            assert refused.value.smtp_code == code

    def test_421_ends_the_connection(self, catcher: MailCatcher) -> None:
        catcher.fail("NOOP", 421)
        client = smtplib.SMTP(catcher.host, catcher.port)
        assert client.noop()[0] == 421
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.noop()
        client.close()

    def test_a_temporary_refusal_of_the_connection(self, catcher: MailCatcher) -> None:
        catcher.fail("CONNECT", 450, times=1)
        with pytest.raises(smtplib.SMTPConnectError) as refused:
            smtplib.SMTP(catcher.host, catcher.port)
        assert refused.value.smtp_code == 421
        send(catcher)

    def test_a_chunk(self, catcher: MailCatcher) -> None:
        """Its octets are read away: they are no commands."""
        catcher.fail("BDAT", 452, times=1)
        with catcher.test_client() as client:
            client.pipeline("EHLO me", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>")
            replies = client.pipeline("BDAT 6 LAST", b"QUIT\r\n", "NOOP")
        assert [reply.code for reply in replies] == [452, 250]

    @pytest.mark.parametrize(
        ("arguments", "keywords", "error", "text"),
        [
            (("FOO", 550), {}, ValueError, "unknown command 'FOO'"),
            ((None, 550), {}, TypeError, "command"),
            (("MAIL", 250), {}, ValueError, "from 400 to 599"),
            (("MAIL", "550"), {}, TypeError, "response_code"),
            (("MAIL", True), {}, TypeError, "response_code"),
            (("MAIL", 550, "two\r\nlines"), {}, ValueError, "one line"),
            (("MAIL", 550), {"times": 0}, ValueError, "times"),
            (("MAIL", 550), {"to": "a@b.example"}, ValueError, "for no recipient"),
            (("RCPT", 550), {"to": 5}, TypeError, "to must be str"),
            (("RCPT", 550, None), {}, TypeError, "message must be str"),
        ],
    )
    def test_misuse(
        self,
        catcher: MailCatcher,
        arguments: Any,
        keywords: Any,
        error: type[Exception],
        text: str,
    ) -> None:
        with pytest.raises(error, match=text):
            catcher.fail(*arguments, **keywords)


class TestDelays:
    def test_the_reply_comes_later(self, catcher: MailCatcher) -> None:
        catcher.delay("NOOP", 0.2, times=1)
        impatient = smtplib.SMTP(catcher.host, catcher.port, timeout=0.05)
        with pytest.raises((TimeoutError, smtplib.SMTPServerDisconnected)):
            impatient.noop()
        impatient.close()
        with smtplib.SMTP(catcher.host, catcher.port) as client:
            assert client.noop()[0] == 250

    def test_the_message_too(self, catcher: MailCatcher) -> None:
        catcher.delay("MESSAGE", 0.01)
        catcher.delay("DATA", 0.01)
        send(catcher)
        assert len(catcher.messages) == 1

    def test_close_cuts_it_short(self, catcher: MailCatcher) -> None:
        catcher.delay("NOOP", 3600)
        client = socket.create_connection((catcher.host, catcher.port))
        client.recv(100)
        client.sendall(b"NOOP\r\n")
        closer = threading.Thread(target=catcher.close)
        closer.start()
        closer.join(30)
        assert not closer.is_alive()
        client.close()

    @pytest.mark.parametrize(
        ("seconds", "error"),
        [(-1, ValueError), ("1", TypeError), (True, TypeError), (float("nan"), ValueError)],
    )
    def test_misuse(self, catcher: MailCatcher, seconds: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            catcher.delay("NOOP", seconds)


class TestBreaks:
    @pytest.mark.parametrize("after", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "MESSAGE"])
    def test_after_each_command(self, catcher: MailCatcher, after: str) -> None:
        catcher.drop(after, times=1)
        with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
            send(catcher)
        assert catcher.messages == []
        send(catcher)
        assert len(catcher.messages) == 1

    def test_after_a_message_in_chunks(self, catcher: MailCatcher) -> None:
        catcher.drop("MESSAGE", times=1)
        catcher.delay("MESSAGE", 0.01)
        with catcher.test_client() as client:
            client.pipeline("EHLO me", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>")
            with pytest.raises(ConnectionError):
                client.pipeline("BDAT 3", b"x\r\n", "BDAT 3 LAST", b"y\r\n")
        assert catcher.messages == []

    @pytest.mark.parametrize("octets", [0, 10, 100_000])
    def test_inside_a_message(self, catcher: MailCatcher, octets: int) -> None:
        catcher.drop(after="data", octets=octets)
        message = a_message()
        message.set_content("x" * 50 + "\n" + "y\n" * 1_000_000)
        with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
            send(catcher, message)
        assert "354" in catcher.transcript
        assert catcher.messages == []

    @pytest.mark.parametrize("octets", [None, 10])
    def test_a_message_that_would_be_refused(
        self, octets: int | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        with MailCatcher(bare_newline="reject") as catcher:
            catcher.drop("DATA", octets)
            with catcher.test_client() as client:
                client.pipeline("EHLO me", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>")
                replies = client.pipeline("DATA", b"x\ny\r\n.\r\n")
                assert ([reply.code for reply in replies], client.closed) == ([354], True)
        assert "failed" not in caplog.text

    @pytest.mark.parametrize(
        "arguments", [("MAIL", 5), ("DATA", -1), ("DATA", "5"), ("FOO",), ("CONNECT", 1)]
    )
    def test_misuse(self, catcher: MailCatcher, arguments: Any) -> None:
        with pytest.raises(ValueError, match=r"octets|unknown command"):
            catcher.drop(*arguments)
