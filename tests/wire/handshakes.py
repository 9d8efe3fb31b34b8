"""TLS handshakes for tests: contexts of the server under test, and clients that talk to them."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography import x509
from OpenSSL import SSL

from blocksmtp.options import Options, TLSOptions
from blocksmtp.wire.tls_context import (
    SecureContexts,
    peer_verified,
)
from tests.certificates import Leaf

TIMEOUT = 10  # seconds that either side waits for the other at the most
NAME = "mail.example.org"

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
both_protocols = pytest.mark.parametrize("protocol", [TLS12, TLS13], ids=["TLSv1.2", "TLSv1.3"])


def restrict(context: ssl.SSLContext, protocol: ssl.TLSVersion) -> None:
    context.minimum_version = context.maximum_version = protocol


def build(
    leaf: Leaf, sni: Mapping[str, TLSOptions | dict[str, Any]] | None = None, **options: Any
) -> SecureContexts:
    """Contexts with the certificate `leaf`, as the server makes them."""
    checked = Options(
        **{"cert": leaf.cert, "key": leaf.key, **options},
        sni_options=sni,  # type: ignore[arg-type]
    )
    return SecureContexts.build(checked, checked.sni_options, "mail.example.org")


@dataclass
class Result:
    """A handshake that succeeded, as both ends saw it."""

    server: SSL.Connection
    shown: bytes
    """The server's certificate, DER."""
    protocol: str | None
    cipher: str
    session: ssl.SSLSession | None
    reused: bool | None

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.shown)

    @property
    def verified(self) -> bool:
        return peer_verified(self.server)

    @property
    def client_certificate(self) -> x509.Certificate | None:
        return self.server.get_peer_certificate(as_cryptography=True)


def serve(contexts: SecureContexts, sock: socket.socket) -> SSL.Connection:
    """The server's end: the handshake, then an exchange, so that both know it succeeded."""
    with closing(sock):
        connection = contexts.connection(sock)
        connection.do_handshake()
        connection.send(b"hello")
        assert connection.recv(5) == b"hello"
        connection.shutdown()
        return connection


def exchange(contexts: SecureContexts, talk: Callable[[socket.socket], None]) -> SSL.Connection:
    """Run `talk` as the client; raises what it raises, or else what the server's end raises."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        # Of the kernel: the descriptor stays a blocking one, as pyOpenSSL needs it here.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", TIMEOUT, 0))
    with ThreadPoolExecutor(1) as thread, ours:
        served = thread.submit(serve, contexts, theirs)
        try:
            talk(ours)
        finally:
            ours.close()
            failed = served.exception(TIMEOUT)
    if failed is not None:
        raise failed
    return served.result()


def handshake(
    contexts: SecureContexts,
    client: ssl.SSLContext,
    name: str | None = NAME,
    session: ssl.SSLSession | None = None,
) -> Result:
    """A handshake of `client`, asking for `name`; raises ssl.SSLError or SSL.Error if it fails."""
    seen: dict[str, Any] = {}

    def talk(sock: socket.socket) -> None:
        with client.wrap_socket(
            sock, server_hostname=name, session=session, suppress_ragged_eofs=False
        ) as secure:
            assert secure.recv(5) == b"hello"  # by then, TLS 1.3 has sent its session tickets
            secure.sendall(b"hello")
            assert secure.recv(5) == b""
            cipher = secure.cipher()
            seen.update(
                shown=secure.getpeercert(binary_form=True),
                protocol=secure.version(),
                cipher=cipher and cipher[0],
                session=secure.session,
                reused=secure.session_reused,
            )

    return Result(server=exchange(contexts, talk), **seen)


def refused(contexts: SecureContexts, client: ssl.SSLContext, name: str | None = NAME) -> str:
    """What the client is told when its handshake is refused."""
    with pytest.raises(ssl.SSLError) as caught:
        handshake(contexts, client, name)
    return str(caught.value)
