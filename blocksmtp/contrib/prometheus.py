"""Figures for Prometheus, through its own client library: `blocksmtp[metrics]`.

from prometheus_client import start_http_server
from blocksmtp.contrib.prometheus import Metrics

Metrics().observe(server)
start_http_server(9090)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import prometheus_client

from ..auth import AuthResponse
from ..errors import SMTPError

if TYPE_CHECKING:
    from ..server import SMTPServer
    from ..session import MessageInfo, SMTPSession
    from ..wire.stream import DataStream

# From what a Maildir on a fast disk takes to what a client may be kept waiting.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Metrics:
    """What there is to count of a server: connections, messages, logins, failures.

    The figures, all with "blocksmtp_" in front: connections_open, connections_total,
    messages_total by reply code ("none" where the client broke off), message_bytes_total,
    on_data_seconds (a histogram: from the beginning of a message to the end of `on_data`),
    authentications_total by outcome ("accepted" and "failed" at once, "refused" when the client has
    gone), and errors_total: defects of the application or of the server.
    """

    def __init__(
        self, registry: prometheus_client.CollectorRegistry = prometheus_client.REGISTRY
    ) -> None:
        """One for each registry; it may observe several servers."""
        self._connections = prometheus_client.Gauge(
            "blocksmtp_connections_open",
            "Clients that are connected",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._connections_total = prometheus_client.Counter(
            "blocksmtp_connections_total", "Clients that were greeted", registry=registry
        )
        self._messages = prometheus_client.Counter(
            "blocksmtp_messages_total", "Messages, by reply code", ["code"], registry=registry
        )
        self._octets = prometheus_client.Counter(
            "blocksmtp_message_bytes_total", "Size of all that was read", registry=registry
        )
        self._seconds = prometheus_client.Histogram(
            "blocksmtp_on_data_seconds",
            "From the beginning of a message until it was dealt with",
            registry=registry,
            buckets=_SECONDS,
        )
        self._logins = prometheus_client.Counter(
            "blocksmtp_authentications_total", "Logins, by outcome", ["outcome"], registry=registry
        )
        self._errors = prometheus_client.Counter(
            "blocksmtp_errors_total", "Defects in callbacks or the server", registry=registry
        )

    def observe(self, server: SMTPServer) -> None:
        """Count what happens from now on. Callbacks that are assigned later are not seen."""
        server.on_connect = self._on_connect(server.on_connect)
        server.on_close = self._on_close(server.on_close)
        if server.on_data is not None:
            server.on_data = self._on_data(server.on_data)
        if server.on_auth is not None:
            server.on_auth = self._on_auth(server.on_auth)
        server.on("message", self._on_message)
        server.on("error", lambda error: self._errors.inc())

    def _on_connect(self, callback: Callable[..., Any] | None) -> Callable[..., Any]:
        def on_connect(session: SMTPSession) -> Any:
            self._connections.inc()
            self._connections_total.inc()
            return None if callback is None else callback(session)

        return on_connect

    def _on_close(self, callback: Callable[..., Any] | None) -> Callable[..., Any]:
        def on_close(session: SMTPSession) -> Any:
            self._connections.dec()
            # Not all are refused by `on_auth`: wrong proofs of SCRAM do not get there.
            self._logins.labels("refused").inc(session.auth_failures)
            return None if callback is None else callback(session)

        return on_close

    def _on_data(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        def on_data(stream: DataStream, session: SMTPSession) -> Any:
            began = time.monotonic()
            try:
                return callback(stream, session)
            finally:
                self._seconds.observe(time.monotonic() - began)
                self._octets.inc(stream.byte_length)

        return on_data

    def _on_auth(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        def on_auth(auth: Any, session: SMTPSession) -> Any:
            outcome = "failed"
            try:
                answer = callback(auth, session)
                outcome = _outcome(answer)
                return answer
            except SMTPError as error:
                outcome = _refusal(error.response_code)
                raise
            finally:
                # What is refused the session counts.
                if outcome != "refused":
                    self._logins.labels(outcome).inc()

        return on_auth

    def _on_message(self, info: MessageInfo) -> None:
        for code in info.reply_codes or ("none",):
            self._messages.labels(str(code)).inc()


def _outcome(answer: Any) -> str:
    """What an answer of `on_auth` makes of a login."""
    if isinstance(answer, AuthResponse):
        return _refusal(answer.response_code) if answer.user is None else "accepted"
    return "accepted" if answer else "refused"


def _refusal(code: int | None) -> str:
    # A temporary one says nothing of the credentials.
    return "refused" if code is None or code >= 500 else "failed"
