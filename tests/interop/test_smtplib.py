"""Python's own client."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from email.generator import BytesGenerator
from email.message import EmailMessage
from email.policy import SMTPUTF8
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from blocksmtp import CramMD5Auth, LoginAuth, PlainAuth, SMTPError, SMTPSession
from tests.certificates import Authority

from .serving import AWKWARD, HOST, TIMEOUT, Serve, large_message

FROM = "alice@example.com"
TO = "bob@example.net"
PASSWORD = "correct horse ~ battery: \\ staple"

# What smtplib passes on as it is, and other clients do not.
RAW = AWKWARD + b"a bare CR \r in a line, a NUL \0 as well\r\n.\r\n"


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    """A client's, which trusts the authority and nobody else, and checks the host name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.trusted_by(context)
    return context


def client(port: int) -> smtplib.SMTP:
    return smtplib.SMTP(HOST, port, local_hostname="client.example.com", timeout=TIMEOUT)


# --- the ways to connect -----------------------------------------------------------------------


def test_plain(serve: Serve) -> None:
    served = serve()
    with client(served.port) as smtp:
        assert smtp.sendmail(FROM, [TO, "carol@example.net"], RAW) == {}
        port = smtp.sock.getsockname()[1]  # type: ignore[union-attr]
    message = served.mailbox.only()
    assert message.content == RAW
    assert (message.sender, message.recipients) == (FROM, [TO, "carol@example.net"])
    session = message.session
    assert session.transmission_type == "ESMTP"
    assert session.host_name_appears_as == "client.example.com"
    assert (session.remote_address, session.remote_port) == (HOST, port)
    assert (session.local_address, session.local_port) == (HOST, served.port)


def test_starttls(serve: Serve, tls: dict[str, Any], context: ssl.SSLContext) -> None:
    served = serve(**tls)
    with client(served.port) as smtp:
        assert smtp.starttls(context=context)[0] == 220
        smtp.ehlo()
        assert not smtp.has_extn("starttls")
        smtp.sendmail(FROM, TO, RAW)
        cipher = smtp.sock.cipher()  # type: ignore[union-attr]
    message = served.mailbox.only()
    assert message.content == RAW
    assert message.session.transmission_type == "ESMTPS"
    assert message.session.tls_options is not None
    assert message.session.tls_options.name == cipher[0]


def test_implicit_tls(serve: Serve, tls: dict[str, Any], context: ssl.SSLContext) -> None:
    served = serve(secure=True, **tls)
    with smtplib.SMTP_SSL("localhost", served.port, context=context, timeout=TIMEOUT) as smtp:
        assert not smtp.has_extn("starttls")
        smtp.sendmail(FROM, TO, RAW)
    message = served.mailbox.only()
    assert message.content == RAW
    assert message.session.transmission_type == "ESMTPS"
    assert message.session.servername == "localhost"


def test_a_certificate_for_another_name_is_noticed(
    serve: Serve, authority: Authority, context: ssl.SSLContext
) -> None:
    other = authority.issue("other.example.org")
    served = serve(cert=other.cert, key=other.key)
    with client(served.port) as smtp, pytest.raises(ssl.SSLCertVerificationError):
        smtp.starttls(context=context)
    assert served.mailbox.messages == []


@pytest.fixture(params=["tcp", "unix"])
def lmtp(request: pytest.FixtureRequest, serve: Serve, tmp_path: Path) -> Any:
    """A function that starts an LMTP server, and one that connects to it."""

    def start(**options: Any) -> tuple[Any, Callable[[], smtplib.LMTP]]:
        if request.param == "tcp":
            served = serve(lmtp=True, **options)
            return served, lambda: smtplib.LMTP(HOST, served.port)
        path = tmp_path / "lmtp"
        served = serve(path, lmtp=True, **options)
        return served, lambda: smtplib.LMTP(str(path))

    return start


def test_lmtp(lmtp: Any) -> None:
    served, connect = lmtp()
    with connect() as smtp:
        smtp.sendmail(FROM, TO, RAW)
        smtp.sendmail("", TO, b"Subject: second\r\n")
    first, second = served.mailbox.messages
    assert first.content == RAW
    assert (first.sender, first.recipients) == (FROM, [TO])
    assert first.session.transmission_type == "LMTP"
    assert (first.session.transaction, second.session.transaction) == (0, 1)
    assert second.sender == ""


def test_lmtp_with_starttls(lmtp: Any, tls: dict[str, Any], context: ssl.SSLContext) -> None:
    served, connect = lmtp(**tls)
    with connect() as smtp:
        # The certificate's name, whatever the way to it.
        smtp._host = "localhost"
        smtp.starttls(context=context)
        smtp.sendmail(FROM, TO, RAW)
    message = served.mailbox.only()
    assert message.content == RAW
    assert message.session.transmission_type == "LMTPS"


def test_lmtp_answers_for_each_recipient(lmtp: Any) -> None:
    def on_data(stream: Any, session: SMTPSession) -> list[SMTPError | str]:
        return ["kept", SMTPError("mailbox full", 452), SMTPError("gone", 550)]

    _, connect = lmtp(on_data=on_data)
    with connect() as smtp:
        smtp.ehlo_or_helo_if_needed()
        smtp.mail(FROM)
        for name in ("a", "b", "c"):
            assert smtp.rcpt(f"{name}@example.net")[0] == 250
        # smtplib reads one reply, for as many recipients as there are.
        assert smtp.data(b"Subject: three\r\n") == (250, b"2.6.0 kept")
        assert smtp.getreply() == (452, b"4.5.3 mailbox full")
        assert smtp.getreply() == (550, b"5.7.1 gone")
        assert smtp.noop()[0] == 250


# --- authentication ----------------------------------------------------------------------------


def on_auth(auth: Any, session: SMTPSession) -> str | None:
    """Knows one user."""
    if isinstance(auth, CramMD5Auth):
        right = auth.validate_password(PASSWORD)
    else:
        assert isinstance(auth, (PlainAuth, LoginAuth))
        right = auth.password == PASSWORD
    return f"{auth.username} by {auth.method}" if right and auth.username == "alice" else None


Connect = Callable[[int], AbstractContextManager[smtplib.SMTP]]
methods = pytest.mark.parametrize("method", ["CRAM-MD5", "PLAIN", "LOGIN"])


@pytest.mark.parametrize("initial_response", [True, False])
@methods
def test_auth_in_clear(serve: Serve, method: str, *, initial_response: bool) -> None:
    served = serve(on_auth=on_auth, auth_methods=[method], allow_insecure_auth=True)
    with client(served.port) as smtp:
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            smtp.sendmail(FROM, TO, RAW)
        assert refused.value.smtp_code == 530
        smtp.login("alice", PASSWORD, initial_response_ok=initial_response)
        smtp.sendmail(FROM, TO, RAW)
    message = served.mailbox.only()
    assert message.session.user == f"alice by {method}"
    assert message.session.transmission_type == "ESMTPA"


@methods
def test_auth_in_tls(
    serve: Serve, tls: dict[str, Any], context: ssl.SSLContext, method: str
) -> None:
    served = serve(on_auth=on_auth, auth_methods=[method], **tls)
    with client(served.port) as smtp:
        with pytest.raises(smtplib.SMTPNotSupportedError):
            smtp.login("alice", PASSWORD)
        smtp.starttls(context=context)
        smtp.login("alice", PASSWORD)
        smtp.sendmail(FROM, TO, RAW)
    assert served.mailbox.only().session.user == f"alice by {method}"
    assert served.mailbox.only().session.transmission_type == "ESMTPSA"


@methods
def test_a_wrong_password_is_refused(serve: Serve, method: str) -> None:
    served = serve(on_auth=on_auth, auth_methods=[method], allow_insecure_auth=True)
    with client(served.port) as smtp:
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            smtp.login("alice", PASSWORD + "?")
        assert refused.value.smtp_code == 535
        smtp.login("alice", PASSWORD)


def test_the_strongest_of_several_methods_is_found(serve: Serve) -> None:
    served = serve(
        on_auth=on_auth, auth_methods=["LOGIN", "PLAIN", "CRAM-MD5"], allow_insecure_auth=True
    )
    with client(served.port) as smtp:
        smtp.login("alice", PASSWORD)
        smtp.sendmail(FROM, TO, RAW)
    assert served.mailbox.only().session.user == "alice by CRAM-MD5"


# --- the message and its envelope --------------------------------------------------------------


def test_internationalised_addresses(serve: Serve) -> None:
    message = EmailMessage()
    message["From"] = "Jürgen <jürgen@bücher.example>"
    message["To"] = "δοκιμή@παράδειγμα.example, bob@example.net"
    message["Subject"] = "Grüße"
    message.set_content("Schöne Grüße\n.\n")
    served = serve()
    with client(served.port) as smtp:
        assert smtp.send_message(message) == {}
    received = served.mailbox.only()
    expected = BytesIO()
    BytesGenerator(expected, policy=SMTPUTF8).flatten(message)
    assert received.content == expected.getvalue()
    assert received.envelope.smtp_utf8
    assert received.envelope.body_type == "8bitmime"
    assert received.sender == "jürgen@xn--bcher-kva.example"
    assert received.recipients == ["δοκιμή@xn--hxajbheg2az3al.example", "bob@example.net"]
    assert [address.raw for address in received.envelope.rcpt_to] == [
        "δοκιμή@παράδειγμα.example",
        "bob@example.net",
    ]


def test_8bitmime_and_size(serve: Serve) -> None:
    served = serve(size=10_000)
    with client(served.port) as smtp:
        smtp.sendmail(FROM, TO, RAW, mail_options=["BODY=8BITMIME"])
        assert smtp.esmtp_features["size"] == "10000"
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            smtp.sendmail(FROM, TO, large_message(20_000))
        assert refused.value.smtp_code == 552
    message = served.mailbox.only()
    assert message.content == RAW
    assert message.envelope.body_type == "8bitmime"
    assert message.envelope.mail_from is not None
    assert message.envelope.mail_from.args["SIZE"] == str(len(RAW))


def test_delivery_status_options(serve: Serve) -> None:
    served = serve(hide_dsn=False)
    with client(served.port) as smtp:
        smtp.sendmail(
            FROM,
            TO,
            RAW,
            mail_options=["RET=HDRS", "ENVID=QQ+2B1"],
            rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bob+2Bx@example.net"],
        )
    envelope = served.mailbox.only().envelope
    assert (envelope.dsn.ret, envelope.dsn.envid) == ("HDRS", "QQ+1")
    (recipient,) = envelope.rcpt_to
    assert recipient.dsn.notify == ["SUCCESS", "FAILURE"]
    assert recipient.dsn.orcpt == "rfc822;Bob+x@example.net"


def test_several_messages_and_refusals_in_one_connection(serve: Serve) -> None:
    def on_rcpt_to(address: Any, session: SMTPSession) -> None:
        if address.address.startswith("nobody"):
            raise SMTPError("no such user", 550)

    served = serve(on_rcpt_to=on_rcpt_to)
    with client(served.port) as smtp:
        refused = smtp.sendmail(FROM, ["nobody@example.net", TO], RAW)
        assert refused == {"nobody@example.net": (550, b"5.1.1 no such user")}
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.sendmail(FROM, ["nobody@example.net"], RAW)
        large = large_message(1_000_000)
        smtp.sendmail(FROM, TO, large)
        assert smtp.verify(TO)[0] == 252
        assert smtp.noop()[0] == 250
        assert b"DATA" in smtp.help()
    first, second = served.mailbox.messages
    assert (first.content, first.recipients) == (RAW, [TO])
    assert second.content == large
    assert second.session is not first.session
    assert (first.session.transaction, second.session.transaction) == (0, 1)
