"""What a server's listeners and connections share: its options, and what all of them count on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from .events import Events
from .limits import ClientLimits
from .logs import ServerLogger, SessionLogger
from .resolver import ReverseResolver
from .tls_state import TLSState
from .wire.transport import WakeUp

if TYPE_CHECKING:
    from .connection import Connection
    from .options import Options
    from .protocol.application import Callbacks


class Host:
    """One server's insides."""

    def __init__(self, options: Options, callbacks: Callbacks) -> None:
        self.options = options
        self.callbacks = callbacks
        self.logger = ServerLogger(options.logger)
        self.limits = ClientLimits(options.max_clients, options.max_clients_per_address)
        self.resolver = options.resolver or ReverseResolver()
        self.tls = TLSState(options)
        self.events = Events(self._listener_failed)
        # Told of every change below. An RLock inside: a signal handler may call what it interrupts.
        self.changed = threading.Condition()
        self.connections: dict[Connection, threading.Thread] = {}
        self._wake_up: WakeUp | None = None

    @property
    def wake_up(self) -> WakeUp:
        """Tells all threads that the server is closing; made when the first is about to start."""
        with self.changed:
            if self._wake_up is None:
                self._wake_up = WakeUp()
            return self._wake_up

    def began(self, connection: Connection, thread: threading.Thread) -> None:
        """A connection's thread is about to start."""
        with self.changed:
            self.connections[connection] = thread

    def ended(self, connection: Connection) -> None:
        """A connection's thread is about to end, or did not start."""
        with self.changed:
            del self.connections[connection]
            self.changed.notify_all()

    def emit(self, event: str, *arguments: Any) -> None:
        """Call the listeners of `event`."""
        self.events.emit(event, *arguments)

    def defect(self, error: BaseException, where: str, logger: SessionLogger) -> None:
        """The application failed in the callback `where`."""
        logger.error("%s failed", where, exc_info=error)
        self.emit("error", error)

    def failure(self, error: Exception, where: str) -> None:
        """The server itself failed."""
        self.logger.error("%s failed", where, exc_info=error)
        self.emit("error", error)

    def _listener_failed(self, event: str, error: Exception) -> None:
        self.logger.error("a listener of %r failed", event, exc_info=error)
