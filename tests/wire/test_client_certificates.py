"""Clients' certificates: who is refused, who counts as verified, and in resumed sessions."""

from __future__ import annotations

import socket
import ssl
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from blocksmtp.wire import tls_context
from blocksmtp.wire.tls_context import (
    SecureContexts,
    peer_verified,
    verification_error,
)
from tests.certificates import Authority, Leaf

from .handshakes import (
    NAME,
    Result,
    both_protocols,
    build,
    exchange,
    handshake,
    refused,
    restrict,
)

# --- clients' certificates -----------------------------------------------------------------------


@both_protocols
@pytest.mark.parametrize("reject", [True, False])
def test_a_good_certificate(
    authority: Authority,
    leaf: Leaf,
    alice: Leaf,
    client: ssl.SSLContext,
    tmp_path: Path,
    protocol: ssl.TLSVersion,
    reject: bool,
) -> None:
    contexts = build(leaf, ca=authority.pem, request_cert=True, reject_unauthorized=reject)
    restrict(client, protocol)
    alice.shown_by(client, tmp_path)
    result = handshake(contexts, client)
    assert result.verified is True
    assert verification_error(result.server) is None
    assert result.client_certificate == alice.certificate


@both_protocols
def test_a_missing_certificate(
    authority: Authority, leaf: Leaf, client: ssl.SSLContext, protocol: ssl.TLSVersion
) -> None:
    restrict(client, protocol)
    strict = build(leaf, ca=authority.pem, request_cert=True)
    refused(strict, client)
    lenient = build(leaf, ca=authority.pem, request_cert=True, reject_unauthorized=False)
    result = handshake(lenient, client)
    assert result.verified is False
    assert verification_error(result.server) is None


@both_protocols
def test_an_untrusted_certificate(
    authority: Authority,
    leaf: Leaf,
    stranger: Leaf,
    client: ssl.SSLContext,
    tmp_path: Path,
    protocol: ssl.TLSVersion,
) -> None:
    restrict(client, protocol)
    stranger.shown_by(client, tmp_path)
    strict = build(leaf, ca=authority.pem, request_cert=True)
    assert "unknown ca" in refused(strict, client)
    lenient = build(leaf, ca=authority.pem, request_cert=True, reject_unauthorized=False)
    result = handshake(lenient, client)
    assert result.verified is False
    assert verification_error(result.server) == "unable to get issuer cert locally"
    assert result.client_certificate == stranger.certificate


def test_an_expired_certificate_of_a_trusted_authority(
    authority: Authority, leaf: Leaf, client: ssl.SSLContext, tmp_path: Path
) -> None:
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    expired = authority.issue(
        "bob@example.org", not_before=yesterday - timedelta(days=1), not_after=yesterday
    )
    expired.shown_by(client, tmp_path)
    strict = build(leaf, ca=authority.pem, request_cert=True)
    assert "expired" in refused(strict, client)
    lenient = build(leaf, ca=authority.pem, request_cert=True, reject_unauthorized=False)
    result = handshake(lenient, client)
    assert result.verified is False
    assert verification_error(result.server) == "cert has expired"


def test_the_first_of_several_errors_is_told(
    authority: Authority, leaf: Leaf, client: ssl.SSLContext, tmp_path: Path
) -> None:
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    expired = Authority().issue(
        "mallory@example.org", not_before=yesterday - timedelta(days=1), not_after=yesterday
    )
    expired.shown_by(client, tmp_path)
    contexts = build(leaf, ca=authority.pem, request_cert=True, reject_unauthorized=False)
    result = handshake(contexts, client)
    assert result.verified is False
    assert verification_error(result.server) == "unable to get issuer cert locally"


def test_one_bad_client_does_not_spoil_the_next(
    authority: Authority, leaf: Leaf, alice: Leaf, stranger: Leaf, tmp_path: Path
) -> None:
    contexts = build(leaf, ca=authority.pem, request_cert=True, reject_unauthorized=False)
    seen = []
    for shown in (stranger, alice, None, stranger, alice):
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.trusted_by(client)
        if shown is not None:
            shown.shown_by(client, tmp_path)
        seen.append(handshake(contexts, client).verified)
    assert seen == [False, True, False, False, True]


def test_a_certificate_that_is_not_asked_for_is_not_sent(
    authority: Authority, leaf: Leaf, alice: Leaf, client: ssl.SSLContext, tmp_path: Path
) -> None:
    alice.shown_by(client, tmp_path)
    result = handshake(build(leaf, ca=authority.pem), client)
    assert result.client_certificate is None
    assert result.verified is False


def test_a_listed_intermediate_authority_is_trusted_without_its_root(
    authority: Authority, leaf: Leaf, client: ssl.SSLContext, tmp_path: Path
) -> None:
    intermediate = authority.child()
    contexts = build(leaf, ca=intermediate.pem, request_cert=True)
    intermediate.issue("carol@example.org").shown_by(client, tmp_path)
    assert handshake(contexts, client).verified


def test_without_ca_the_systems_authorities_are_trusted(
    authority: Authority,
    leaf: Leaf,
    alice: Leaf,
    stranger: Leaf,
    client: ssl.SSLContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.write(tmp_path)))
    contexts = build(leaf, request_cert=True)
    alice.shown_by(client, tmp_path)
    assert handshake(contexts, client).verified
    stranger.shown_by(client, tmp_path)
    assert "unknown ca" in refused(contexts, client)


def test_with_ca_the_systems_authorities_are_not(
    authority: Authority,
    leaf: Leaf,
    alice: Leaf,
    client: ssl.SSLContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.write(tmp_path)))
    alice.shown_by(client, tmp_path)
    assert "unknown ca" in refused(build(leaf, ca=Authority().pem, request_cert=True), client)


def authorities_named(contexts: SecureContexts, name: bytes) -> list[bytes]:
    """The authorities that the server names when it asks a client for a certificate."""
    seen: list[bytes] = []

    def talk(sock: socket.socket) -> None:
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), sock)
        client.set_tlsext_host_name(name)
        client.set_connect_state()
        client.do_handshake()
        # The form that all supported releases have; newer ones warn of its end.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            seen.extend(name.der() for name in client.get_client_ca_list())
        assert client.recv(5) == b"hello"
        client.send(b"hello")
        with pytest.raises(SSL.ZeroReturnError):
            client.recv(5)

    exchange(contexts, talk)
    return seen


def test_the_authorities_are_named_to_the_client(authority: Authority, leaf: Leaf) -> None:
    other = Authority()
    contexts = build(
        leaf,
        {"b.example": {"ca": other.pem}},
        ca=authority.pem,
        request_cert=True,
        reject_unauthorized=False,
    )
    assert authorities_named(contexts, NAME.encode()) == [
        authority.certificate.subject.public_bytes()
    ]
    assert authorities_named(contexts, b"b.example") == [other.certificate.subject.public_bytes()]


def test_a_connection_of_others_is_never_verified() -> None:
    connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD))
    assert peer_verified(connection) is False
    assert verification_error(connection) is None


def test_a_certificate_that_cannot_be_read_is_not_verified(
    authority: Authority,
    leaf: Leaf,
    alice: Leaf,
    client: ssl.SSLContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`cryptography` refuses some that OpenSSL takes."""

    def refuse(self: SSL.Connection, *, as_cryptography: bool = False) -> None:
        raise ValueError("error parsing asn1 value")

    monkeypatch.setattr(SSL.Connection, "get_peer_certificate", refuse)
    alice.shown_by(client, tmp_path)
    contexts = build(leaf, ca=authority.pem, request_cert=True, reject_unauthorized=False)
    assert handshake(contexts, client).verified is False


# --- resumption ----------------------------------------------------------------------------------


def resume(contexts: SecureContexts, client: ssl.SSLContext, name: str = NAME) -> Result:
    """Two handshakes, the second in the session of the first."""
    first = handshake(contexts, client, name)
    assert first.reused is False
    assert first.session is not None
    return handshake(contexts, client, name, first.session)


@both_protocols
def test_sessions_resume(leaf: Leaf, client: ssl.SSLContext, protocol: ssl.TLSVersion) -> None:
    restrict(client, protocol)
    result = resume(build(leaf), client)
    assert result.reused is True
    assert result.verified is False


@both_protocols
@pytest.mark.parametrize("tickets", [True, False])
@pytest.mark.parametrize(
    ("shows", "reject", "verified"),
    [
        ("alice", True, True),
        ("alice", False, True),
        ("stranger", False, False),
        (None, False, False),
    ],
)
def test_a_resumed_session_is_as_verified_as_it_was(
    authority: Authority,
    leaf: Leaf,
    client: ssl.SSLContext,
    tmp_path: Path,
    protocol: ssl.TLSVersion,
    tickets: bool,
    shows: str | None,
    reject: bool,
    verified: bool,
    request: pytest.FixtureRequest,
) -> None:
    contexts = build(leaf, ca=authority.pem, request_cert=True, reject_unauthorized=reject)
    restrict(client, protocol)
    if not tickets:
        client.options |= ssl.OP_NO_TICKET
    if shows is not None:
        shown: Leaf = request.getfixturevalue(shows)
        shown.shown_by(client, tmp_path)
    result = resume(contexts, client)
    assert result.verified is verified
    # Nothing is kept here: in TLS 1.2, a session without a ticket is over with its connection.
    assert result.reused is (tickets or protocol is ssl.TLSVersion.TLSv1_3)
    if not result.reused:
        return
    # And once more: by then, the certificate has come back from the session alone.
    again = handshake(contexts, client, NAME, result.session)
    assert again.reused is True
    assert again.verified is verified


@both_protocols
def test_sessions_resume_under_a_host_name(
    authority: Authority,
    leaf: Leaf,
    alice: Leaf,
    client: ssl.SSLContext,
    tmp_path: Path,
    protocol: ssl.TLSVersion,
) -> None:
    contexts = build(
        leaf,
        {"b.example": {"cert": authority.issue("b.example").combined}},
        ca=authority.pem,
        request_cert=True,
        reject_unauthorized=False,
    )
    restrict(client, protocol)
    alice.shown_by(client, tmp_path)
    result = resume(contexts, client, "b.example")
    assert result.reused is True
    assert result.verified is True


@both_protocols
@pytest.mark.parametrize("tickets", [True, False])
@pytest.mark.parametrize("begun_at", [NAME, "lenient.example"])
def test_no_session_leads_from_a_lenient_name_to_a_strict_one(
    authority: Authority,
    leaf: Leaf,
    client: ssl.SSLContext,
    protocol: ssl.TLSVersion,
    tickets: bool,
    begun_at: str,
) -> None:
    """A session without certificate would else be resumed where one is demanded."""
    names = authority.issue("lenient.example", "strict.example").combined
    strict: dict[str, Any] = {"cert": names, "request_cert": True}
    contexts = build(
        leaf, {"lenient.example": {"cert": names}, "strict.example": strict}, ca=authority.pem
    )
    restrict(client, protocol)
    if not tickets:
        client.options |= ssl.OP_NO_TICKET
    session = handshake(contexts, client, begun_at).session
    with pytest.raises(ssl.SSLError):
        handshake(contexts, client, "strict.example", session)
    assert handshake(contexts, client, begun_at, session).reused is False


@both_protocols
def test_no_session_leads_from_one_authority_to_another(
    authority: Authority,
    leaf: Leaf,
    alice: Leaf,
    client: ssl.SSLContext,
    tmp_path: Path,
    protocol: ssl.TLSVersion,
) -> None:
    own = authority.issue("b.example").combined
    contexts = build(
        leaf,
        {"b.example": {"cert": own, "ca": Authority().pem}},
        ca=authority.pem,
        request_cert=True,
    )
    restrict(client, protocol)
    alice.shown_by(client, tmp_path)
    session = handshake(contexts, client).session
    with pytest.raises(ssl.SSLError, match="unknown ca"):
        handshake(contexts, client, "b.example", session)


def test_authorities_that_are_not_used_do_not_stop_resumption(
    authority: Authority, leaf: Leaf, client: ssl.SSLContext
) -> None:
    contexts = build(leaf, {NAME: {"ca": authority.pem}})
    assert resume(contexts, client).reused is True


@both_protocols
def test_no_session_outlives_the_contexts(
    leaf: Leaf, client: ssl.SSLContext, protocol: ssl.TLSVersion
) -> None:
    restrict(client, protocol)
    session = handshake(build(leaf), client).session
    assert handshake(build(leaf), client, NAME, session).reused is False


@pytest.mark.parametrize("reject", [True, False])
def test_a_resumed_session_is_not_verified_once_its_certificate_expired(
    authority: Authority,
    leaf: Leaf,
    alice: Leaf,
    client: ssl.SSLContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reject: bool,
) -> None:
    contexts = build(leaf, ca=authority.pem, request_cert=True, reject_unauthorized=reject)
    alice.shown_by(client, tmp_path)
    result = resume(contexts, client)
    assert result.verified

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Later:
            last = alice.certificate.not_valid_after_utc + timedelta(seconds=1)
            return cls.fromtimestamp(last.timestamp(), tz)

    monkeypatch.setattr(tls_context, "datetime", Later)
    assert not result.verified


@pytest.mark.parametrize("reject", [True, False])
def test_what_is_forgotten_is_not_verified(
    authority: Authority,
    leaf: Leaf,
    alice: Leaf,
    client: ssl.SSLContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reject: bool,
) -> None:
    """Where unverified certificates are rejected, nothing needs to be remembered."""
    monkeypatch.setattr(tls_context, "_MOST_VERIFIED", 0)
    contexts = build(leaf, ca=authority.pem, request_cert=True, reject_unauthorized=reject)
    alice.shown_by(client, tmp_path)
    result = resume(contexts, client)
    assert result.reused is True
    assert result.verified is reject


def test_only_the_latest_verified_certificates_are_remembered(
    authority: Authority, alice: Leaf, leaf: Leaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_context, "_MOST_VERIFIED", 2)
    bob = authority.issue("bob@example.org").certificate
    remembered = tls_context._VerifiedCertificates()
    for certificate in (alice.certificate, bob, alice.certificate, leaf.certificate):
        remembered.add(certificate)
    assert alice.certificate in remembered
    assert leaf.certificate in remembered
    assert bob not in remembered
