"""Behind HAProxy: PROXY headers, health checks, TLS passed through."""

from __future__ import annotations

import logging
import smtplib
import ssl
from pathlib import Path
from typing import Any

import pytest

from blocksmtp import SMTPSession
from tests.certificates import Authority, Leaf

from .conftest import StartHAProxy
from .serving import AWKWARD, HOST, TIMEOUT, CountingSocket, Serve, Served

FROM = "alice@example.com"
TO = "bob@example.net"

HEADERS = ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"]
every_header = pytest.mark.parametrize("header", HEADERS, ids=["v1", "v2", "v2-with-checksum"])
UNIQUE_ID = ("unique-id-format %{+X}o%ci:%cp_%fi:%fp",)
CHECK = "check inter 100ms"
LOG_CHECKS = ("option log-health-checks",)


def told(session: SMTPSession) -> tuple[Any, ...]:
    return (
        *(session.remote_address, session.remote_port),
        *(session.local_address, session.local_port),
    )


def ends(smtp: smtplib.SMTP) -> tuple[Any, ...]:
    """The ends of the client's own connection, to HAProxy."""
    assert smtp.sock is not None
    return (*smtp.sock.getsockname(), *smtp.sock.getpeername())


def problems(served: Served, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the server logged at level warning or above; it is closed, so that this is all."""
    served.server.close()
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@every_header
def test_the_client_is_known(
    serve: Serve,
    haproxy: StartHAProxy,
    tls: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    header: str,
) -> None:
    served = serve(use_proxy=[HOST], **tls)
    proxy = haproxy(served.port, header, UNIQUE_ID)
    expected = []
    for _ in range(3):
        with smtplib.SMTP(HOST, proxy.port, timeout=TIMEOUT) as smtp:
            expected.append(ends(smtp))
            smtp.sendmail(FROM, TO, AWKWARD)
    messages = served.mailbox.messages
    assert [message.content for message in messages] == [AWKWARD] * 3
    assert [told(message.session) for message in messages] == expected
    assert len({message.session.remote_port for message in messages}) == 3
    assert problems(served, caplog) == []


@pytest.mark.parametrize("secure", [False, True], ids=["starttls", "implicit"])
@every_header
def test_tls_passes_through(
    serve: Serve,
    haproxy: StartHAProxy,
    tls: dict[str, Any],
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    header: str,
    *,
    secure: bool,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.trusted_by(context)
    served = serve(use_proxy=True, secure=secure, **tls)
    proxy = haproxy(served.port, header, UNIQUE_ID)
    smtp: smtplib.SMTP
    if secure:
        smtp = smtplib.SMTP_SSL("localhost", proxy.port, context=context, timeout=TIMEOUT)
    else:
        smtp = smtplib.SMTP("localhost", proxy.port, timeout=TIMEOUT)
    with smtp:
        if not secure:
            smtp.starttls(context=context)
        smtp.sendmail(FROM, TO, AWKWARD)
        expected = ends(smtp)
    message = served.mailbox.only()
    assert message.content == AWKWARD
    assert message.session.transmission_type == "ESMTPS"
    assert message.session.servername == "localhost"
    assert told(message.session) == expected
    assert problems(served, caplog) == []


def test_a_proxy_that_ends_tls_tells_of_it(
    serve: Serve,
    haproxy: StartHAProxy,
    authority: Authority,
    leaf: Leaf,
    ca_file: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "proxy.pem").write_bytes(leaf.combined)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.trusted_by(context)
    authority.issue("alice@example.com").shown_by(context, tmp_path)
    served = serve(use_proxy=[HOST], disabled_commands=["STARTTLS"])
    proxy = haproxy(
        served.port,
        "send-proxy-v2-ssl-cn proxy-v2-options ssl,cert-cn,ssl-cipher,authority,unique-id,crc32c",
        UNIQUE_ID,
        f"ssl crt {tmp_path / 'proxy.pem'} ca-file {ca_file} verify required alpn smtp",
    )
    context.set_alpn_protocols(["smtp"])
    with smtplib.SMTP_SSL("localhost", proxy.port, context=context, timeout=TIMEOUT) as smtp:
        smtp.sendmail(FROM, TO, AWKWARD)
        expected = ends(smtp)
        assert isinstance(smtp.sock, ssl.SSLSocket)
        cipher = smtp.sock.cipher()
    message = served.mailbox.only()
    told_of = message.session.proxy
    assert told(message.session) == expected
    assert told_of is not None
    assert (told_of.version, told_of.local) == (2, False)
    assert told_of.authority == "localhost"
    assert told_of.alpn == "smtp"
    assert told_of.unique_id
    assert told_of.ssl is not None
    assert (told_of.ssl.client_ssl, told_of.ssl.client_cert_connection) == (True, True)
    assert told_of.ssl.verified
    assert told_of.ssl.version == "TLSv1.3"
    assert cipher is not None
    assert told_of.ssl.cipher == cipher[0]
    assert not message.session.secure, "that is of the connection itself"
    assert problems(served, caplog) == []


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
def test_tcp_health_checks(
    serve: Serve,
    haproxy: StartHAProxy,
    tls: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    *,
    secure: bool,
) -> None:
    """They connect and go, without a PROXY header: nobody's fault, and no connection."""
    served = serve(use_proxy=True, secure=secure, **tls)
    # To name the port is to have no header sent. HAProxy tells of a server's first check only.
    check = f"{CHECK} port {served.port}"
    others = [f"server other{number} {served.address} {check}" for number in range(4)]
    proxy = haproxy(served.port, f"send-proxy {check}", [*LOG_CHECKS, *others])
    proxy.log.wait_for("Layer4 check passed", count=5)
    assert proxy.log.lines("failed") == []
    assert problems(served, caplog) == []
    assert served.mailbox.wait_for_closed(0) == []


@pytest.mark.parametrize("header", HEADERS[:2], ids=["v1", "v2"])
def test_health_checks_with_a_proxy_header(
    serve: Serve,
    haproxy: StartHAProxy,
    tls: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    header: str,
) -> None:
    """These are connections, of HAProxy's own: version 2 says so (LOCAL), version 1 UNKNOWN."""
    served = serve(use_proxy=True, **tls)
    proxy = haproxy(served.port, f"{header} {CHECK} check-send-proxy", LOG_CHECKS)
    sessions = served.mailbox.wait_for_closed(5)
    assert {session.remote_address for session in sessions} == {HOST}
    assert {session.opening_command for session in sessions} == {None}
    proxy.log.wait_for("Layer4 check passed")
    # Clients are served all the while.
    with smtplib.SMTP(HOST, proxy.port, timeout=TIMEOUT) as smtp:
        expected = ends(smtp)
        smtp.sendmail(FROM, TO, AWKWARD)
    assert told(served.mailbox.only().session) == expected
    assert proxy.log.lines("failed") == []
    assert problems(served, caplog) == []


@pytest.mark.parametrize("header", HEADERS[:2], ids=["v1", "v2"])
def test_health_checks_with_a_proxy_header_and_no_handshake(
    serve: Serve,
    haproxy: StartHAProxy,
    tls: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    header: str,
) -> None:
    sock = CountingSocket()
    served = serve(sock=sock, use_proxy=True, secure=True, **tls)
    proxy = haproxy(served.port, f"{header} {CHECK} check-send-proxy", LOG_CHECKS)
    proxy.log.wait_for("Layer4 check passed")
    sock.wait_for_accepted(5)
    assert proxy.log.lines("failed") == []
    assert problems(served, caplog) == []
    assert served.mailbox.wait_for_closed(0) == []


def test_smtp_health_checks(
    serve: Serve, haproxy: StartHAProxy, tls: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(use_proxy=True, **tls)
    lines = ["option log-health-checks", "option smtpchk EHLO check.example.com"]
    proxy = haproxy(served.port, f"send-proxy-v2 {CHECK} check-send-proxy", lines)
    (first, *_) = served.mailbox.wait_for_closed(3)
    assert (first.opening_command, first.host_name_appears_as) == ("EHLO", "check.example.com")
    proxy.log.wait_for("Layer7 check passed", "code: 221")
    assert problems(served, caplog) == []


def test_a_client_that_is_no_proxy_is_served_as_it_is(
    serve: Serve, haproxy: StartHAProxy, tls: dict[str, Any]
) -> None:
    served = serve(use_proxy=["192.0.2.0/24"], **tls)
    with smtplib.SMTP(HOST, served.port, timeout=TIMEOUT) as smtp:
        expected = ends(smtp)
        smtp.sendmail(FROM, TO, AWKWARD)
    assert told(served.mailbox.only().session) == expected
    # And what it says of others is not believed, nor even understood.
    proxy = haproxy(served.port, "send-proxy")
    with smtplib.SMTP(timeout=TIMEOUT) as smtp:
        smtp.connect(HOST, proxy.port)
        # The reply to the header, which came as if it were a command.
        assert smtp.getreply()[0] == 500
