"""The OpenSSL contexts of a server: certificates, protocols, ciphers, and what is refused."""

from __future__ import annotations

import gc
import socket
import ssl
import threading
import weakref
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL

from blocksmtp.options import TLSOptions
from blocksmtp.session import TLSCipherInfo
from blocksmtp.wire.tls_context import (
    SecureContexts,
)
from blocksmtp.wire.tls_security import cipher_info
from tests.certificates import Authority, Leaf

from .handshakes import (
    NAME,
    TIMEOUT,
    TLS12,
    TLS13,
    build,
    handshake,
    restrict,
)

# --- certificates --------------------------------------------------------------------------------


def test_the_server_shows_its_certificate(leaf: Leaf, client: ssl.SSLContext) -> None:
    contexts = build(leaf)
    assert handshake(contexts, client).certificate == leaf.certificate
    assert contexts.self_made is None


def test_the_chain_is_sent_with_it(authority: Authority, client: ssl.SSLContext) -> None:
    """Also for a host name of its own; the client knows the root alone."""
    contexts = build(
        authority.child().issue(NAME),
        {"b.example": {"cert": authority.child().issue("b.example").combined}},
    )
    for name in (NAME, "b.example"):
        assert handshake(contexts, client, name)


def test_without_any_a_certificate_is_made(tmp_path: Path) -> None:
    contexts = SecureContexts.build(TLSOptions(), {}, "smtp.example.net")
    assert contexts.self_made is not None
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE
    pem = handshake(contexts, anyone).certificate.public_bytes(Encoding.PEM)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(cadata=pem.decode())
    for name in ("smtp.example.net", "localhost", "127.0.0.1"):
        assert handshake(contexts, trusting, name)


def test_contexts_are_freed_once_they_are_replaced(leaf: Leaf, client: ssl.SSLContext) -> None:
    contexts = build(leaf, {"b.example": {"request_cert": True}})
    handshake(contexts, client)
    gone = weakref.ref(contexts)
    kept = weakref.ref(contexts._context)
    del contexts
    gc.collect()
    assert gone() is None
    assert kept() is None


def test_a_connection_outlives_the_contexts_it_came_from(
    leaf: Leaf, client: ssl.SSLContext
) -> None:
    """Certificates may be replaced during a handshake, even one that looks at the name twice.

    It does so when the client first proposes a group that the server has not (RFC 8446, section
    4.1.4). By then the connection has gone over to the context of the host name.
    """
    contexts = build(leaf, {NAME: {"cert": leaf.combined}})
    contexts._context.set_tmp_ecdh(ec.SECP256R1())
    first_context = weakref.ref(contexts._context)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = contexts.connection(theirs)
        del contexts
        gc.collect()
        answering = threading.Thread(target=connection.do_handshake)
        answering.start()
        with client.wrap_socket(ours, server_hostname=NAME) as secure:
            assert secure.version() == "TLSv1.3"
        answering.join(TIMEOUT)
        assert connection.get_context() is not first_context()
        assert first_context() is not None


# --- protocol and ciphers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        ({}, {"TLSv1.2", "TLSv1.3"}),
        ({"max_version": "TLSv1.2"}, {"TLSv1.2"}),
        ({"min_version": "TLSv1.3"}, {"TLSv1.3"}),
        ({"min_version": "TLSv1"}, {"TLSv1.2", "TLSv1.3"}),
        (
            {"min_version": "TLSv1", "ciphers": "DEFAULT:@SECLEVEL=0"},
            {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"},
        ),
        ({"min_version": "TLSv1.1", "max_version": "TLSv1.1", "ciphers": "ALL@SECLEVEL=0"}, None),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_the_range_of_protocols(
    leaf: Leaf, client: ssl.SSLContext, options: dict[str, Any], accepted: set[str] | None
) -> None:
    contexts = build(leaf, **options)
    client.set_ciphers("DEFAULT:@SECLEVEL=0")
    seen = set()
    for protocol in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, TLS12, TLS13):
        # From high to low, or from low to high: never an empty range in between.
        client.minimum_version = ssl.TLSVersion.TLSv1
        client.maximum_version = protocol
        client.minimum_version = protocol
        try:
            seen.add(handshake(contexts, client).protocol)
        except (ssl.SSLError, SSL.Error):
            continue
    assert seen == (accepted or {"TLSv1.1"})


@pytest.mark.parametrize(
    ("ciphers", "in_tls12", "in_tls13"),
    [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", None),
        ("TLS_AES_128_GCM_SHA256", None, "TLS_AES_128_GCM_SHA256"),
        (
            "ECDHE-ECDSA-AES128-GCM-SHA256:TLS_CHACHA20_POLY1305_SHA256",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "TLS_CHACHA20_POLY1305_SHA256",
        ),
    ],
)
def test_ciphers_of_both_kinds(
    leaf: Leaf, client: ssl.SSLContext, ciphers: str, in_tls12: str | None, in_tls13: str | None
) -> None:
    """What is not given keeps the default: it is what a server without the option chooses."""
    given, default = build(leaf, ciphers=ciphers), build(leaf)
    for protocol, expected in ((TLS12, in_tls12), (TLS13, in_tls13)):
        restrict(client, protocol)
        usual = handshake(default, client).cipher
        assert usual not in (in_tls12, in_tls13)
        assert handshake(given, client).cipher == (expected or usual)


def test_who_decides_on_the_cipher(leaf: Leaf, client: ssl.SSLContext) -> None:
    restrict(client, TLS12)
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    theirs = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"
    assert handshake(build(leaf, ciphers=theirs), client).cipher == "ECDHE-ECDSA-AES256-GCM-SHA384"
    contexts = build(leaf, ciphers=theirs, honor_cipher_order=False)
    assert handshake(contexts, client).cipher == "ECDHE-ECDSA-AES128-GCM-SHA256"


def test_a_weak_certificate_is_taken_at_security_level_0(client: ssl.SSLContext) -> None:
    weak = weak_leaf()
    with pytest.raises(ValueError, match=r"^cert: .*too small"):
        build(weak)
    assert build(weak, ciphers="DEFAULT:@SECLEVEL=0")


def weak_leaf() -> Leaf:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point
    name = x509.Name([])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(1))
    ).sign(key, hashes.SHA256())
    octets = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Leaf(certificate.public_bytes(Encoding.PEM), octets)


def test_renegotiation_and_compression_are_off(leaf: Leaf) -> None:
    options = build(leaf)._context.set_options(0)
    for option in (SSL.OP_NO_RENEGOTIATION, SSL.OP_NO_COMPRESSION):
        assert options & option


@pytest.mark.parametrize(
    ("protocol", "ciphers", "expected"),
    [
        (
            TLS12,
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            TLSCipherInfo(
                "ECDHE-ECDSA-AES128-GCM-SHA256",
                "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                "TLSv1.2",
            ),
        ),
        (
            TLS13,
            "TLS_AES_128_GCM_SHA256",
            TLSCipherInfo("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256", "TLSv1.3"),
        ),
    ],
)
def test_the_cipher_is_told(
    leaf: Leaf,
    client: ssl.SSLContext,
    protocol: ssl.TLSVersion,
    ciphers: str,
    expected: TLSCipherInfo,
) -> None:
    restrict(client, protocol)
    assert cipher_info(handshake(build(leaf, ciphers=ciphers), client).server) == expected


def test_there_is_no_cipher_before_the_handshake(leaf: Leaf) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ValueError, match="before the handshake"):
        cipher_info(build(leaf).connection(theirs))


# --- what is refused at once ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ca": b"-----BEGIN NOTHING-----"}, "ca: no PEM certificate"),
        ({"ca": "/nowhere/ca.pem", "request_cert": True}, "ca: cannot read '/nowhere/ca.pem'"),
        ({"cert": "/nowhere/cert.pem"}, "cert: cannot read '/nowhere/cert.pem'"),
        ({"key": "/nowhere/key.pem"}, "key: cannot read '/nowhere/key.pem'"),
        ({"cert": None}, "key: given without cert"),
        ({"key": None}, "cert: given without key"),
        ({"cert": None, "key": None, "passphrase": "sesame"}, "passphrase: given without"),
        ({"ciphers": "BOGUS"}, "ciphers: no cipher match"),
        ({"ciphers": "TLS_BOGUS"}, "ciphers: no cipher match"),
        ({"ciphers": "BÖGUS"}, "ciphers: no cipher match"),
        ({"ciphers": ":"}, "ciphers must name"),
        ({"max_version": "TLSv1.1"}, "max_version TLSv1.1 is below min_version TLSv1.2"),
    ],
)
def test_what_cannot_be_used_is_refused(leaf: Leaf, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        build(leaf, **options)


def test_a_key_of_another_certificate_is_refused(authority: Authority, leaf: Leaf) -> None:
    other = authority.issue("other.example.org")
    with pytest.raises(ValueError, match=r"^key: does not belong to cert"):
        build(leaf, key=other.key)
    with pytest.raises(ValueError, match=r"^sni_options\['b.example'\]: key: does not belong"):
        build(leaf, {"b.example": {"cert": other.cert, "key": leaf.key}})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("b.example", {"min_version": "TLSv1.3"}, "min_version: must be the same"),
        ("b.example", {"max_version": "TLSv1.2"}, "max_version: must be the same"),
        ("b.example", {"session_id_context": "b"}, "session_id_context: must be the same"),
        ("b.example", {"honor_cipher_order": False}, "honor_cipher_order: must be the same"),
        ("b.example", {"ciphers": "TLS_AES_128_GCM_SHA256"}, "ciphers: those of TLS 1.3"),
        ("b.example", {"ciphers": "BOGUS"}, "ciphers: no cipher match"),
        ("b.example", {"passphrase": "sesame"}, "passphrase: given without cert and key"),
        ("b.example", {"ca": b""}, "ca: no PEM certificate"),
        ("*", {}, "not a host name; a wildcard"),
        ("a*.example", {}, "not a host name; a wildcard"),
        ("a.*.example", {}, "not a host name; a wildcard"),
        ("a b", {}, "not a host name"),
        ("ü" * 64, {}, "not a host name"),
        ("a..b", {}, "not a host name"),
    ],
)
def test_what_a_host_name_cannot_have_is_refused(
    leaf: Leaf, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        build(leaf, {name: options})
    assert str(caught.value).startswith(f"sni_options[{name!r}]: {message}")
    assert caught.value.__cause__ is not None


def test_what_the_server_has_may_be_repeated_for_a_host_name(leaf: Leaf) -> None:
    same = {
        "min_version": "TLSv1.2",
        "max_version": "TLSv1.3",
        "session_id_context": "ours",
        "honor_cipher_order": False,
        "ciphers": "TLS_AES_128_GCM_SHA256:ALL",
    }
    assert build(leaf, {"b.example": same}, **same)


def test_the_same_host_name_in_two_spellings_is_refused(leaf: Leaf) -> None:
    with pytest.raises(ValueError, match="given twice"):
        build(leaf, {"bücher.example": {}, "xn--bcher-kva.example": {}})


def test_no_secret_is_in_the_error(leaf: Leaf) -> None:
    inside = "".join(leaf.key.decode().splitlines()[1:-1])
    encrypted = leaf.encrypted_key(b"sesame")
    for options in ({"key": inside}, {"key": encrypted, "passphrase": "mustard"}):
        with pytest.raises(ValueError) as caught:
            build(leaf, {"b.example": {"cert": leaf.cert, **options}})
        error: BaseException | None = caught.value
        while error is not None:
            assert inside not in str(error)
            assert "mustard" not in str(error)
            error = error.__cause__


@pytest.mark.parametrize(
    ("refusing", "option"),
    [("use_certificate", "cert"), ("use_privatekey", "key"), ("add_client_ca", "ca")],
)
def test_what_openssl_refuses_is_named(
    authority: Authority, leaf: Leaf, monkeypatch: pytest.MonkeyPatch, refusing: str, option: str
) -> None:
    def refuse(self: SSL.Context, given: object) -> None:
        raise SSL.Error([("SSL routines", "", "not today")])

    monkeypatch.setattr(SSL.Context, refusing, refuse)
    with pytest.raises(ValueError, match=f"^{option}: not today$"):
        build(leaf, ca=authority.pem, request_cert=True)


def test_an_error_without_reason_is_told_too(leaf: Leaf, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: SSL.Context) -> None:
        raise SSL.Error

    monkeypatch.setattr(SSL.Context, "check_privatekey", refuse)
    with pytest.raises(ValueError, match=r"^key: refused by OpenSSL$"):
        build(leaf)


def test_a_read_comes_back_after_each_record(leaf: Leaf) -> None:
    """Also after one that holds no octet for us, such as KeyUpdate (RFC 8446, section 4.6.3)."""
    contexts = build(leaf, {"b.example": {}})
    auto_retry = 0x4  # SSL_MODE_AUTO_RETRY
    assert not contexts._context.set_mode(0) & auto_retry
    assert contexts._context.get_session_cache_mode() == SSL.SESS_CACHE_OFF
