"""curl."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytest
from cryptography import x509

from blocksmtp import AuthResponse, CramMD5Auth, SMTPError, SMTPSession, XOAuth2Auth
from tests.certificates import Authority

from .serving import AWKWARD, HOST, NAME, Outcome, Run, Serve, Served, large_message

FROM = "alice@example.com"
TO = "bob@example.net"
PASSWORD = "correct-horse"

# curl's exit statuses.
COMMAND_FAILED, SEND_FAILED, BAD_CERTIFICATE, LOGIN_DENIED, NO_TLS = 8, 55, 60, 67, 64
BROKEN_TLS = (35, 55, 56)  # whichever step notices first


class Curl(Protocol):
    """Runs curl against a server that it knows as NAME."""

    def __call__(
        self, served: Served, *arguments: object, scheme: str = "smtp", status: int | None = 0
    ) -> Outcome: ...


@pytest.fixture
def curl(run: Run, ca_file: Path) -> Curl:
    def curl(
        served: Served, *arguments: object, scheme: str = "smtp", status: int | None = 0
    ) -> Outcome:
        # The first keeps out what ~/.curlrc says.
        options = ("--disable", "--silent", "--show-error", "--cacert", ca_file)
        address = ("--resolve", f"{NAME}:{served.port}:{HOST}")
        url = ("--url", f"{scheme}://{NAME}:{served.port}/client.example.com")
        return run("curl", *options, *address, *url, *arguments, status=status)

    return curl


@pytest.fixture
def upload(tmp_path: Path) -> tuple[object, ...]:
    """The arguments that have AWKWARD sent."""
    path = tmp_path / "message"
    path.write_bytes(AWKWARD)
    return ("--mail-from", FROM, "--mail-rcpt", TO, "--upload-file", path)


def test_plain(serve: Serve, curl: Curl, upload: tuple[object, ...]) -> None:
    served = serve()
    curl(served, *upload, "--mail-rcpt", "carol@example.net", "--mail-rcpt", "dave@example.net")
    message = served.mailbox.only()
    assert message.content == AWKWARD
    assert message.sender == FROM
    assert message.recipients == [TO, "carol@example.net", "dave@example.net"]
    assert message.session.transmission_type == "ESMTP"
    assert message.session.host_name_appears_as == "client.example.com"


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_tls(
    serve: Serve, curl: Curl, upload: tuple[object, ...], tls: dict[str, Any], scheme: str
) -> None:
    served = serve(secure=scheme == "smtps", **tls)
    curl(served, *upload, "--ssl-reqd", scheme=scheme)
    message = served.mailbox.only()
    assert message.content == AWKWARD
    assert message.session.transmission_type == "ESMTPS"
    assert message.session.servername == NAME


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_the_self_signed_certificate_is_not_trusted(
    serve: Serve, curl: Curl, upload: tuple[object, ...], scheme: str
) -> None:
    served = serve(secure=scheme == "smtps")
    curl(served, *upload, "--ssl-reqd", scheme=scheme, status=BAD_CERTIFICATE)
    assert served.mailbox.messages == []
    curl(served, *upload, "--ssl-reqd", "--insecure", scheme=scheme)
    assert served.mailbox.only().session.secure


def test_required_tls_that_is_not_offered(
    serve: Serve, curl: Curl, upload: tuple[object, ...]
) -> None:
    served = serve(disabled_commands=["STARTTLS"])
    curl(served, *upload, "--ssl-reqd", status=NO_TLS)
    curl(served, *upload, "--ssl")
    assert not served.mailbox.only().session.secure


# --- authentication ----------------------------------------------------------------------------


def on_auth(auth: Any, session: SMTPSession) -> Any:
    """Knows one user."""
    if isinstance(auth, CramMD5Auth):
        right = auth.validate_password(PASSWORD)
    elif isinstance(auth, XOAuth2Auth):
        right = auth.access_token == PASSWORD
    else:
        right = auth.password == PASSWORD
    if right and auth.username == "alice":
        return f"alice by {auth.method}"
    return AuthResponse(data={"status": "401", "scope": "mail"})


METHODS = ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"]


def credentials(method: str, secret: str) -> tuple[str, ...]:
    if method == "XOAUTH2":
        return ("--user", "alice", "--oauth2-bearer", secret, "--login-options", "AUTH=XOAUTH2")
    return ("--user", f"alice:{secret}", "--login-options", f"AUTH={method}")


@pytest.mark.parametrize("initial_response", [(), ("--sasl-ir",)], ids=["", "initial-response"])
@pytest.mark.parametrize("method", METHODS)
def test_auth(
    serve: Serve,
    curl: Curl,
    upload: tuple[object, ...],
    method: str,
    initial_response: tuple[str, ...],
) -> None:
    served = serve(on_auth=on_auth, auth_methods=METHODS, allow_insecure_auth=True)
    curl(served, *upload, *credentials(method, PASSWORD), *initial_response)
    message = served.mailbox.only()
    assert message.session.user == f"alice by {method}"
    assert message.session.transmission_type == "ESMTPA"
    curl(served, *upload, *credentials(method, "wrong"), *initial_response, status=LOGIN_DENIED)
    assert len(served.mailbox.messages) == 1


@pytest.mark.parametrize("method", METHODS)
def test_auth_in_tls(
    serve: Serve, curl: Curl, upload: tuple[object, ...], tls: dict[str, Any], method: str
) -> None:
    served = serve(on_auth=on_auth, auth_methods=METHODS, **tls)
    curl(served, *upload, "--ssl-reqd", *credentials(method, PASSWORD))
    message = served.mailbox.only()
    assert message.content == AWKWARD
    assert message.session.user == f"alice by {method}"
    assert message.session.transmission_type == "ESMTPSA"


def test_the_reason_for_a_refused_token_is_sent(
    serve: Serve, curl: Curl, upload: tuple[object, ...]
) -> None:
    served = serve(on_auth=on_auth, auth_methods=["XOAUTH2"], allow_insecure_auth=True)
    outcome = curl(
        served, *upload, "--verbose", *credentials("XOAUTH2", "expired"), status=LOGIN_DENIED
    )
    # {"status": "401", "scope": "mail"}
    assert "< 334 eyJzdGF0dXMiOiAiNDAxIiwgInNjb3BlIjogIm1haWwifQ==" in outcome


# --- client certificates -----------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_client_certificate(
    serve: Serve,
    curl: Curl,
    upload: tuple[object, ...],
    tls: dict[str, Any],
    authority: Authority,
    tmp_path: Path,
    scheme: str,
) -> None:
    shown: list[x509.Certificate | None] = []

    def on_secure(connection: Any, session: SMTPSession) -> None:
        shown.append(connection.get_peer_certificate(as_cryptography=True))

    served = serve(
        secure=scheme == "smtps",
        request_cert=True,
        ca=authority.pem,
        on_secure=on_secure,
        **tls,
    )
    ours = authority.issue("client.example.com")
    theirs = Authority().issue("client.example.com")

    def send(*certificate: object) -> int:
        return curl(served, *upload, "--ssl-reqd", *certificate, scheme=scheme, status=None).status

    assert send() in BROKEN_TLS
    cert, key = theirs.write(tmp_path, "theirs")
    assert send("--cert", cert, "--key", key) in BROKEN_TLS
    assert (served.mailbox.messages, shown) == ([], [])
    cert, key = ours.write(tmp_path, "ours")
    assert send("--cert", cert, "--key", key) == 0
    assert served.mailbox.only().content == AWKWARD
    assert shown == [ours.certificate]


# --- messages and recipients -------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_large_message(
    serve: Serve, curl: Curl, tls: dict[str, Any], tmp_path: Path, scheme: str
) -> None:
    content = large_message(10_000_000)
    path = tmp_path / "large"
    path.write_bytes(content)
    served = serve(secure=scheme == "smtps", **tls)
    curl(
        served,
        *("--mail-from", FROM, "--mail-rcpt", TO, "--upload-file", path),
        scheme=scheme,
    )
    # Not compared by assert, which would show what differs for minutes.
    assert len(served.mailbox.only().content) == len(content)
    same = served.mailbox.only().content == content
    assert same


def test_too_large_a_message(serve: Serve, curl: Curl, upload: tuple[object, ...]) -> None:
    served = serve(size=len(AWKWARD) - 1)
    outcome = curl(served, *upload, status=SEND_FAILED)
    assert "552" in outcome
    assert served.mailbox.messages == []


def known(address: Any, session: SMTPSession) -> None:
    if address.address.startswith("nobody"):
        raise SMTPError("No such user", 550)


def test_refused_recipients(serve: Serve, curl: Curl, upload: tuple[object, ...]) -> None:
    served = serve(on_rcpt_to=known)
    two = (*upload, "--mail-rcpt", "nobody@example.net")
    assert "RCPT failed: 550" in curl(served, *two, status=SEND_FAILED)
    assert served.mailbox.messages == []
    curl(served, *two, "--mail-rcpt-allowfails")
    assert served.mailbox.only().recipients == [TO]


def test_refused_sender(serve: Serve, curl: Curl, upload: tuple[object, ...]) -> None:
    def on_mail_from(address: Any, session: SMTPSession) -> None:
        raise SMTPError("Not you", 553)

    served = serve(on_mail_from=on_mail_from)
    assert "MAIL failed: 553" in curl(served, *upload, status=SEND_FAILED)


def test_other_commands(serve: Serve, curl: Curl) -> None:
    served = serve()
    assert curl(served).output.startswith("214 2.0.0 ")
    assert curl(served, "--request", "NOOP").output == "250 2.0.0 OK\r\n"
    verified = curl(served, "--request", "VRFY", "--mail-rcpt", "bob").output
    assert verified.startswith("252 2.5.0 ")
    outcome = curl(served, "--request", "EXPN staff", status=COMMAND_FAILED)
    assert "Command failed: 500" in outcome
