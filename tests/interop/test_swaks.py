"""swaks, the Swiss army knife for SMTP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from blocksmtp import CramMD5Auth, SMTPError, SMTPSession
from tests.certificates import Authority

from .serving import AWKWARD, HOST, NAME, Outcome, Run, Serve, Served

FROM = "alice@example.com"
TO = "bob@example.net"
PASSWORD = "correct horse"

# swaks' exit statuses.
GONE, NO_RECIPIENT, NO_AUTH, NO_TLS, NO_XCLIENT = 6, 24, 28, 29, 33


class Swaks(Protocol):
    """Runs swaks against a server; it sends AWKWARD."""

    def __call__(
        self, served: Served | Path, *arguments: str, to: str = TO, status: int = 0
    ) -> Outcome: ...


@pytest.fixture
def swaks(run: Run, tmp_path: Path) -> Swaks:
    message = tmp_path / "message"
    # swaks ends the last line itself.
    message.write_bytes(AWKWARD.removesuffix(b"\r\n"))

    def swaks(served: Served | Path, *arguments: str, to: str = TO, status: int = 0) -> Outcome:
        if isinstance(served, Path):
            where: Sequence[object] = ("--socket", served)
        else:
            where = ("--server", HOST, "--port", served.port)
        what = ("--from", FROM, "--to", to, "--helo", "client.example.com")
        how = ("--data", f"@{message}", "--suppress-data", *arguments)
        return run("swaks", *where, *what, *how, status=status)

    return swaks


def test_plain(serve: Serve, swaks: Swaks) -> None:
    served = serve()
    swaks(served)
    message = served.mailbox.only()
    assert message.content == AWKWARD
    assert (message.sender, message.recipients) == (FROM, [TO])
    assert message.session.transmission_type == "ESMTP"
    assert message.session.host_name_appears_as == "client.example.com"


def test_helo(serve: Serve, swaks: Swaks) -> None:
    served = serve()
    swaks(served, "--protocol", "SMTP")
    message = served.mailbox.only()
    assert message.content == AWKWARD
    assert message.session.transmission_type == "SMTP"


@pytest.mark.parametrize(
    ("option", "secure"), [("--tls", False), ("--tls-on-connect", True)], ids=["starttls", "tls"]
)
def test_tls(
    serve: Serve,
    swaks: Swaks,
    tls: dict[str, Any],
    authority: Authority,
    tmp_path: Path,
    option: str,
    *,
    secure: bool,
) -> None:
    served = serve(secure=secure, **tls)
    trusting = ("--tls-verify", "--tls-ca-path", str(authority.write(tmp_path)))
    swaks(served, option, *trusting, "--tls-sni", NAME)
    message = served.mailbox.only()
    assert message.content == AWKWARD
    assert message.session.transmission_type == "ESMTPS"
    assert message.session.servername == NAME
    stranger = Authority().write(tmp_path, "stranger")
    swaks(served, option, "--tls-verify", "--tls-ca-path", str(stranger), status=NO_TLS)
    assert len(served.mailbox.messages) == 1


def on_auth(auth: Any, session: SMTPSession) -> str | None:
    """Knows one user."""
    if isinstance(auth, CramMD5Auth):
        right = auth.validate_password(PASSWORD)
    else:
        right = auth.password == PASSWORD
    return f"{auth.username} by {auth.method}" if right and auth.username == "alice" else None


@pytest.mark.parametrize("over_tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("method", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_auth(
    serve: Serve, swaks: Swaks, tls: dict[str, Any], method: str, *, over_tls: bool
) -> None:
    served = serve(on_auth=on_auth, auth_methods=[method], allow_insecure_auth=not over_tls, **tls)
    credentials = ("--auth", method, "--auth-user", "alice", "--auth-password")
    option = ("--tls",) if over_tls else ()
    swaks(served, *option, *credentials, PASSWORD)
    message = served.mailbox.only()
    assert message.session.user == f"alice by {method}"
    assert message.session.transmission_type == ("ESMTPSA" if over_tls else "ESMTPA")
    outcome = swaks(served, *option, *credentials, "wrong", status=NO_AUTH)
    assert "* 535 5.7.8 " in outcome
    assert len(served.mailbox.messages) == 1


def test_no_auth_is_offered_in_clear(serve: Serve, swaks: Swaks) -> None:
    served = serve(on_auth=on_auth)
    credentials = ("--auth", "--auth-user", "alice", "--auth-password", PASSWORD)
    outcome = swaks(served, *credentials, status=NO_AUTH)
    assert "250-AUTH" not in outcome


# --- recipients --------------------------------------------------------------------------------


def known(address: Any, session: SMTPSession) -> None:
    if address.address.startswith("nobody"):
        raise SMTPError("No such user", 550)


@pytest.mark.parametrize("option", [(), ("--pipeline",)], ids=["", "pipelining"])
def test_refused_recipients(serve: Serve, swaks: Swaks, option: tuple[str, ...]) -> None:
    served = serve(on_rcpt_to=known)
    to = "nobody@example.net,a@example.net,nobody2@example.net,b@example.net"
    outcome = swaks(served, *option, to=to)
    assert outcome.output.count("<** 550 5.1.1 No such user\n") == 2
    message = served.mailbox.only()
    assert message.content == AWKWARD
    assert message.recipients == ["a@example.net", "b@example.net"]


@pytest.mark.parametrize("option", [(), ("--pipeline",)], ids=["", "pipelining"])
def test_no_recipient_is_left(serve: Serve, swaks: Swaks, option: tuple[str, ...]) -> None:
    served = serve(on_rcpt_to=known)
    outcome = swaks(served, *option, to="nobody@example.net", status=NO_RECIPIENT)
    assert "<** 550 5.1.1 No such user\n" in outcome
    assert served.mailbox.messages == []


def test_pipelined_replies_come_in_order(serve: Serve, swaks: Swaks) -> None:
    served = serve()
    outcome = swaks(served, "--pipeline", to="a@example.net,b@example.net")
    dialogue = [line for line in outcome.output.splitlines() if line[:3] in (" ->", "<- ")]
    first = dialogue.index(f" -> MAIL FROM:<{FROM}>")
    assert dialogue[first : first + 8] == [
        f" -> MAIL FROM:<{FROM}>",
        " -> RCPT TO:<a@example.net>",
        " -> RCPT TO:<b@example.net>",
        " -> DATA",
        "<-  250 2.1.0 Accepted",
        "<-  250 2.1.5 Accepted",
        "<-  250 2.1.5 Accepted",
        "<-  354 End data with <CR><LF>.<CR><LF>",
    ]
    assert served.mailbox.only().content == AWKWARD


# --- LMTP and Unix sockets ---------------------------------------------------------------------


@pytest.mark.parametrize("over", ["tcp", "unix"])
def test_lmtp(serve: Serve, swaks: Swaks, tmp_path: Path, over: str) -> None:
    path = tmp_path / "lmtp" if over == "unix" else None
    served = serve(path, lmtp=True)
    outcome = swaks(path or served, "--protocol", "LMTP", to="a@example.net,b@example.net")
    assert outcome.output.count("<-  250 2.6.0 OK: message queued\n") == 2
    message = served.mailbox.only()
    assert message.content == AWKWARD
    assert message.recipients == ["a@example.net", "b@example.net"]
    assert message.session.transmission_type == "LMTP"


def test_lmtp_with_a_reply_for_each_recipient(serve: Serve, swaks: Swaks) -> None:
    def on_data(stream: Any, session: SMTPSession) -> dict[str, SMTPError | str]:
        served.mailbox.on_data(stream, session)
        return {"a@example.net": "kept", "b@example.net": SMTPError("mailbox full", 452)}

    served = serve(lmtp=True, on_data=on_data)
    outcome = swaks(served, "--protocol", "LMTP", to="a@example.net,b@example.net,c@example.net")
    lines = outcome.output.splitlines()
    after_message = lines.index(next(line for line in lines if line.endswith(" lines sent"))) + 1
    assert lines[after_message : after_message + 5] == [
        "<-  250 2.6.0 kept",
        "<** 452 4.5.3 mailbox full",
        "<-  250 2.6.0 OK: message queued",
        " -> QUIT",
        "<-  221 2.0.0 Bye",
    ]


def test_unix_socket(serve: Serve, swaks: Swaks, tmp_path: Path, tls: dict[str, Any]) -> None:
    path = tmp_path / "smtp"
    served = serve(path, mode=0o600, **tls)
    swaks(path, "--tls")
    message = served.mailbox.only()
    assert message.content == AWKWARD
    session = message.session
    assert session.transmission_type == "ESMTPS"
    assert (session.remote_address, session.remote_port) == ("", 0)
    assert session.client_hostname == "localhost"


# --- proxies -----------------------------------------------------------------------------------


class Names:
    """A resolver for the addresses of this test."""

    def reverse(self, address: str) -> list[str]:
        return [f"host-{address.rpartition('.')[2]}.example.com"]


@pytest.mark.parametrize("option", [(), ("--tls",)], ids=["clear", "tls"])
def test_xclient(serve: Serve, swaks: Swaks, tls: dict[str, Any], option: tuple[str, ...]) -> None:
    served = serve(use_xclient=[HOST], **tls)
    outcome = swaks(
        served,
        *option,
        *("--xclient-addr", "192.0.2.7", "--xclient-port", "4711"),
        *("--xclient-name", "real.example.com", "--xclient-helo", "real helo"),
        *("--xclient-destaddr", "IPV6:2001:DB8::25", "--xclient-destport", "25"),
        *("--xclient-proto", "SMTP"),
    )
    session = served.mailbox.only().session
    assert (session.remote_address, session.remote_port) == ("192.0.2.7", 4711)
    assert (session.local_address, session.local_port) == ("2001:db8::25", 25)
    assert session.client_hostname == "real.example.com"
    assert session.host_name_appears_as == "client.example.com"
    assert session.x_client["HELO"] == "real helo"
    # Greeting and EHLO came again, and TLS outlives them.
    assert outcome.output.count(f" 220 {NAME} ESMTP\n") == 2
    assert session.transmission_type == ("ESMTPS" if option else "ESMTP")


def test_xclient_in_several_commands(serve: Serve, swaks: Swaks) -> None:
    served = serve(use_xclient=True)
    address = ("--xclient-addr", "192.0.2.7", "--xclient-name", "[UNAVAILABLE]")
    swaks(served, *address, "--xclient-delim", "--xclient-port", "4711")
    session = served.mailbox.only().session
    assert (session.remote_address, session.remote_port) == ("192.0.2.7", 4711)
    assert session.client_hostname == "[192.0.2.7]"


def test_xclient_login(serve: Serve, swaks: Swaks) -> None:
    def on_auth(auth: Any, session: SMTPSession) -> str | None:
        assert (auth.method, auth.password) == ("XCLIENT", None)
        return f"user {auth.username}" if auth.username == "alice" else None

    served = serve(use_xclient=True, on_auth=on_auth)
    swaks(served, "--xclient-login", "alice")
    session = served.mailbox.only().session
    assert session.user == "user alice"
    assert session.transmission_type == "ESMTPA"
    outcome = swaks(served, "--xclient-login", "mallory", status=NO_XCLIENT)
    assert "<** 535 " in outcome


def test_xclient_from_elsewhere_is_refused(serve: Serve, swaks: Swaks) -> None:
    served = serve(use_xclient=["192.0.2.0/24"])
    outcome = swaks(served, "--xclient-addr", "192.0.2.7", status=NO_XCLIENT)
    assert "250-XCLIENT" not in outcome
    assert served.mailbox.messages == []
    swaks(served, "--xclient-addr", "192.0.2.7", "--xclient-optional")
    assert served.mailbox.only().session.remote_address == HOST


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(
    ("family", "source", "destination"),
    [("4", "192.0.2.7", "192.0.2.25"), ("6", "2001:db8::7", "2001:db8::25")],
    ids=["ipv4", "ipv6"],
)
@pytest.mark.parametrize("option", [(), ("--tls",), ("--tls-on-connect",)])
def test_proxy_header(
    serve: Serve,
    swaks: Swaks,
    tls: dict[str, Any],
    version: str,
    family: str,
    source: str,
    destination: str,
    option: tuple[str, ...],
) -> None:
    served = serve(
        use_proxy=[HOST],
        resolver=Names(),
        disable_reverse_lookup=False,
        secure=option == ("--tls-on-connect",),
        **tls,
    )
    families = {"1": f"TCP{family}", "2": "AF_INET" if family == "4" else "AF_INET6"}
    swaks(
        served,
        *option,
        *("--proxy-version", version, "--proxy-family", families[version]),
        *("--proxy-source", source, "--proxy-source-port", "4711"),
        *("--proxy-dest", destination, "--proxy-dest-port", "25"),
    )
    message = served.mailbox.only()
    assert message.content == AWKWARD
    session = message.session
    assert (session.remote_address, session.remote_port) == (source, 4711)
    assert (session.local_address, session.local_port) == (destination, 25)
    if family == "4":
        assert session.client_hostname == "host-7.example.com"
    assert session.secure == bool(option)


@pytest.mark.parametrize("header", ["UNKNOWN", "UNKNOWN 192.0.2.7 192.0.2.25 4711 25"])
def test_proxy_header_that_tells_nothing(serve: Serve, swaks: Swaks, header: str) -> None:
    served = serve(use_proxy=True)
    swaks(served, "--proxy", header)
    assert served.mailbox.only().session.remote_address == HOST


def test_broken_proxy_header(serve: Serve, swaks: Swaks, caplog: pytest.LogCaptureFixture) -> None:
    served = serve(use_proxy=True)
    outcome = swaks(served, "--proxy", "TCP4 192.0.2.777 192.0.2.25 4711 25", status=GONE)
    assert "<- " not in outcome.output
    assert "<**" not in outcome.output
    served.server.close()
    assert [r.levelname for r in caplog.records if "PROXY header refused" in r.message] == [
        "WARNING"
    ]
