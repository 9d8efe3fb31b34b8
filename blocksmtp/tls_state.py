"""The TLS contexts of a server, and how they are replaced while it runs."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .options import Options, TLSOptions, names_of, to_fields

if TYPE_CHECKING:
    from .options import PEM
    from .wire.certificates import Identity
    from .wire.tls_context import SecureContexts

_TLS_NAMES = {row.name for row in dataclasses.fields(TLSOptions)}
_SPELLINGS = {
    keyword: name
    for keyword, name in names_of(Options).items()
    if name in _TLS_NAMES or name == "sni_options"
}


class TLSState:
    """Holds the contexts for new handshakes. What is replaced lives on in older connections."""

    def __init__(self, options: Options) -> None:
        """Raises ValueError for certificates or keys that are no good."""
        # For who builds new contexts, which may take as long as a file takes to be read. Handshakes
        # do not wait for that: they take what `_contexts` refers to, which is exchanged as a whole.
        self._updating = threading.Lock()
        self._server_name = options.name
        self._given = {name: getattr(options, name) for name in _TLS_NAMES}
        self._sni_options: Mapping[str, TLSOptions] = options.sni_options
        self._contexts: SecureContexts | None = None
        self._self_made: Identity | None = None
        if self._sni_options or any(value is not None for value in self._given.values()):
            # What is wrong with them shall show now, not with the first client.
            self._contexts = self._build(self._given, self._sni_options)

    def contexts(self) -> SecureContexts:
        """The contexts for a handshake; made now, with a certificate of their own, if need be."""
        contexts = self._contexts
        if contexts is None:
            with self._updating:
                contexts = self._contexts or self._build(self._given, self._sni_options)
                self._contexts = contexts
        return contexts

    def update(self, tls_options: Mapping[str, Any]) -> None:
        """Replace what is given, in either spelling; the rest stays.

        Raises TypeError or ValueError, and changes nothing, where something is invalid.
        """
        given = to_fields(_SPELLINGS, tls_options)
        if given.get("cert") is not None and "key" not in given and _holds_key(given["cert"]):
            given["key"] = None  # The old key gives way to the one beside the new certificate.
        with self._updating:
            checked = Options(sni_options=given.pop("sni_options", self._sni_options))
            fields = {**self._given, **given}
            self._contexts = self._build(fields, checked.sni_options)
            self._given, self._sni_options = fields, checked.sni_options

    def _build(
        self, fields: Mapping[str, Any], sni_options: Mapping[str, TLSOptions]
    ) -> SecureContexts:
        # Imported where it is needed, to keep `import blocksmtp` light.
        from .wire.tls_context import SecureContexts

        contexts = SecureContexts.build(
            TLSOptions(**fields), sni_options, self._server_name, self._self_made
        )
        # Clients may have come to trust it: it stays for as long as no other is given.
        self._self_made = contexts.self_made or self._self_made
        return contexts


def _holds_key(cert: PEM) -> bool:
    """Whether there is a private key beside the certificate. Raises TypeError and ValueError."""
    from .wire.certificates import read_pem

    TLSOptions(cert=cert)
    return b"PRIVATE KEY-----" in read_pem("cert", cert)
