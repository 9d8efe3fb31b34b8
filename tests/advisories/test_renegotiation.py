"""Renegotiation: a client that begins the handshake anew inside TLS.

CVE-2009-3555: what an attacker said before a renegotiation counted as said by the client after it.
CVE-2011-1473: each renegotiation costs the server more than the client, as often as that likes.
TLS 1.3 has none (RFC 8446, section 4.1.2); in TLS 1.2 ours refuses it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from OpenSSL import SSL

from tests.client import TIMEOUT, serving, wait_until_idle


@pytest.fixture
def wire() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.settimeout(TIMEOUT)
        yield sock


def test_a_renegotiation_is_refused(wire: socket.socket) -> None:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    seen: list[Exception] = []
    with serving(secure=True) as server:
        server.on("error", seen.append)
        assert server.address is not None
        wire.connect(server.address)
        # Blocking: a socket with a time limit is not, for OpenSSL.
        wire.setblocking(True)
        client = SSL.Connection(context, wire)
        client.set_connect_state()
        client.do_handshake()
        assert client.recv(100).startswith(b"220 ")
        assert client.renegotiate()
        with pytest.raises(SSL.Error, match="no renegotiation"):
            client.do_handshake()
        # Who does not heed that could go on to ask: the server has closed.
        wire.settimeout(TIMEOUT)
        while wire.recv(65536):
            pass
        wire.close()
        wait_until_idle(server)
    assert seen == []
