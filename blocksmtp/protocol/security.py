"""What the protocol may know of a connection's TLS."""

from __future__ import annotations

from typing import Any, Protocol


class Security(Protocol):
    """The TLS of a connection."""

    @property
    def channel_binding(self) -> bytes | None:
        """Those of type tls-exporter (RFC 9266), None where the connection cannot have them."""

    @property
    def client_certificate(self) -> Any:
        """The client's certificate (`cryptography.x509`) if it was verified, else None."""


class NoSecurity:
    """That of a connection in clear."""

    channel_binding: bytes | None = None
    client_certificate: Any = None
