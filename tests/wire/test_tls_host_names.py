"""The context for the host name that a client asks for (SNI)."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from OpenSSL import SSL

from blocksmtp.wire.tls_context import (
    SecureContexts,
)
from tests.certificates import Authority, Leaf

from .handshakes import (
    NAME,
    TLS12,
    TLS13,
    both_protocols,
    build,
    exchange,
    handshake,
    refused,
    restrict,
)

# --- host names ----------------------------------------------------------------------------------


HOSTS = {
    "a.example": "a.example",
    "B.Example.": "b.example",
    "*.example.org": "*.example.org",
    "x.example.org": "x.example.org",
    "bücher.example": "xn--bcher-kva.example",
    "*.straße.example": "*.xn--strae-oqa.example",
}


@pytest.fixture(scope="module")
def hosts(authority: Authority, leaf: Leaf) -> SecureContexts:
    """A context for each of HOSTS, whose certificate is for that name alone."""
    own = {host: {"cert": authority.issue(name).combined} for host, name in HOSTS.items()}
    return build(leaf, own)


def chosen(contexts: SecureContexts, name: bytes | None) -> set[str]:
    """The names in the certificate that a client gets that asks for `name`, octet for octet."""
    seen = []

    def talk(sock: socket.socket) -> None:
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), sock)
        if name is not None:
            client.set_tlsext_host_name(name)
        client.set_connect_state()
        client.do_handshake()
        seen.append(client.get_peer_certificate(as_cryptography=True))
        assert client.recv(5) == b"hello"
        client.send(b"hello")
        with pytest.raises(SSL.ZeroReturnError):
            client.recv(5)

    exchange(contexts, talk)
    (certificate,) = seen
    assert certificate is not None
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(names.get_values_for_type(x509.DNSName))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        # exact
        (b"a.example", "a.example"),
        (b"A.EXAMPLE", "a.example"),
        (b"a.example.", "a.example"),
        (b"b.example", "b.example"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        # an exact name goes before a wildcard, and a wildcard stands for exactly one label
        (b"x.example.org", "x.example.org"),
        (b"y.example.org", "*.example.org"),
        (b"Y.EXAMPLE.ORG.", "*.example.org"),
        (b"a.xn--strae-oqa.example", "*.xn--strae-oqa.example"),
        (b"y.x.example.org", None),
        (b"example.org", None),
        (b".example.org", None),
        # unknown, missing, nonsense
        (None, None),
        (b"unknown.example", None),
        (b"a.example..", None),
        (b"b\xc3\xbccher.example", None),
        (b"\xff\xfe\x80", None),
        (b".", None),
        (b"*", None),
        (b"a" * 255, None),
    ],
)
def test_the_certificate_for_a_host_name(
    hosts: SecureContexts, asked: bytes | None, expected: str | None
) -> None:
    assert chosen(hosts, asked) == {expected or NAME}


def test_a_client_verifies_the_certificate_for_its_name(
    hosts: SecureContexts, client: ssl.SSLContext
) -> None:
    for name in ("a.example", "y.example.org", "bücher.example"):
        assert handshake(hosts, client, name)


def test_what_a_name_leaves_out_is_the_servers(
    authority: Authority, leaf: Leaf, client: ssl.SSLContext
) -> None:
    ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256"
    only_ciphers: dict[str, Any] = {"ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384"}
    only_cert: dict[str, Any] = {"cert": authority.issue("b.example").combined}
    contexts = build(leaf, {NAME: only_ciphers, "b.example": only_cert}, ciphers=ciphers)
    restrict(client, TLS12)
    result = handshake(contexts, client, NAME)
    assert (result.certificate, result.cipher) == (
        leaf.certificate,
        "ECDHE-ECDSA-AES256-GCM-SHA384",
    )
    assert handshake(contexts, client, "b.example").cipher == ciphers


def test_ciphers_of_a_name_are_for_tls_up_to_12(leaf: Leaf, client: ssl.SSLContext) -> None:
    older = "ECDHE-ECDSA-AES256-GCM-SHA384"
    contexts = build(leaf, {NAME: {"ciphers": older}}, ciphers="ALL:TLS_AES_128_GCM_SHA256")
    for protocol, expected in ((TLS12, older), (TLS13, "TLS_AES_128_GCM_SHA256")):
        restrict(client, protocol)
        assert handshake(contexts, client).cipher == expected


def test_certificate_key_and_passphrase_go_together(authority: Authority, leaf: Leaf) -> None:
    own = authority.issue("b.example")
    with pytest.raises(ValueError, match=r"^sni_options\['b.example'\]: key: given without cert"):
        build(leaf, {"b.example": {"key": own.key}})
    with pytest.raises(ValueError, match=r"^sni_options\['b.example'\]: cert: given without key"):
        build(leaf, {"b.example": {"cert": own.cert}})
    secret = {"key": leaf.encrypted_key(b"sesame"), "passphrase": "sesame"}
    with pytest.raises(ValueError, match="there is no passphrase"):
        build(
            leaf,
            {"b.example": {"cert": own.cert, "key": own.encrypted_key(b"sesame")}},
            **secret,
        )


# --- host names and clients' certificates --------------------------------------------------------


@both_protocols
def test_another_name_is_no_way_around_the_servers_demand(
    authority: Authority, leaf: Leaf, client: ssl.SSLContext, protocol: ssl.TLSVersion
) -> None:
    contexts = build(
        leaf,
        {"b.example": {"cert": authority.issue("b.example").combined}, NAME: {"ciphers": "ALL"}},
        ca=authority.pem,
        request_cert=True,
    )
    restrict(client, protocol)
    for name in (NAME, "b.example"):
        refused(contexts, client, name)


@both_protocols
def test_a_name_may_demand_more_or_less_than_the_server(
    authority: Authority,
    leaf: Leaf,
    alice: Leaf,
    stranger: Leaf,
    client: ssl.SSLContext,
    tmp_path: Path,
    protocol: ssl.TLSVersion,
) -> None:
    own = {"cert": authority.issue("strict.example", "lenient.example", "none.example").combined}
    contexts = build(
        leaf,
        {
            "strict.example": {**own, "reject_unauthorized": True},
            "none.example": {**own, "request_cert": False},
            "lenient.example": own,
        },
        ca=authority.pem,
        request_cert=True,
        reject_unauthorized=False,
    )
    restrict(client, protocol)
    refused(contexts, client, "strict.example")
    assert handshake(contexts, client, "lenient.example").verified is False
    alice.shown_by(client, tmp_path)
    assert handshake(contexts, client, "strict.example").verified is True
    assert handshake(contexts, client, "lenient.example").verified is True
    assert handshake(contexts, client, "none.example").client_certificate is None
    stranger.shown_by(client, tmp_path)
    assert "unknown ca" in refused(contexts, client, "strict.example")
    assert handshake(contexts, client, "lenient.example").verified is False


@both_protocols
def test_a_name_may_trust_other_authorities(
    authority: Authority,
    leaf: Leaf,
    alice: Leaf,
    client: ssl.SSLContext,
    tmp_path: Path,
    protocol: ssl.TLSVersion,
) -> None:
    other = Authority()
    own = authority.issue("b.example").combined
    contexts = build(
        leaf, {"b.example": {"cert": own, "ca": other.pem}}, ca=authority.pem, request_cert=True
    )
    restrict(client, protocol)
    alice.shown_by(client, tmp_path)
    assert handshake(contexts, client).verified
    assert "unknown ca" in refused(contexts, client, "b.example")
    other.issue("bob@example.org").shown_by(client, tmp_path)
    assert handshake(contexts, client, "b.example").verified
    assert "unknown ca" in refused(contexts, client)
