"""Renegotiation: a client that begins the handshake anew inside TLS.

CVE-2009-3555: what an attacker said before a renegotiation counted as said by the client after it.
CVE-2011-1473: each renegotiation costs the server more than the client, as often as that likes.
TLS 1.3 has none (RFC 8446, section 4.1.2); in TLS 1.2 ours refuses it, and disconnects who asks.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
from OpenSSL import SSL

from blocksmtp.wire import tls_context
from tests.client import TIMEOUT, serving, wait_until_idle

NO_RENEGOTIATION = 0x164  # a warning, and which (RFC 5246, section 7.2)


class Connection:
    """As much of pyOpenSSL's as is needed."""

    def __init__(self, error: OSError | None = None) -> None:
        self.shut_down: list[int] = []
        self._error = error

    def sock_shutdown(self, how: int) -> None:
        self.shut_down.append(how)
        if self._error is not None:
            raise self._error


def told(where: int, value: int, error: OSError | None = None) -> list[int]:
    """How a connection is shut down of which OpenSSL tells this."""
    connection: Any = Connection(error)
    tls_context._end_renegotiation(connection, where, value)
    return connection.shut_down  # type: ignore[no-any-return]


def test_a_renegotiation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def noting(connection: SSL.Connection, where: int, value: int) -> None:
        seen.append((where, value))

    monkeypatch.setattr(tls_context, "_end_renegotiation", noting)
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    with serving(secure=True) as server, socket.socket() as wire:
        assert server.address is not None
        wire.settimeout(TIMEOUT)
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
        wire.close()
        wait_until_idle(server)
    # What the next test is about.
    assert (SSL.SSL_CB_WRITE_ALERT, NO_RENEGOTIATION) in seen


def test_who_asks_for_it_is_disconnected() -> None:
    """It might not heed the alert, and ask again and again, all inside a single read of ours."""
    assert told(SSL.SSL_CB_WRITE_ALERT, NO_RENEGOTIATION) == [socket.SHUT_RDWR]
    assert told(SSL.SSL_CB_WRITE_ALERT, NO_RENEGOTIATION, OSError("gone")) == [socket.SHUT_RDWR]


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (SSL.SSL_CB_READ_ALERT, NO_RENEGOTIATION),
        (SSL.SSL_CB_WRITE_ALERT, 0x100),  # close_notify
        (SSL.SSL_CB_HANDSHAKE_START, 1),
        (SSL.SSL_CB_ACCEPT_LOOP, NO_RENEGOTIATION),
    ],
)
def test_nothing_else_disconnects(where: int, value: int) -> None:
    assert told(where, value) == []
