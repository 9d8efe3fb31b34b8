"""A raw SMTP client for tests: it sends what it is told, and reads whole replies.

with connect(server) as client:
    assert client.reply().code == 220
    assert client.command("EHLO client.example").lines[-1] == "SIZE"

Nothing blocks longer than TIMEOUT: a reply that does not come fails the test.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from blocksmtp import SMTPServer

TIMEOUT = 10.0  # seconds

Address = tuple[str, int] | str | os.PathLike[str]

_ANY = {"::": "127.0.0.1", "0.0.0.0": "127.0.0.1"}


class Reply(str):
    """A whole reply as it came, its lines joined by LF: "250-mx.example\\n250 SIZE"."""

    @property
    def code(self) -> int:
        """The reply code of the last line."""
        return int(self.splitlines()[-1][:3])

    @property
    def lines(self) -> list[str]:
        """The text of each line, without code and separator, but with an enhanced code."""
        return [line[4:] for line in self.splitlines()]


class Client:
    """One connection. Close it, or use it as a context manager."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(TIMEOUT)
        self.sock = sock
        self._buffer = b""

    # --- sending ---------------------------------------------------------------------------

    def send(self, octets: bytes | str) -> None:
        """Send `octets` as they are (text as UTF-8), no line end added."""
        self.sock.sendall(octets.encode() if isinstance(octets, str) else octets)

    def send_lines(self, *lines: bytes | str) -> None:
        """Send `lines` in one write, CRLF added to each."""
        octets = [line.encode() if isinstance(line, str) else line for line in lines]
        self.send(b"".join(line + b"\r\n" for line in octets))

    def command(self, line: bytes | str) -> Reply:
        """Send one line, return the reply to it."""
        self.send_lines(line)
        return self.reply()

    # --- receiving -------------------------------------------------------------------------

    def readline(self) -> bytes:
        """The next line, CRLF included. Raises ConnectionError when the connection ends first."""
        while b"\n" not in self._buffer:
            octets = self.sock.recv(65536)
            if not octets:
                raise ConnectionError(f"the server closed the connection after {self._buffer!r}")
            self._buffer += octets
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"

    def reply(self) -> Reply:
        """The next whole reply; fails on one that breaks the form of RFC 5321, section 4.2."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            line = self.readline()
            assert line.endswith(b"\r\n"), line
            text = line[:-2].decode()
            assert text[:3].isdigit(), line
            assert text[3:4] in ("-", " "), line
            assert not lines or text[:3] == lines[0][:3], (lines, line)
            lines.append(text)
        return Reply("\n".join(lines))

    def replies(self, count: int) -> list[Reply]:
        """The next `count` replies."""
        return [self.reply() for _ in range(count)]

    def rest(self) -> bytes:
        """Everything up to the end of the connection, which the server must bring about."""
        received, self._buffer = [self._buffer], b""
        # A reset is an end, too: octets of ours may have arrived after the server closed.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while octets := self.sock.recv(65536):
                received.append(octets)
        return b"".join(received)

    # --- what many tests do ----------------------------------------------------------------

    def hello(self, command: str = "EHLO client.example") -> Reply:
        """Read the greeting, say hello; returns the reply to it."""
        greeting = self.reply()
        assert greeting.code == 220, greeting
        return self.expect(250, command)

    def expect(self, code: int, line: bytes | str) -> Reply:
        """As `command`; fails where the reply has another code."""
        reply = self.command(line)
        assert reply.code == code, f"{line!r}: {reply}"
        return reply

    def envelope(self, sender: str = "a@client.example", *recipients: str) -> None:
        """MAIL and RCPT, each accepted; one recipient of our own without any."""
        self.expect(250, f"MAIL FROM:<{sender}>")
        for recipient in recipients or ("b@server.example",):
            self.expect(250, f"RCPT TO:<{recipient}>")

    def message(self, octets: bytes = b"Subject: test\r\n\r\ntext\r\n") -> Reply:
        """DATA and a message that needs no dot-stuffing and ends in CRLF; the reply to it."""
        self.expect(354, "DATA")
        self.send(octets + b".\r\n")
        return self.reply()

    def start_tls(
        self, context: ssl.SSLContext | None = None, name: str | None = None
    ) -> ssl.SSLSocket:
        """Do the handshake, without a word before it; `name` is the host name asked for."""
        assert not self._buffer, self._buffer
        wrapped = (context or trusting()).wrap_socket(self.sock, server_hostname=name)
        self.sock = wrapped
        return wrapped

    def upgrade(
        self, context: ssl.SSLContext | None = None, name: str | None = None
    ) -> ssl.SSLSocket:
        """STARTTLS, and the handshake after it."""
        self.expect(220, "STARTTLS")
        return self.start_tls(context, name)

    # --- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connection without a word."""
        self.sock.close()

    def reset(self) -> None:
        """Break the connection: the server gets a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def trusting() -> ssl.SSLContext:
    """A client's context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(
    target: SMTPServer | Address,
    *,
    tls: ssl.SSLContext | None = None,
    name: str | None = None,
    source: str | None = None,
) -> Client:
    """A connection to a server's first address, or to an address: (host, port) or a path.

    `tls` starts with a handshake, asking for the host name `name`. `source` is the address to
    connect from (any of 127.0.0.0/8 will do).
    """
    address = target.address if isinstance(target, SMTPServer) else target
    assert address is not None, "the server does not listen"
    if isinstance(address, tuple):
        host, port = address
        sock = socket.create_connection(
            (_ANY.get(host, host), port), TIMEOUT, (source, 0) if source else None
        )
    else:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(TIMEOUT)
        try:
            sock.connect(os.fspath(address))
        except BaseException:
            sock.close()
            raise
    client = Client(sock)
    if tls is not None:
        try:
            client.start_tls(tls, name)
        except BaseException:
            client.close()
            raise
    return client


@contextlib.contextmanager
def serving(**options: Any) -> Iterator[SMTPServer]:
    """A server on a free port of 127.0.0.1, which needs no AUTH and looks nothing up.

    Without STARTTLS, for which it would have to make a certificate; `disabled_commands=()` has it.
    """
    defaults: dict[str, Any] = {
        "name": "mx.example",
        "auth_optional": True,
        "disable_reverse_lookup": True,
        "disabled_commands": ("STARTTLS",),
    }
    with SMTPServer(**{**defaults, **options}) as server:
        yield server.listen(0, "127.0.0.1")


def wait_until_idle(server: SMTPServer) -> None:
    """Wait until the server has no connection left, and every limit counts none."""
    host = server._host
    with host.changed:
        assert host.changed.wait_for(lambda: not host.connections, TIMEOUT)
