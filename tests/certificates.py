"""Certificates for tests, made at run time: none is ever stored.

authority = Authority()
leaf = authority.issue("mail.example.org")
TLSOptions(cert=leaf.cert, key=leaf.key, ca=authority.pem)
authority.trusted_by(ssl_context)
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True, repr=False)
class Leaf:
    """A certificate for a server or a client, and its key, as PEM."""

    cert: bytes
    """The certificate, and after it those that lead to the root, without the root."""
    key: bytes

    @property
    def combined(self) -> bytes:
        """Key and certificates in one."""
        return self.key + self.cert

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.cert)

    def encrypted_key(self, passphrase: bytes, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
        """The key under a passphrase; TraditionalOpenSSL is the other form there is."""
        key = load_pem_private_key(self.key, None)
        return key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(passphrase))

    def write(self, folder: Path, name: str = "leaf") -> tuple[Path, Path]:
        """Write the PEM files; returns the paths of certificate and key."""
        cert, key = folder / f"{name}.crt", folder / f"{name}.key"
        cert.write_bytes(self.cert)
        key.write_bytes(self.key)
        return cert, key

    def shown_by(self, context: ssl.SSLContext, folder: Path) -> None:
        """Have clients with `context` show this certificate; `folder` is for temporary files."""
        context.load_cert_chain(*self.write(folder, "shown"))


class Authority:
    """A certificate authority of its own; `child` makes one below it."""

    def __init__(self, ca: trustme.CA | None = None) -> None:
        self._ca = trustme.CA() if ca is None else ca

    @property
    def pem(self) -> bytes:
        """The authority's own certificate."""
        return self._ca.cert_pem.bytes()

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.pem)

    def child(self) -> Authority:
        """An intermediate authority; what it issues has it in its chain."""
        return Authority(self._ca.create_child_ca())

    def issue(
        self, *names: str, not_before: datetime | None = None, not_after: datetime | None = None
    ) -> Leaf:
        """A certificate for these host names, IP or mail addresses; for servers and clients."""
        issued = self._ca.issue_cert(*names, not_before=not_before, not_after=not_after)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        return Leaf(chain, issued.private_key_pem.bytes())

    def write(self, folder: Path, name: str = "ca") -> Path:
        """Write the authority's certificate; returns its path."""
        path = folder / f"{name}.pem"
        path.write_bytes(self.pem)
        return path

    def trusted_by(self, context: ssl.SSLContext) -> None:
        """Have clients with `context` trust what this authority issues."""
        context.load_verify_locations(cadata=self.pem.decode("ascii"))
