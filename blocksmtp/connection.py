"""One connection's life, from its first octet to `on_close`.

A connection thread calls `Connection.run()`. Everything that ends a connection early arrives there
as an exception; `run` turns it into the last reply, if there is to be one, and a line in the log.
"""

from __future__ import annotations

import functools
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from . import resolver
from .addresses import is_hostname, is_trusted, normalise_address
from .dialogue import Dialogue, MessageWatch
from .errors import (
    ClientGone,
    ClientTooSlow,
    HandshakeFailed,
    ProxyHeaderBroken,
    ServerClosing,
    SMTPError,
    forget_frames,
)
from .logs import SessionLogger
from .protocol.application import Application, Defect
from .protocol.replies import Next, Reply, closing
from .protocol.security import Security
from .session import ConnectionInfo, MessageInfo, SMTPEnvelope, SMTPSession
from .text import printable
from .wire import proxy_protocol
from .wire.transport import PlainTransport

if TYPE_CHECKING:
    from .host import Host
    from .options import Network, Options
    from .protocol.machine import Machine

# One for each octet: an id of 16 has 80 bits of chance.
_ID_CHARACTERS = b"abcdefghijklmnopqrstuvwxyz234567" * 8

# Before TLS there is nobody to hear it, and inside a broken one nobody may.
_SILENT = (ClientGone, HandshakeFailed, ProxyHeaderBroken)


def too_many_clients(host: Host) -> Reply:
    """What a client gets who is one too many."""
    return closing(f"{host.options.name} Too many connections, try again later", "4.7.0")


def new_id() -> str:
    """One for a session that no other has."""
    return os.urandom(16).translate(_ID_CHARACTERS).decode("ascii")


def call_on_close(application: Application, session: SMTPSession) -> None:
    """Tell the application that its client has gone. Never raises."""
    try:
        application.call("on_close", session)
    except Defect:
        pass  # It has been reported.
    except SMTPError as error:  # There is nothing left to refuse.
        application.report(error, "on_close")


def connected(host: Host, session: SMTPSession, logger: SessionLogger) -> None:
    """Tell the listeners of "connect" who the client is."""
    host.emit(
        "connect",
        ConnectionInfo(
            id=session.id,
            local_address=session.local_address,
            local_port=session.local_port,
            remote_address=session.remote_address,
            remote_port=session.remote_port,
            host_name_appears_as=session.host_name_appears_as,
            client_hostname=session.client_hostname,
        ),
        logger=logger,
    )


class MessageEvents(MessageWatch):
    """Tells the listeners of "message" what became of a session's messages."""

    def __init__(self, host: Host, session_id: str, logger: SessionLogger) -> None:
        self._host = host
        self._session_id = session_id
        self._logger = logger

    @property
    def wanted(self) -> bool:
        """See MessageWatch."""
        return self._host.events.has("message")

    def tell(self, envelope: SMTPEnvelope, codes: tuple[int, ...], *, written: bool) -> None:
        """See MessageWatch."""
        accepted = any(code < 400 for code in codes)
        info = MessageInfo(self._session_id, envelope, accepted, codes, written)
        self._host.emit("message", info, logger=self._logger)


class Connection:
    """A client's connection."""

    def __init__(
        self,
        host: Host,
        sock: socket.socket,
        remote: Any,
        *,
        secure: bool,
        use_proxy: bool | tuple[Network, ...],
    ) -> None:
        """`remote` is the client's address as accept() tells it; `secure`: TLS from the first octet
        on; `use_proxy`: who may send a PROXY header."""
        self._host = host
        self._options = host.options
        self._sock = sock
        self._implicit_tls = secure
        self._use_proxy = use_proxy
        self._limited_address: str | None = None
        self.thread: threading.Thread | None = None
        """The thread that serves it, once it does."""
        # Whether a reply would be understood: not before the dialogue, nor during a handshake.
        self._speaking = False
        self.session = self._new_session(remote)
        # Neither this nor what follows refers back to the connection, so that all of it is freed as
        # soon as it has ended, not at the collector's leisure: there may be a lot of it.
        self._logger = logger = SessionLogger(self._options.logger, self.session.id)
        self._plain = PlainTransport(sock)
        self._tls_connection: object = None
        self._security: Security | None = None
        watch = MessageEvents(host, self.session.id, logger)
        self._dialogue = Dialogue(self._plain, self._options, logger, watch)
        self._application = Application(
            host.callbacks,
            self.session,
            lambda error, where: host.failure(error, where, logger),
        )
        self._machine: Machine | None = None

    def _new_session(self, remote: Any) -> SMTPSession:
        session = SMTPSession(
            id=new_id(),
            server_name=self._options.name,
            lmtp=self._options.lmtp,
        )
        if isinstance(remote, tuple) or self._sock.family != socket.AF_UNIX:
            session.local_address, session.local_port = self._sock.getsockname()[:2]
            session.remote_address, session.remote_port = remote[:2]
            if ":" in session.remote_address:
                session.local_address = normalise_address(session.local_address)
                session.remote_address = normalise_address(session.remote_address)
        return session

    @property
    def expects_header(self) -> bool:
        """Whether the client is a proxy that tells first who its client is."""
        return is_trusted(self.session.remote_address, self._use_proxy)

    # --- the places of an address ----------------------------------------------------------

    def enter_address(self) -> bool:
        """Take one of the places that the client's address has; False where none is left."""
        address = self.session.remote_address
        if not self._host.limits.enter_address(address):
            self._logger.info("too many connections from %s", address)
            return False
        self._limited_address = address
        return True

    def leave_address(self) -> None:
        """Give the place back, if one was taken."""
        address, self._limited_address = self._limited_address, None
        if address is not None:
            self._host.limits.leave_address(address)

    # --- called from other threads ---------------------------------------------------------

    def interrupt(self) -> None:
        """The server is closing: answer 421 as soon as the client is idle."""
        self._dialogue.transport.interrupt()

    def abort(self) -> None:
        """The server is closing, and has waited long enough: break the connection."""
        self._dialogue.transport.abort()

    # --- the connection's own thread -------------------------------------------------------

    def run(self) -> None:
        """Serve the client until the connection ends, whatever ends it. Never raises."""
        self.thread = threading.current_thread()
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - a defect of ours; the others go on
            self._host.failure(error, "serving a client", self._logger)

    def _run(self) -> None:
        linger = True
        try:
            self._serve()
        except ServerClosing:
            if self._host.says_goodbye:
                self._say_goodbye("Server shutting down", "4.3.2")
        except _SILENT as error:
            linger = not isinstance(error, ClientGone)
            forget_frames(error)  # This may be what a body keeps.
            self._log_end(error)
        except ClientTooSlow as error:
            forget_frames(error)
            self._logger.info("timeout: %s", error)
            self._say_goodbye("Error: timeout exceeded", "4.4.2")
        finally:
            self._end(linger=linger)

    def _say_goodbye(self, text: str, enhanced: str) -> None:
        if self._speaking:
            self._dialogue.say_goodbye(closing(f"{self._options.name} {text}", enhanced))

    def _log_end(self, error: ConnectionError) -> None:
        if isinstance(error, HandshakeFailed):
            self._logger.info("TLS handshake failed: %s", printable(str(error)))
        elif isinstance(error, ProxyHeaderBroken):
            self._logger.warning("PROXY header refused: %s", printable(str(error)))
        else:
            self._logger.debug("connection lost: %s", printable(str(error)))

    def _end(self, *, linger: bool) -> None:
        self._dialogue.transport.close(linger=linger)
        if self._machine is None:
            return
        self._machine.end()
        try:
            self._logger.info("connection closed")
        finally:
            call_on_close(self._application, self.session)

    def _serve(self) -> None:
        if not self._identify():
            return
        if self._implicit_tls:
            self._start_tls()
        self._find_hostname()
        self._logger.info(
            "connection from %s port %d",
            self.session.remote_address or "a Unix socket",
            self.session.remote_port,
        )
        announce = functools.partial(connected, self._host, self.session, self._logger)
        machine = self._host.new_machine(self.session, self._application, announce)
        self._machine = machine
        if self._security is not None:
            machine.security = self._security
        self._speaking = True
        greeting = machine.open()
        if greeting.then is Next.COMMAND:
            if self._implicit_tls and not machine.tls_approved(self._tls_connection):
                return
            if self._talks_too_soon():
                self._logger.info("client talked before the greeting")
                greeting = closing(f"{self._options.name} You talk too soon", "4.7.0")
        self._dialogue.write(greeting)
        if greeting.then is Next.COMMAND:
            self._dialogue.converse(machine, self._upgrade)
        self._dialogue.flush()

    def _identify(self) -> bool:
        """Learn the client's address, and whether there is a place for it."""
        session = self.session
        if self.expects_header:
            header = proxy_protocol.read_header(_ProxySource(self._plain, self._options))
            if header is None:
                return False
            session.proxy = header.info
            if header.source is not None and header.destination is not None:
                session.remote_address, session.remote_port = header.source
                session.local_address, session.local_port = header.destination
        if not session.remote_address or self._limited_address or self.enter_address():
            return True
        if not self._implicit_tls:
            self._dialogue.write(too_many_clients(self._host))
            self._dialogue.flush()
        return False

    def _find_hostname(self) -> None:
        session = self.session
        if session.remote_address and self._options.disable_reverse_lookup:
            session.client_hostname = f"[{session.remote_address}]"
            return

        def report(error: Exception) -> None:
            self._logger.warning("resolver failed: %s", printable(repr(error)))

        started = time.monotonic()
        ip, names = session.remote_address, self._host.resolver
        session.client_hostname = resolver.client_hostname(ip, names, report)
        session.client_hostname_verified = resolver.is_verified(
            ip, session.client_hostname, names, started, report
        )

    def _talks_too_soon(self) -> bool:
        """Hold the greeting back; whether the client said something meanwhile."""
        delay = self._options.greeting_delay
        return delay > 0 and self._dialogue.transport.wait_readable(delay, self._host.wake_up)

    # --- TLS -------------------------------------------------------------------------------

    def _upgrade(self) -> bool:
        """STARTTLS was answered; whether the dialogue goes on in TLS."""
        self._start_tls()
        return self._machine is not None and self._machine.tls_started(
            self._tls_connection, self._security
        )

    def _start_tls(self) -> None:
        """Do the handshake, and learn from it."""
        # Imported where it is needed: a server in clear does without OpenSSL.
        from .wire.tls import TLSTransport
        from .wire.tls_security import TLSSecurity, cipher_info

        self._speaking = False
        connection = self._host.tls.contexts().connection(self._sock)
        self._tls_connection = connection
        transport = TLSTransport(connection, self._sock, self._host.wake_up)
        self._dialogue.switch(transport)
        # No decrypted octet comes meanwhile, so that the time without progress bounds it, too.
        transport.handshake(min(self._options.socket_timeout, self._options.command_timeout))
        self._speaking = self._machine is not None
        session = self.session
        session.secure = True
        self._security = TLSSecurity(connection)
        session.tls_options = cipher_info(connection)
        # Whatever the client put there: only a host name is passed on.
        servername = (connection.get_servername() or b"").decode("ascii", "replace")
        session.servername = servername if is_hostname(servername) else None


class _ProxySource:
    """Hands the octets of a PROXY header to its reader, and not one more."""

    def __init__(self, transport: PlainTransport, options: Options) -> None:
        self._transport = transport
        self._idle_seconds = options.socket_timeout
        self._deadline = time.monotonic() + options.command_timeout

    def peek(self, size: int) -> bytes:
        """Octets that stay to be taken; b"" at the end of the stream."""
        return self._transport.peek(size, self._seconds())

    def take(self, size: int) -> bytes:
        """Octets, b"" at the end of the stream."""
        return self._transport.receive(size, self._seconds(), interruptible=True)

    def _seconds(self) -> float:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise ProxyHeaderBroken("not complete in time")
        return min(self._idle_seconds, remaining)
