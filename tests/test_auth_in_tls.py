"""Authentication that rests on TLS: channel bindings (RFC 9266) and clients' certificates."""

from __future__ import annotations

import base64
import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from blocksmtp import ExternalAuth, ScramAuth, SMTPServer, SMTPSession
from tests.certificates import Authority, Leaf
from tests.client import TIMEOUT, serving
from tests.scram_client import ScramClient

PLUS = "SCRAM-SHA-256-PLUS"
both_ways = pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "starttls"])


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def leaf(authority: Authority) -> Leaf:
    return authority.issue("mx.example")


class TLSClient:
    """A client over pyOpenSSL, which can export keying material; Python's ssl cannot."""

    def __init__(self, server: SMTPServer, context: SSL.Context, *, implicit: bool) -> None:
        assert isinstance(server.address, tuple)
        self._sock = socket.create_connection(server.address)
        # Of the kernel: pyOpenSSL needs a descriptor that blocks.
        self._sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, int(TIMEOUT).to_bytes(8, "little") + bytes(8)
        )
        self.connection = SSL.Connection(context, self._sock)
        self.connection.set_connect_state()
        self._buffer = b""
        if not implicit:
            self._read: Callable[[int], bytes] = self._sock.recv
            self._write: Callable[[bytes], object] = self._sock.sendall
            self.reply()
            assert self.command("STARTTLS").startswith("220")
        self._read = self.connection.recv
        self._write = self.connection.sendall
        self.connection.do_handshake()
        if implicit:
            self.reply()
        self.extensions = self.command("EHLO client.example")

    def command(self, line: str) -> str:
        """Say a line; the reply."""
        self._write(line.encode() + b"\r\n")
        return self.reply()

    def reply(self) -> str:
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            while b"\n" not in self._buffer:
                self._buffer += self._read(65536)
            line, _, self._buffer = self._buffer.partition(b"\n")
            lines.append(line.decode().rstrip("\r"))
        return "\n".join(lines)

    def scram(self, method: str, client: ScramClient) -> str:
        """An exchange; the reply to the proof."""
        reply = self.command(f"AUTH {method} {_base64(client.first)}")
        if not reply.startswith("334 "):
            return reply
        return self.command(_base64(client.final(base64.b64decode(reply[4:]))))

    @property
    def binding(self) -> bytes:
        """Of type tls-exporter."""
        return self.connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")

    def close(self) -> None:
        self._sock.close()


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode() or "="


def on_auth(auth: Any, session: SMTPSession) -> object:
    if isinstance(auth, ScramAuth):
        return auth.username if auth.validate_password("secret") else None
    assert isinstance(auth, ExternalAuth)
    return auth.username or auth.certificate.serial_number


@contextlib.contextmanager
def connected(
    leaf: Leaf, *, implicit: bool = True, context: SSL.Context | None = None, **options: Any
) -> Iterator[TLSClient]:
    defaults: dict[str, Any] = {
        "auth_methods": ["PLAIN", "SCRAM-SHA-256", PLUS, "EXTERNAL"],
        "disabled_commands": (),
        "on_auth": on_auth,
        **{"cert": leaf.cert, "key": leaf.key, "secure": implicit},
    }
    context = context or SSL.Context(SSL.TLS_CLIENT_METHOD)
    with (
        serving(**{**defaults, **options}) as server,
        contextlib.closing(TLSClient(server, context, implicit=implicit)) as client,
    ):
        yield client


# --- SCRAM-SHA-256-PLUS ------------------------------------------------------------------------

BOUND = b"p=tls-exporter,,"


@both_ways
def test_the_channel_is_bound(leaf: Leaf, implicit: bool) -> None:
    with connected(leaf, implicit=implicit) as client:
        assert f"AUTH PLAIN SCRAM-SHA-256 {PLUS}\n" in client.extensions
        scram = ScramClient("alice", "secret", header=BOUND, binding=client.binding)
        final = client.scram(PLUS, scram)
        assert base64.b64decode(final.removeprefix("334 ")) == scram.expected
        assert client.command("").startswith("235 ")


@pytest.mark.parametrize(
    ("header", "binding"),
    [
        (BOUND, bytes(32)),
        (BOUND, b""),
        (b"p=tls-unique,,", None),
        (b"p=tls-server-end-point,,", None),
    ],
)
def test_a_channel_of_somebody_else(leaf: Leaf, header: bytes, binding: bytes | None) -> None:
    with connected(leaf) as client:
        bound = client.binding if binding is None else binding
        scram = ScramClient("alice", "secret", header=header, binding=bound)
        assert client.scram(PLUS, scram).startswith("535 5.7.8 ")


@pytest.mark.parametrize("header", [b"n,,", b"y,,"])
def test_plus_needs_a_binding(leaf: Leaf, header: bytes) -> None:
    with connected(leaf) as client:
        scram = ScramClient("alice", "secret", header=header)
        assert client.scram(PLUS, scram).startswith("501 5.5.2 ")


def test_a_downgrade_is_refused(leaf: Leaf) -> None:
    """A client that could bind, and was told that the server cannot (RFC 5802, section 6)."""
    with connected(leaf) as client:
        scram = ScramClient("alice", "secret", header=b"y,,")
        assert client.scram("SCRAM-SHA-256", scram).startswith("535 5.7.8 ")
    with connected(leaf, auth_methods=["SCRAM-SHA-256"]) as client:
        assert client.scram("SCRAM-SHA-256", scram).startswith("334 ")


def test_a_client_that_cannot_bind_may_come_without(leaf: Leaf) -> None:
    with connected(leaf) as client:
        scram = ScramClient("alice", "secret")
        final = client.scram("SCRAM-SHA-256", scram)
        assert base64.b64decode(final.removeprefix("334 ")) == scram.expected


def test_below_tls_1_3_there_is_no_such_binding(leaf: Leaf) -> None:
    with connected(leaf, max_version="TLSv1.2") as client:
        assert "AUTH PLAIN SCRAM-SHA-256\n" in client.extensions
        scram = ScramClient("alice", "secret", header=BOUND, binding=client.binding)
        assert client.scram(PLUS, scram).startswith("504 ")
        # A client may believe that the server cannot bind: it is true.
        scram = ScramClient("alice", "secret", header=b"y,,")
        assert client.scram("SCRAM-SHA-256", scram).startswith("334 ")


# --- EXTERNAL ----------------------------------------------------------------------------------


def showing(shown: Leaf, folder: Path) -> SSL.Context:
    cert, key = shown.write(folder, "shown")
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.use_certificate_chain_file(str(cert))
    context.use_privatekey_file(str(key))
    return context


@both_ways
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("reject", [True, False])
def test_a_certificate_is_enough(
    authority: Authority, leaf: Leaf, tmp_path: Path, implicit: bool, version: str, reject: bool
) -> None:
    seen: list[ExternalAuth] = []
    alice = authority.issue("alice@client.example")

    def on_auth(auth: ExternalAuth, session: SMTPSession) -> str:
        seen.append(auth)
        return "alice"

    with connected(
        leaf,
        implicit=implicit,
        context=showing(alice, tmp_path),
        on_auth=on_auth,
        auth_methods=["EXTERNAL"],
        **{"ca": authority.pem, "request_cert": True, "reject_unauthorized": reject},
        max_version=version,
    ) as client:
        assert "AUTH EXTERNAL\n" in client.extensions
        assert client.command("AUTH EXTERNAL =").startswith("235 ")
    [auth] = seen
    assert (auth.method, auth.username) == ("EXTERNAL", "")
    assert auth.certificate == alice.certificate


@pytest.mark.parametrize(
    ("name", "code"), [("bob", 235), ("b\u00f6b", 235), ("a\nb", 501), ("a\0b", 501)]
)
def test_for_whom_a_client_acts(
    authority: Authority, leaf: Leaf, tmp_path: Path, name: str, code: int
) -> None:
    context = showing(authority.issue("alice@client.example"), tmp_path)
    with connected(leaf, context=context, ca=authority.pem, request_cert=True) as client:
        assert client.command("AUTH EXTERNAL") == "334 "
        assert client.command(_base64(name.encode())).startswith(str(code))


def test_a_certificate_that_is_not_verified_is_none(leaf: Leaf, tmp_path: Path) -> None:
    stranger = Authority().issue("alice@client.example")
    options: dict[str, Any] = {"request_cert": True, "reject_unauthorized": False}
    for context in (showing(stranger, tmp_path), None):
        with connected(leaf, context=context, ca=Authority().pem, **options) as client:
            assert "EXTERNAL" not in client.extensions
            assert client.command("AUTH EXTERNAL =").startswith("504 ")


def test_no_certificate_is_asked_for(leaf: Leaf, authority: Authority, tmp_path: Path) -> None:
    context = showing(authority.issue("alice@client.example"), tmp_path)
    with connected(leaf, context=context, ca=authority.pem) as client:
        assert "EXTERNAL" not in client.extensions
