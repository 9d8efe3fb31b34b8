"""What a TLS connection tells of itself, once its handshake is done."""

from __future__ import annotations

from functools import cached_property

from cryptography import x509
from OpenSSL import SSL

from ..session import TLSCipherInfo
from .ciphers import standard_name
from .tls_context import peer_verified

# RFC 9266, section 2
_EXPORTER_LABEL = b"EXPORTER-Channel-Binding"
_EXPORTER_LENGTH = 32


class TLSSecurity:
    """What authentication may rest on. Nothing is asked of OpenSSL before it is wanted."""

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    @cached_property
    def channel_binding(self) -> bytes | None:
        """The channel bindings of type tls-exporter (RFC 9266).

        None below TLS 1.3: they are unique there only with an extension of the handshake that
        pyOpenSSL does not tell of.
        """
        if self._connection.get_protocol_version() < SSL.TLS1_3_VERSION:
            return None
        return self._connection.export_keying_material(_EXPORTER_LABEL, _EXPORTER_LENGTH, b"")

    @cached_property
    def client_certificate(self) -> x509.Certificate | None:
        """The client's certificate, None unless TLS has verified it."""
        if not peer_verified(self._connection):
            return None
        return self._connection.get_peer_certificate(as_cryptography=True)


def cipher_info(connection: SSL.Connection) -> TLSCipherInfo:
    """The cipher that the handshake chose. Raises ValueError before the handshake."""
    name = connection.get_cipher_name()
    if name is None:
        raise ValueError("there is no cipher before the handshake")
    return TLSCipherInfo(name, standard_name(name), connection.get_protocol_version_name())
