"""The certificate of the servers behind the proxy."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.certificates import Leaf


@pytest.fixture(scope="session")
def leaf() -> Leaf:
    """A small one, whose signatures are all of one length, unlike those of ECDSA: an octet of the
    handshake has the same place in every run."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("mx.example")]), critical=True)
        .sign(key, None)
    )
    return Leaf(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
