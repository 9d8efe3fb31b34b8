"""The accept loop: a `socketserver.ThreadingTCPServer` that spawns a thread for each client.

What `socketserver` leaves open is decided here: a client above the limit is told so and costs no
thread; a machine out of descriptors or threads makes the loop wait, not spin; the loop ends by the
server's wake-up descriptor instead of by polling.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import select
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Any

from .connection import Connection, too_many_clients
from .text import printable
from .wire.sockets import UnixPath

if TYPE_CHECKING:
    from .host import Host
    from .options import Network

# The machine is out of something that ended connections give back.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_EXHAUSTED_SECONDS = 0.1

# The listening socket itself is no good any more: somebody shut it down or closed it.
_BROKEN = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK)


class Listener(socketserver.ThreadingTCPServer):
    """Accepts clients on one socket."""

    daemon_threads = True

    def __init__(
        self,
        host: Host,
        sock: socket.socket,
        *,
        secure: bool,
        use_proxy: bool | tuple[Network, ...],
        file: UnixPath | None = None,
    ) -> None:
        """`sock` is bound and listens. `secure`: TLS from the first octet on; `use_proxy`: who may
        send a PROXY header."""
        self.address_family = sock.family
        super().__init__(("", 0), socketserver.BaseRequestHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = sock
        # Another process on the same socket may take the client that poll() showed.
        sock.setblocking(False)
        self.secure = secure
        self._use_proxy = use_proxy
        self._file = file
        self._host = host
        self._exhausted = False
        self._full = False
        self.address: tuple[str, int] | str
        if file is not None:
            self.address = file.path
        elif sock.family == socket.AF_UNIX:
            self.address = str(sock.getsockname())
        else:
            name, port = sock.getsockname()[:2]
            self.address = (name, port)
        self.thread = threading.Thread(
            target=self.serve_forever, name=f"blocksmtp listener {self.address}", daemon=True
        )

    # --- the accept loop -------------------------------------------------------------------

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Accept clients until the server closes. Nothing is polled at intervals."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        poll.register(self._host.wake_up, select.POLLIN)
        while True:
            poll.poll()
            if self._host.wake_up.called or not self._accept():
                return

    def _accept(self) -> bool:
        """Accept one client, if there is one; False where there can be no other."""
        try:
            request, client_address = self.get_request()
        except OSError as error:
            # All but these are about a client that is gone already.
            if error.errno in _EXHAUSTED:
                self._wait_for_resources(error)
            elif error.errno in _BROKEN:
                self._host.failure(error, "listening")
                return False
            return True
        try:
            self.process_request(request, client_address)
        except Exception as error:  # noqa: BLE001 - one client must not end the loop
            self._host.failure(error, "accepting a client")
            request.close()
        return True

    def _wait_for_resources(self, error: Exception) -> None:
        """Wait a moment; an ended connection makes room. Told once for each shortage."""
        if not self._exhausted:
            self._exhausted = True
            self._host.failure(error, "accepting a client")
        self._host.wake_up.wait(_EXHAUSTED_SECONDS)

    # --- one client ------------------------------------------------------------------------

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for the client, or refuse it."""
        limits = self._host.limits
        if not limits.enter():
            self._refuse_for_lack_of_places(request)
            return
        self._full = False
        try:
            connection = Connection(
                self._host,
                request,
                client_address,
                secure=self.secure,
                use_proxy=self._use_proxy,
            )
        except BaseException:
            limits.leave()
            raise
        if not self._enter_address(connection):
            limits.leave()
            self._refuse(request)
            return
        self._host.began(connection)
        name = f"blocksmtp {connection.session.id}"
        try:
            self._host.threads.start(name, functools.partial(self._run, connection))
        except (RuntimeError, MemoryError) as error:
            self._leave(connection)
            self._refuse(request)
            self._wait_for_resources(error)
        else:
            self._exhausted = False

    def _enter_address(self, connection: Connection) -> bool:
        """Count the client to its address, unless a proxy is still to tell it."""
        if not connection.session.remote_address or connection.expects_header:
            return True
        return connection.enter_address()

    def _run(self, connection: Connection) -> None:
        """What a connection's thread does."""
        try:
            connection.run()
        finally:
            self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        connection.leave_address()
        self._host.limits.leave()
        self._host.ended(connection)

    def _refuse_for_lack_of_places(self, request: socket.socket) -> None:
        """Refuse a client above `max_clients`; logged once each time that the server is full."""
        if not self._full:
            self._full = True
            self._host.logger.warning("max_clients reached: clients are refused")
        self._refuse(request)

    def _refuse(self, request: socket.socket) -> None:
        """Say why, without waiting for anything; in TLS there is no way to, so just close."""
        with contextlib.closing(request), contextlib.suppress(OSError):
            if not self.secure:
                request.setblocking(False)
                enhanced = not self._host.options.hide_enhanced_status_codes
                request.send(too_many_clients(self._host).encode(enhanced=enhanced))
                request.shutdown(socket.SHUT_WR)
                # Unread octets would make the kernel send a reset, which can eat the reply.
                request.recv(65_536)

    # --- the end ---------------------------------------------------------------------------

    def server_close(self) -> None:
        """Stop listening: new clients are refused by the kernel from now on."""
        self.socket.close()
        if self._file is not None:
            try:
                self._file.remove()
            except OSError as error:
                # Its folder may be closed to a server that has given up its privileges.
                self._host.logger.warning("socket left behind: %s", printable(str(error)))
