"""SCRAM, OAUTHBEARER and EXTERNAL, by GNU SASL (gsasl and msmtp), curl and scramp."""

from __future__ import annotations

import base64
import smtplib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import scramp

from blocksmtp import (
    AuthResponse,
    ExternalAuth,
    OAuthBearerAuth,
    ScramAuth,
    ScramVerifier,
    SMTPSession,
)
from tests.certificates import Authority, Leaf

from .serving import AWKWARD, HOST, Outcome, Run, Serve, Served

FROM = "alice@example.com"
TO = "bob@example.net"
USER, PASSWORD = "alice", "correct horse"
TOKEN = "ya29.token"

VERIFIERS = {USER: ScramVerifier.from_password(PASSWORD)}
SCRAM = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]

stored_or_not = pytest.mark.parametrize("stored", [True, False], ids=["verifier", "password"])


def on_auth(auth: Any, session: SMTPSession) -> Any:
    if isinstance(auth, ScramAuth):
        known = PASSWORD if auth.username == USER else None
        return auth.username if auth.verified or auth.validate_password(known) else None
    if isinstance(auth, OAuthBearerAuth):
        right = (auth.username, auth.access_token) == (USER, TOKEN)
        return auth.username if right else AuthResponse(data={"status": "invalid_token"})
    assert isinstance(auth, ExternalAuth)
    return auth.username or f"certificate {auth.certificate.serial_number}"


def scram_options(stored: bool, methods: Sequence[str] = SCRAM) -> dict[str, Any]:
    options: dict[str, Any] = {"auth_methods": methods, "on_auth": on_auth}
    if stored:
        options["scram_verifier"] = lambda username, session: VERIFIERS.get(username)
    return options


# --- GNU SASL ----------------------------------------------------------------------------------


def gsasl(run: Run, served: Served, ca_file: Path, password: str, *more: str) -> Outcome:
    return run(
        "gsasl",
        *("--client", "--smtp", f"--connect={HOST}:{served.port}", "--starttls", "--verbose"),
        *(f"--x509-ca-file={ca_file}", f"--authentication-id={USER}", f"--password={password}"),
        *more,
        status=None,
    )


@stored_or_not
def test_gsasl_binds_the_channel(
    serve: Serve, run: Run, tls: dict[str, Any], ca_file: Path, stored: bool
) -> None:
    served = serve(**tls, **scram_options(stored))
    outcome = gsasl(run, served, ca_file, PASSWORD, "--mechanism=SCRAM-SHA-256-PLUS")
    assert "Client authentication finished (server trusted)" in outcome
    [session] = served.mailbox.wait_for_closed(1)
    assert session.user == USER
    outcome = gsasl(run, served, ca_file, "wrong", "--mechanism=SCRAM-SHA-256-PLUS")
    assert "535 5.7.8" in outcome
    assert "server trusted" not in outcome


@stored_or_not
def test_gsasl_without_channel_binding(
    serve: Serve, run: Run, tls: dict[str, Any], ca_file: Path, stored: bool
) -> None:
    served = serve(**tls, **scram_options(stored))
    for password, answer in ((PASSWORD, "235 2.7.0"), ("wrong", "535 5.7.8")):
        outcome = gsasl(run, served, ca_file, password, "--mechanism=SCRAM-SHA-256", "--no-cb")
        assert answer in outcome


# --- msmtp -------------------------------------------------------------------------------------


def msmtp(
    run: Run, served: Served, ca_file: Path, method: str, password: str, *more: str, status: int = 0
) -> Outcome:
    return run(
        "msmtp",
        *(f"--host={HOST}", f"--port={served.port}", f"--from={FROM}", f"--user={USER}"),
        *("--tls", f"--tls-starttls={'off' if served.server.options.secure else 'on'}"),
        *(f"--tls-trust-file={ca_file}", f"--auth={method}", f"--passwordeval=echo '{password}'"),
        *("--domain=client.example.com", *more, TO),
        stdin=AWKWARD,
        status=status,
    )


NO_PERMISSION = 77  # sysexits.h


@stored_or_not
@pytest.mark.parametrize("secure", [False, True], ids=["starttls", "implicit"])
def test_msmtp_with_scram(
    serve: Serve, run: Run, tls: dict[str, Any], ca_file: Path, stored: bool, secure: bool
) -> None:
    served = serve(secure=secure, **tls, **scram_options(stored, SCRAM[1:]))
    msmtp(run, served, ca_file, "scram-sha-256", PASSWORD)
    message = served.mailbox.only()
    assert message.session.user == USER
    assert message.session.transmission_type == "ESMTPSA"
    refused = msmtp(run, served, ca_file, "scram-sha-256", "wrong", status=NO_PERMISSION)
    assert "535 5.7.8" in refused


def test_msmtp_with_oauthbearer(serve: Serve, run: Run, tls: dict[str, Any], ca_file: Path) -> None:
    served = serve(**tls, auth_methods=["OAUTHBEARER"], on_auth=on_auth)
    msmtp(run, served, ca_file, "oauthbearer", TOKEN)
    assert served.mailbox.only().session.user == USER
    msmtp(run, served, ca_file, "oauthbearer", "wrong", status=NO_PERMISSION)


def test_msmtp_with_external(
    serve: Serve,
    run: Run,
    tls: dict[str, Any],
    ca_file: Path,
    authority: Authority,
    client_leaf: Leaf,
    tmp_path: Path,
) -> None:
    served = serve(
        **tls,
        ca=authority.pem,
        request_cert=True,
        auth_methods=["EXTERNAL"],
        on_auth=on_auth,
    )
    cert, key = client_leaf.write(tmp_path, "client")
    shown = (f"--tls-cert-file={cert}", f"--tls-key-file={key}")
    msmtp(run, served, ca_file, "external", "", *shown)
    assert served.mailbox.only().session.user in (
        USER,
        f"certificate {client_leaf.certificate.serial_number}",
    )


@pytest.fixture
def client_leaf(authority: Authority) -> Leaf:
    return authority.issue("alice@example.com")


# --- curl --------------------------------------------------------------------------------------


def curl(
    run: Run, served: Served, ca_file: Path, folder: Path, *arguments: object, status: int = 0
) -> Outcome:
    message = folder / "message"
    message.write_bytes(AWKWARD)
    return run(
        "curl",
        *("--disable", "--silent", "--show-error", "--cacert", ca_file, "--ssl-reqd"),
        *("--url", f"smtp://{HOST}:{served.port}", "--mail-from", FROM, "--mail-rcpt", TO),
        *("--upload-file", message, *arguments),
        status=status,
    )


LOGIN_DENIED = 67


def test_curl_with_oauthbearer(
    serve: Serve, run: Run, tls: dict[str, Any], ca_file: Path, tmp_path: Path
) -> None:
    served = serve(**tls, auth_methods=["OAUTHBEARER"], on_auth=on_auth)
    login = ("--user", USER, "--login-options", "AUTH=OAUTHBEARER", "--oauth2-bearer")
    curl(run, served, ca_file, tmp_path, *login, TOKEN)
    assert served.mailbox.only().session.user == USER
    curl(run, served, ca_file, tmp_path, *login, "wrong", status=LOGIN_DENIED)


def test_curl_with_external(
    serve: Serve,
    run: Run,
    tls: dict[str, Any],
    ca_file: Path,
    tmp_path: Path,
    authority: Authority,
    client_leaf: Leaf,
) -> None:
    served = serve(
        **tls,
        ca=authority.pem,
        request_cert=True,
        auth_methods=["EXTERNAL"],
        on_auth=on_auth,
    )
    cert, key = client_leaf.write(tmp_path, "client")
    login = ("--user", f"{USER}:", "--login-options", "AUTH=EXTERNAL")
    curl(run, served, ca_file, tmp_path, *login, "--cert", cert, "--key", key)
    assert served.mailbox.only().session.user == USER


# --- scramp ------------------------------------------------------------------------------------


@stored_or_not
@pytest.mark.parametrize(("password", "code"), [(PASSWORD, 235), ("wrong", 535)])
def test_scramp(serve: Serve, stored: bool, password: str, code: int) -> None:
    served = serve(allow_insecure_auth=True, **scram_options(stored, SCRAM[1:]))
    client = scramp.ScramClient(["SCRAM-SHA-256"], USER, password)
    with smtplib.SMTP(HOST, served.port) as smtp:
        smtp.ehlo()
        first = base64.b64encode(client.get_client_first().encode()).decode()
        answer, challenge = smtp.docmd("AUTH", f"SCRAM-SHA-256 {first}")
        assert answer == 334
        client.set_server_first(base64.b64decode(challenge).decode())
        final = base64.b64encode(client.get_client_final().encode()).decode()
        answer, challenge = smtp.docmd(final)
        if code == 235:
            assert answer == 334
            # It raises where the server does not know the password.
            client.set_server_final(base64.b64decode(challenge).decode())
            answer, _ = smtp.docmd("")
        assert answer == code
