"""A connection's socket with deadlines, and with a way to stop waiting when the server closes.

Two arrangements serve the two kinds of connection. In clear (here) the socket blocks, and the
kernel keeps the time (SO_RCVTIMEO): one system call for each read, nothing to poll; to end a wait,
reading is shut down, which leaves writing intact for the last reply. TLS (`tls.py`) would take that
for an attack, so it polls, the server's wake-up descriptor among the rest.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from typing import Protocol

from ..errors import ClientGone, ClientTooSlow, ServerClosing
from .send_now import send_now

# How long, and for how much, a connection is still read before it is closed after the last reply.
# Without that the kernel answers unread octets with a reset, which can eat the reply.
_LINGER_SECONDS = 0.5
_LINGER_OCTETS = 262_144
_LINGER_READ = 16_384

# poll() takes no more milliseconds than a C int holds: 24 days.
_LONGEST_POLL = 2**31 - 1


class WakeUp:
    """Tells every thread that polls it, once and for all, that the server is closing."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._lock = threading.Lock()
        self._called = False

    def fileno(self) -> int:
        """The descriptor that becomes readable."""
        return self._reader

    @property
    def called(self) -> bool:
        """Whether the server is closing."""
        return self._called

    def call(self) -> None:
        """Wake all. The octet is never read, so that the descriptor stays readable."""
        with self._lock:
            if not self._called:
                self._called = True
                os.write(self._writer, b"\0")

    def wait(self, seconds: float) -> bool:
        """Wait for the call for so long; whether it came."""
        if self._called:
            return True
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        return bool(poll.poll(milliseconds(seconds)))

    def close(self) -> None:
        """Give the descriptors back, once nobody polls any more."""
        os.close(self._reader)
        os.close(self._writer)


class Transport(Protocol):
    """What the reader and the connection need, in clear or in TLS."""

    def receive(self, size: int, seconds: float, *, interruptible: bool) -> bytes:
        """At most `size` octets, at least one; b"" at the end of the stream.

        Raises ClientTooSlow when none came for so many seconds, ClientGone when the connection
        broke, and ServerClosing when the server closes during an interruptible wait.
        """

    def send(self, octets: bytes, seconds: float, total_seconds: float) -> None:
        """Send all of `octets`.

        Raises ClientTooSlow when for so many seconds the client took none of them, or not all in
        `total_seconds`, and ClientGone when the connection broke.
        """

    def wait_readable(self, seconds: float, wake_up: WakeUp) -> bool:
        """Whether the client sends something, or ends, within so many seconds.

        Raises ServerClosing when the server closes meanwhile.
        """

    def interrupt(self) -> None:
        """End an interruptible wait, now or later. Called from another thread."""

    def abort(self) -> None:
        """Break the connection: every operation fails from now on. Called from another thread."""

    def close(self, *, linger: bool) -> None:
        """End the connection; `linger` makes sure that the last reply arrives. Never raises."""


class PlainTransport:
    """A connection in clear, on a blocking socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setblocking(True)
        # A reply is one write, but in TLS others go before it: it must not wait for their
        # acknowledgement, which clients like to delay.
        with contextlib.suppress(OSError):  # A Unix socket knows no delay; a client may be gone.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The limits that the kernel was told last.
        self._receive_seconds = self._send_seconds = 0.0
        self._lock = threading.Lock()
        self._waiting = False
        self._interrupted = False

    def receive(self, size: int, seconds: float, *, interruptible: bool) -> bytes:
        """See Transport."""
        if not interruptible:
            return self._receive(size, seconds)
        return self._receive_interruptibly(size, seconds)

    def peek(self, size: int, seconds: float) -> bytes:
        """As `receive`, interruptible, but the octets stay to be received again."""
        return self._receive_interruptibly(size, seconds, socket.MSG_PEEK)

    def _receive_interruptibly(self, size: int, seconds: float, flags: int = 0) -> bytes:
        with self._lock:
            if self._interrupted:
                raise ServerClosing("the server is closing")
            self._waiting = True
        try:
            octets = self._receive(size, seconds, flags)
        finally:
            with self._lock:
                self._waiting = False
        # What arrived at the same moment gets the same answer, and an end may be of our making.
        if self._interrupted:
            raise ServerClosing("the server is closing")
        return octets

    def _receive(self, size: int, seconds: float, flags: int = 0) -> bytes:
        try:
            if self._receive_seconds != seconds:
                _limit(self.sock, socket.SO_RCVTIMEO, seconds)
                self._receive_seconds = seconds
            return self.sock.recv(size, flags)
        except BlockingIOError:
            raise ClientTooSlow(f"nothing came for {seconds:.3g} seconds") from None
        except OSError as error:
            raise ClientGone(str(error)) from error

    def send(self, octets: bytes, seconds: float, total_seconds: float) -> None:
        """See Transport."""
        sent = send_now(self.sock, octets)
        if sent == len(octets):
            return
        deadline = time.monotonic() + total_seconds
        try:
            while sent < len(octets):
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise BlockingIOError
                limit = min(seconds, remaining)
                if self._send_seconds != limit:
                    _limit(self.sock, socket.SO_SNDTIMEO, limit)
                    self._send_seconds = limit
                sent += self.sock.send(memoryview(octets)[sent:])
        except BlockingIOError:
            raise ClientTooSlow("a reply was not taken in time") from None
        except OSError as error:
            raise ClientGone(str(error)) from error

    def wait_readable(self, seconds: float, wake_up: WakeUp) -> bool:
        """See Transport."""
        return wait_readable(self.sock, seconds, wake_up)

    def interrupt(self) -> None:
        """See Transport."""
        with self._lock:
            self._interrupted = True
            if self._waiting:
                with contextlib.suppress(OSError):
                    self.sock.shutdown(socket.SHUT_RD)

    def abort(self) -> None:
        """See Transport."""
        abort(self.sock)

    def close(self, *, linger: bool) -> None:
        """See Transport."""
        close(self.sock, linger=linger)


def _limit(sock: socket.socket, option: int, seconds: float) -> None:
    """Let the kernel give up a blocking call after so long."""
    # 0 would mean: for ever.
    microseconds = max(1, int(seconds * 1_000_000))
    value = struct.pack("@ll", *divmod(microseconds, 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, option, value)


def milliseconds(seconds: float) -> float:
    """`seconds` as poll() takes them."""
    return min(seconds * 1000, _LONGEST_POLL)


def wait_readable(sock: socket.socket, seconds: float, wake_up: WakeUp) -> bool:
    """Whether `sock` becomes readable; raises ServerClosing when the server closes first."""
    poll = select.poll()
    poll.register(wake_up, select.POLLIN)
    poll.register(sock, select.POLLIN)
    ready = [descriptor for descriptor, _ in poll.poll(milliseconds(seconds))]
    if wake_up.fileno() in ready:
        raise ServerClosing("the server is closing")
    return bool(ready)


def abort(sock: socket.socket) -> None:
    """Break the connection under whoever uses it."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def close(sock: socket.socket, *, linger: bool) -> None:
    """Close `sock`, after reading on for a moment if `linger`."""
    with contextlib.closing(sock), contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        if linger:
            _drain(sock)


def _drain(sock: socket.socket) -> None:
    """Read until the client has closed as well, within bounds."""
    if sock.gettimeout() is not None:
        sock.setblocking(True)
    deadline = time.monotonic() + _LINGER_SECONDS
    remaining = _LINGER_SECONDS
    octets = 0
    while octets < _LINGER_OCTETS and remaining > 0:
        _limit(sock, socket.SO_RCVTIMEO, remaining)
        count = len(sock.recv(_LINGER_READ))
        if not count:
            return
        octets += count
        remaining = deadline - time.monotonic()
