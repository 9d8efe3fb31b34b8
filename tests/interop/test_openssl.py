"""openssl s_client: what happens in the handshake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Protocol

import pytest
from cryptography import x509

from blocksmtp import SMTPSession
from tests.certificates import Authority, Leaf

from .serving import NAME, Outcome, Run, Serve, Served

STARTTLS = ("-starttls", "smtp")
both_protocols = pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
both_ways = pytest.mark.parametrize("secure", [False, True], ids=["starttls", "implicit"])


def option(protocol: str) -> str:
    """ "TLSv1.2" as s_client's option."""
    return "-" + protocol.lower().replace(".", "_").replace("v", "")


class SClient(Protocol):
    """Runs s_client, says NOOP and QUIT. `status` 1 is a failed handshake."""

    def __call__(self, served: Served, *arguments: object, status: int = 0) -> Outcome: ...


@pytest.fixture
def s_client(run: Run, ca_file: Path) -> SClient:
    def s_client(served: Served, *arguments: object, status: int = 0) -> Outcome:
        trusting = ("-CAfile", ca_file, "-verify_return_error")
        # All of the input is for the server, and its end is no reason to go.
        how = ("-ign_eof", "-crlf", *trusting)
        outcome = run(
            "openssl",
            *("s_client", "-connect", served.address, *how, *arguments),
            stdin=b"NOOP\nQUIT\n",
            status=status,
        )
        if status == 0:
            assert "250 2.0.0 OK\n" in outcome.output.replace("\r", "")
            assert "221 2.0.0 Bye\n" in outcome.output.replace("\r", "")
        return outcome

    return s_client


def shown_certificate(outcome: Outcome) -> x509.Certificate:
    match = re.search(
        "-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", outcome.output, re.DOTALL
    )
    assert match is not None
    return x509.load_pem_x509_certificate(match[0].encode())


class Seen:
    """The sessions whose handshake was done, and the clients' certificates."""

    def __init__(self) -> None:
        self.sessions: list[SMTPSession] = []
        self.certificates: list[x509.Certificate | None] = []

    def on_secure(self, connection: Any, session: SMTPSession) -> None:
        self.sessions.append(session)
        self.certificates.append(connection.get_peer_certificate(as_cryptography=True))


@pytest.fixture
def seen() -> Seen:
    return Seen()


# --- the ways to TLS ---------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["smtp", "lmtp", "tls"])
def test_trusted(
    serve: Serve, s_client: SClient, tls: dict[str, Any], leaf: Leaf, protocol: str
) -> None:
    served = serve(lmtp=protocol == "lmtp", secure=protocol == "tls", **tls)
    way = () if protocol == "tls" else ("-starttls", protocol, "-name", "client.example.com")
    outcome = s_client(served, *way, "-verify_hostname", NAME)
    assert "Verify return code: 0 (ok)" in outcome
    assert f"Verified peername: {NAME}" in outcome
    assert shown_certificate(outcome) == leaf.certificate


@both_ways
def test_not_trusted(serve: Serve, s_client: SClient, *, secure: bool) -> None:
    stranger = Authority().issue(NAME)
    served = serve(secure=secure, cert=stranger.cert, key=stranger.key)
    s_client(served, *(() if secure else STARTTLS), status=1)


@both_ways
def test_a_chain_by_way_of_an_intermediate_authority(
    serve: Serve, s_client: SClient, authority: Authority, *, secure: bool
) -> None:
    below = authority.child().issue(NAME)
    served = serve(secure=secure, cert=below.combined)
    outcome = s_client(served, *(() if secure else STARTTLS), "-verify_hostname", NAME)
    assert "Verify return code: 0 (ok)" in outcome
    assert outcome.output.count("verify return:1\n") == 3


# --- host names --------------------------------------------------------------------------------


@both_protocols
@both_ways
def test_a_certificate_for_each_name(
    serve: Serve,
    s_client: SClient,
    seen: Seen,
    tls: dict[str, Any],
    authority: Authority,
    leaf: Leaf,
    protocol: str,
    *,
    secure: bool,
) -> None:
    one, wild = authority.issue("one.example.net"), authority.issue("*.wild.example.net")
    served = serve(
        secure=secure,
        sni_options={
            "one.example.net": {"cert": one.cert, "key": one.key},
            "*.wild.example.net": {"cert": wild.cert, "key": wild.key},
        },
        on_secure=seen.on_secure,
        **tls,
    )
    way = (option(protocol), *(() if secure else STARTTLS))
    expected = {
        "one.example.net": one,
        "ONE.Example.NET": one,
        "any.wild.example.net": wild,
        "other.wild.example.net": wild,
        "two.any.wild.example.net": leaf,
        "wild.example.net": leaf,
        "elsewhere.example.com": leaf,
    }
    for name, certificate in expected.items():
        outcome = s_client(served, *way, "-servername", name)
        assert shown_certificate(outcome) == certificate.certificate, name
    assert shown_certificate(s_client(served, *way, "-noservername")) == leaf.certificate
    names = [session.servername for session in seen.sessions]
    assert [name.lower() if name else None for name in names] == [
        *(name.lower() for name in expected),
        None,
    ]


# --- versions and ciphers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "spoken"),
    [
        ({}, {"TLSv1.2", "TLSv1.3"}),
        ({"max_version": "TLSv1.2"}, {"TLSv1.2"}),
        ({"min_version": "TLSv1.3"}, {"TLSv1.3"}),
    ],
    ids=["default", "max", "min"],
)
@both_ways
def test_versions(
    serve: Serve,
    s_client: SClient,
    seen: Seen,
    tls: dict[str, Any],
    limits: dict[str, Any],
    spoken: set[str],
    *,
    secure: bool,
) -> None:
    served = serve(secure=secure, on_secure=seen.on_secure, **limits, **tls)
    way = () if secure else STARTTLS
    for version in ("TLSv1.1", "TLSv1.2", "TLSv1.3"):
        # Without the level, s_client itself would not speak so old a version.
        lenient = ("-cipher", "ALL@SECLEVEL=0")
        speaks = version in spoken
        outcome = s_client(served, *way, option(version), *lenient, status=0 if speaks else 1)
        if not speaks:
            assert "alert protocol version" in outcome
    told = [session.tls_options for session in seen.sessions]
    assert {cipher.version for cipher in told if cipher} == spoken
    assert len(told) == len(spoken)


@pytest.mark.parametrize(
    "cipher",
    [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_AES_128_GCM_SHA256",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_256_GCM_SHA384",
    ],
)
def test_the_session_knows_the_cipher(
    serve: Serve, s_client: SClient, run: Run, seen: Seen, tls: dict[str, Any], cipher: str
) -> None:
    newest = cipher.startswith("TLS_")
    served = serve(on_secure=seen.on_secure, **tls)
    wanted = ("-tls1_3", "-ciphersuites") if newest else ("-tls1_2", "-cipher")
    outcome = s_client(served, *STARTTLS, *wanted, cipher)
    version = "TLSv1.3" if newest else "TLSv1.2"
    assert f"New, {version}, Cipher is {cipher}\n" in outcome
    (session,) = seen.sessions
    assert session.tls_options is not None
    assert (session.tls_options.name, session.tls_options.version) == (cipher, version)
    listed = run(
        "openssl",
        "ciphers",
        "-stdname",
        "-ciphersuites" if newest else cipher,
        *((cipher,) if newest else ()),
    )
    names = {line.split()[2]: line.split()[0] for line in listed.output.splitlines()}
    assert session.tls_options.standard_name == names[cipher]


def test_only_the_ciphers_that_are_allowed(
    serve: Serve, s_client: SClient, tls: dict[str, Any]
) -> None:
    served = serve(ciphers="ECDHE-ECDSA-AES128-GCM-SHA256", max_version="TLSv1.2", **tls)
    assert "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256\n" in s_client(served, *STARTTLS)
    outcome = s_client(served, *STARTTLS, "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384", status=1)
    assert "alert handshake failure" in outcome


def test_the_order_of_ciphers_is_the_servers(
    serve: Serve, s_client: SClient, tls: dict[str, Any]
) -> None:
    ciphers = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"]
    theirs = ("-tls1_2", "-cipher", ":".join(reversed(ciphers)))
    ordering = serve(ciphers=":".join(ciphers), **tls)
    assert f"Cipher is {ciphers[0]}\n" in s_client(ordering, *STARTTLS, *theirs)
    following = serve(ciphers=":".join(ciphers), honor_cipher_order=False, **tls)
    assert f"Cipher is {ciphers[1]}\n" in s_client(following, *STARTTLS, *theirs)


# --- resumption --------------------------------------------------------------------------------


@pytest.mark.parametrize("certificate", ["none", "demanded", "asked for"])
@both_protocols
@both_ways
def test_resumption(
    serve: Serve,
    s_client: SClient,
    seen: Seen,
    tls: dict[str, Any],
    authority: Authority,
    tmp_path: Path,
    certificate: str,
    protocol: str,
    *,
    secure: bool,
) -> None:
    client = authority.issue("client.example.com")
    cert, key = client.write(tmp_path, "client")
    asking: dict[str, Any] = {
        "request_cert": certificate != "none",
        "reject_unauthorized": certificate != "asked for",
        "ca": authority.pem,
    }
    served = serve(secure=secure, on_secure=seen.on_secure, **asking, **tls)
    shown = () if certificate == "none" else ("-cert", cert, "-key", key)
    way = (option(protocol), *(() if secure else STARTTLS), *shown)
    first = s_client(served, *way, "-sess_out", tmp_path / "session")
    assert f"New, {protocol}, " in first
    assert "Reused, " not in first
    second = s_client(served, *way, "-sess_in", tmp_path / "session")
    assert f"Reused, {protocol}, " in second
    expected = None if certificate == "none" else client.certificate
    assert seen.certificates == [expected, expected]
    ciphers = [session.tls_options for session in seen.sessions]
    assert ciphers[0] is not None
    assert ciphers[0] == ciphers[1]


@both_protocols
def test_no_resumption_after_new_certificates(
    serve: Serve,
    s_client: SClient,
    tls: dict[str, Any],
    authority: Authority,
    tmp_path: Path,
    protocol: str,
) -> None:
    served = serve(**tls)
    way = (option(protocol), *STARTTLS)
    s_client(served, *way, "-sess_out", tmp_path / "session")
    new = authority.issue("new.example.org")
    served.server.update_secure_context(cert=new.cert, key=new.key)
    outcome = s_client(served, *way, "-sess_in", tmp_path / "session")
    assert f"New, {protocol}, " in outcome
    assert shown_certificate(outcome) == new.certificate


# --- client certificates -----------------------------------------------------------------------


@both_protocols
@both_ways
def test_client_certificates(
    serve: Serve,
    s_client: SClient,
    seen: Seen,
    tls: dict[str, Any],
    authority: Authority,
    tmp_path: Path,
    protocol: str,
    *,
    secure: bool,
) -> None:
    ours = authority.issue("client.example.com")
    theirs = Authority().issue("client.example.com")
    certificates = {
        name: ("-cert", cert, "-key", key)
        for name, (cert, key) in {
            "ours": ours.write(tmp_path, "ours"),
            "theirs": theirs.write(tmp_path, "theirs"),
        }.items()
    }
    served = serve(
        secure=secure, request_cert=True, ca=authority.pem, on_secure=seen.on_secure, **tls
    )
    way = (option(protocol), *(() if secure else STARTTLS))
    outcome = s_client(served, *way, *certificates["ours"])
    # The names of the authorities that the server asks for, so that a client can choose.
    assert "Acceptable client certificate CA names\n" in outcome
    assert seen.certificates == [ours.certificate]
    assert "alert unknown ca" in s_client(served, *way, *certificates["theirs"], status=1)
    s_client(served, *way, status=1)
    assert len(seen.certificates) == 1
