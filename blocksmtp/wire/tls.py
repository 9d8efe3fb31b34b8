"""The TLS transport: pyOpenSSL on a non-blocking socket, with one loop for every wait.

Any TLS operation may need to read or to write, so each raises WantReadError or WantWriteError until
it is done; `_until_done` polls for what is wanted, against a monotonic deadline.
"""

from __future__ import annotations

import contextlib
import functools
import select
import socket
import time
from collections.abc import Callable
from typing import TypeVar

from OpenSSL import SSL

from ..errors import ClientGone, ClientTooSlow, HandshakeFailed, ServerClosing
from .transport import WakeUp, abort, close, milliseconds, wait_readable

# OpenSSL hands out one record of 16 KiB at the most; more room would only be allocated in vain.
_RECORD = 16_384

_Result = TypeVar("_Result")


class TLSTransport:
    """A connection in TLS. `connection` is pyOpenSSL's; the handshake is still to be done."""

    def __init__(self, connection: SSL.Connection, sock: socket.socket, wake_up: WakeUp) -> None:
        self.connection = connection
        self._sock = sock
        sock.setblocking(False)
        self._wake_up = wake_up
        # After such an error OpenSSL must not be called any more, not even to shut down.
        self._broken = False

    def handshake(self, seconds: float) -> None:
        """Do the handshake.

        Raises HandshakeFailed when it fails or takes longer, ServerClosing when the server closes.
        """
        try:
            self._until_done(self.connection.do_handshake, seconds, interruptible=True)
        except ClientTooSlow:
            raise HandshakeFailed(f"not done in {seconds:.3g} seconds") from None
        except ClientGone as error:
            raise HandshakeFailed(str(error)) from error

    def receive(self, size: int, seconds: float, *, interruptible: bool) -> bytes:
        """See Transport."""
        if interruptible and self._wake_up.called:
            raise ServerClosing("the server is closing")
        try:
            return self._until_done(
                lambda: self.connection.recv(min(size, _RECORD)),
                seconds,
                interruptible=interruptible,
            )
        except _EndOfStream:
            return b""

    def send(self, octets: bytes, seconds: float, total_seconds: float) -> None:
        """See Transport."""
        deadline = time.monotonic() + total_seconds
        view = memoryview(octets)
        while view:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise ClientTooSlow(f"a reply was not taken in {total_seconds:.3g} seconds")
            # OpenSSL wants the same octets again after WantWriteError: one view for the loop.
            send = functools.partial(self.connection.send, view)
            try:
                sent = self._until_done(send, min(seconds, remaining), interruptible=False)
            except _EndOfStream:
                raise ClientGone("the client closed the connection") from None
            view = view[sent:]

    def _until_done(
        self, operation: Callable[[], _Result], seconds: float, *, interruptible: bool
    ) -> _Result:
        """The result of `operation`, polled for as long as OpenSSL wants the socket.

        Raises ClientTooSlow after so many seconds, ClientGone or _EndOfStream when the connection
        is over, ServerClosing when the server closes during an interruptible wait.
        """
        deadline: float | None = None
        while True:
            try:
                return operation()
            except SSL.WantReadError:
                wanted = select.POLLIN
            except SSL.WantWriteError:
                wanted = select.POLLOUT
            except SSL.ZeroReturnError:
                raise _EndOfStream from None
            except SSL.SysCallError as error:
                self._broken = True
                if error.args[0] == -1:
                    raise _EndOfStream from None
                raise ClientGone(str(error.args[-1])) from error
            except SSL.Error as error:
                self._broken = True
                raise ClientGone(_reason(error)) from error
            now = time.monotonic()
            if deadline is None:
                deadline = now + seconds
            if now >= deadline or not self._poll(wanted, deadline - now, interruptible):
                raise ClientTooSlow(f"no progress in {seconds:.3g} seconds")

    def _poll(self, wanted: int, seconds: float, interruptible: bool) -> bool:
        poll = select.poll()
        poll.register(self._sock, wanted)
        if interruptible:
            poll.register(self._wake_up, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(milliseconds(seconds))]
        if self._wake_up.fileno() in ready:
            raise ServerClosing("the server is closing")
        return bool(ready)

    def wait_readable(self, seconds: float, wake_up: WakeUp) -> bool:
        """See Transport."""
        return bool(self.connection.pending()) or wait_readable(self._sock, seconds, wake_up)

    def interrupt(self) -> None:
        """See Transport: every wait polls the server's wake-up descriptor itself."""

    def abort(self) -> None:
        """See Transport."""
        abort(self._sock)

    def close(self, *, linger: bool) -> None:
        """See Transport."""
        if not self._broken:
            # One try to say good-bye (RFC 8446, section 6.1): who does not read it, need not.
            with contextlib.suppress(SSL.Error):
                self.connection.shutdown()
        close(self._sock, linger=linger)


class _EndOfStream(ClientGone):
    """The client ended the connection, with or without TLS's good-bye."""

    def __init__(self) -> None:
        super().__init__("the client closed the connection")


def _reason(error: SSL.Error) -> str:
    """What OpenSSL says of an error: "http request", say."""
    reasons = [str(entry[-1]) for entry in error.args[0]] if error.args else []
    return ", ".join(reasons) or "TLS error"
