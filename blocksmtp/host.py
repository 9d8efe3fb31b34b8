"""What a server's listeners and connections share: its options, and what all of them count on."""

from __future__ import annotations

import contextlib
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .events import Events
from .limits import ClientLimits
from .logs import ServerLogger, SessionLogger
from .protocol.machine import Machine
from .resolver import ReverseResolver
from .scram import ScramDecoys
from .threads import ConnectionThreads
from .tls_state import TLSState
from .wire.transport import WakeUp

if TYPE_CHECKING:
    from .connection import Connection
    from .options import Options
    from .protocol.application import Application, Callbacks
    from .session import SMTPSession

Logger = ServerLogger | SessionLogger


class Host:
    """One server's insides."""

    says_goodbye = True
    """Whether idle clients are told that the server closes (RFC 5321, section 3.8)."""

    def __init__(self, options: Options, callbacks: Callbacks) -> None:
        self.options = options
        self.callbacks = callbacks
        self.logger = ServerLogger(options.logger)
        self.limits = ClientLimits(options.max_clients, options.max_clients_per_address)
        self.resolver = options.resolver or ReverseResolver()
        self.tls = TLSState(options)
        self.decoys = ScramDecoys()
        self.events = Events()
        # An RLock: a signal handler may call what it interrupts.
        self.lock = threading.RLock()
        # Told of every change below.
        self.changed = threading.Condition(self.lock)
        self.connections: set[Connection] = set()
        self.threads = ConnectionThreads()
        self._wake_up: WakeUp | None = None
        self._process: int | None = None

    def open(self) -> None:
        """Have what the threads need, before the first starts. Raises OSError."""
        with self.changed:
            if self._wake_up is None:
                self._wake_up = WakeUp()
                self._process = os.getpid()

    @property
    def is_of_another_process(self) -> bool:
        """Whether this is a copy, in a process that was forked off since `open`."""
        return self._process not in (None, os.getpid())

    @property
    def wake_up(self) -> WakeUp:
        """Tells all threads that the server is closing. Raises RuntimeError before `open`."""
        if self._wake_up is None:
            raise RuntimeError("the server has never listened")
        return self._wake_up

    def call(self) -> None:
        """Tell all threads, if there are any, that the server is closing."""
        if self._wake_up is not None:
            self._wake_up.call()

    def close(self) -> None:
        """Give back what `open` took, once no thread is left."""
        wake_up, self._wake_up = self._wake_up, None
        if wake_up is not None:
            wake_up.close()

    def new_machine(
        self, session: SMTPSession, application: Application, connected: Callable[[], None]
    ) -> Machine:
        """The protocol machine for a connection; `connected` as there."""
        return Machine(session, self.options, application, connected, self.decoys)

    def began(self, connection: Connection) -> None:
        """A connection's thread is about to start."""
        with self.changed:
            self.connections.add(connection)

    def ended(self, connection: Connection) -> None:
        """A connection's thread is about to end, or did not start."""
        with self.changed:
            self.connections.remove(connection)
            self.changed.notify_all()

    def emit(self, event: str, *arguments: Any, logger: Logger | None = None) -> None:
        """Call the listeners of `event`; `logger` is told of those that fail."""
        for error in self.events.emit(event, *arguments):
            (logger or self.logger).failure("a listener of %s failed", event, error)

    def failure(self, error: BaseException, where: str, logger: Logger | None = None) -> None:
        """The application failed in the callback `where`, or the server itself in what it did."""
        logger = logger or self.logger
        # The application's logging may fail, and its listeners are to be told all the same.
        with _printed():
            logger.failure("%s failed", where, error)
        with _printed():
            self.emit("error", error, logger=logger)


@contextlib.contextmanager
def _printed() -> Iterator[None]:
    """Print what fails where nothing is left to tell of it, and go on."""
    try:
        yield
    except Exception:  # noqa: BLE001 - whatever it is, the server goes on
        traceback.print_exc()
