"""A client that costs next to nothing: octets made beforehand, replies looked at and no more."""

from __future__ import annotations

import socket
import ssl

from ..errors import MeasurementError

HOST = "127.0.0.1"
# Longer than anything takes that works, in seconds.
_TIMEOUT = 60.0

ENVELOPE = (
    b"MAIL FROM:<sender@client.example>\r\n",
    b"RCPT TO:<recipient@mx.example>\r\n",
    b"DATA\r\n",
)


def tls_context() -> ssl.SSLContext:
    """TLS 1.3; the certificate is not verified, which would only cost the load."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def connect(port: int) -> socket.socket:
    """A connection to the server. Raises OSError."""
    sock = socket.create_connection((HOST, port), _TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Session:
    """A dialogue over a socket. Each method raises OSError, and MeasurementError for a refusal."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def read(self, replies: int = 1) -> None:
        """Read so many replies, and make sure that none is a refusal."""
        received = b""
        while True:
            octets = self.sock.recv(65536)
            if not octets:
                raise MeasurementError(f"the server closed the connection after {received[-80:]!r}")
            received += octets
            if not received.endswith(b"\n"):
                continue
            lines = received.splitlines()
            last = [line for line in lines if line[3:4] != b"-"]
            for line in last:
                if line[:1] not in (b"2", b"3"):
                    raise MeasurementError(f"the server said {line.decode('latin-1')}")
            if len(last) == replies:
                return
            if len(last) > replies:
                raise MeasurementError(f"{len(last)} replies instead of {replies}")

    def command(self, line: bytes) -> None:
        """Send a command and read its reply."""
        self.sock.sendall(line)
        self.read()

    def greet(self) -> None:
        """Read the greeting, and say EHLO."""
        self.read()
        self.command(b"EHLO client.example\r\n")

    def deliver(self, body: bytes) -> None:
        """Send a message; `body` is as it is on the wire, with the end mark."""
        for line in ENVELOPE:
            self.command(line)
        self.sock.sendall(body)
        self.read()

    def quit(self) -> None:
        """Say QUIT, wait until the server has closed, and close."""
        self.command(b"QUIT\r\n")
        self.sock.close()


def open_session(port: int, context: ssl.SSLContext | None = None) -> Session:
    """A session that has said EHLO; with a context, in TLS from the first octet on."""
    sock = connect(port)
    try:
        session = Session(sock if context is None else context.wrap_socket(sock))
        session.greet()
    except BaseException:
        sock.close()
        raise
    return session
