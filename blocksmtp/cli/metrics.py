"""`--metrics`: figures for Prometheus over HTTP, of one process or of all workers together."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from ..addresses import shown_address
from .errors import CannotStart, reason_of
from .privileges import Identity
from .workers import hear_signals

if TYPE_CHECKING:
    from ..contrib.prometheus import Metrics

_logger = logging.getLogger("blocksmtp")


class _Handler(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: who asks, asks every few seconds."""


class _HTTPServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, place: tuple[str, int], handler: type[_Handler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        super().__init__(place, handler)

    def server_bind(self) -> None:
        """Without the lookup of its own name that the base class makes."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing of a client that has gone, or says nothing; the rest as all that we tell."""
        if not isinstance(sys.exc_info()[1], OSError):
            _logger.exception("--metrics failed")


class MetricsPage:
    """The page that Prometheus asks for."""

    def __init__(self, place: tuple[str, int], *, processes: bool) -> None:
        """Bind. `processes`: the figures are those of several, which keep them in files.

        Raises CannotStart.
        """
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        try:
            self._server = make_server(*place, _not_yet, _HTTPServer, _Handler)
        except OSError as error:
            where = shown_address(*place)
            raise CannotStart(f"--metrics {where}: {reason_of(error)}") from error
        self.port = self._server.server_port
        self._processes = processes

    def prepare(self, identity: Identity) -> Callable[[], Metrics]:
        """What makes the figures, in each process that keeps some, all of which are `identity`'s.

        Imports the library, while that is still allowed. Raises CannotStart without it.
        """
        if self._processes:
            # Its own folder may be closed to a server that has given up its privileges.
            self._folder = tempfile.TemporaryDirectory(
                prefix="blocksmtp-metrics-", ignore_cleanup_errors=True
            )
            identity.own(self._folder.name)
            # It is looked up once, when the library is imported.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = self._folder.name
        try:
            import prometheus_client
            from prometheus_client import multiprocess

            from ..contrib.prometheus import Metrics
        except ImportError:
            raise CannotStart("--metrics needs: pip install 'blocksmtp[metrics]'") from None
        registry = prometheus_client.CollectorRegistry()
        if self._processes:
            shown = prometheus_client.CollectorRegistry()
            multiprocess.MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
        else:
            shown = registry
        self._server.set_app(_at_metrics(prometheus_client.make_wsgi_app(shown)))
        return lambda: Metrics(registry)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the page from a thread."""
        thread = threading.Thread(target=self._server.serve_forever, name="blocksmtp metrics")
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()

    def work(self, ready: Callable[[], None]) -> int:
        """Show the page in a process of its own, until SIGTERM. See `Workers`."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        hear_signals()
        ready()
        self._server.serve_forever()
        return 0

    def forget(self, process_id: int) -> None:
        """A process has ended: what it had open is no more."""
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(process_id)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Give the port and the files back."""
        self._server.server_close()
        if self._folder is not None:
            self._folder.cleanup()


def _not_yet(environ: Any, start_response: Any) -> list[bytes]:
    start_response("503 Service Unavailable", [])
    return []


def _at_metrics(app: Any) -> Any:
    """Other paths than the one that is promised are not there."""

    def answer(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/metrics":
            return app(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"See /metrics\n"]

    return answer
