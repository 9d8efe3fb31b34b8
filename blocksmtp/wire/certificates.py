"""Certificates and keys: read from what the options give, or made for a server that has none."""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from typing import NamedTuple, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..addresses import is_hostname
from ..options import PEM, TLSOptions

PrivateKey: TypeAlias = (
    dsa.DSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | rsa.RSAPrivateKey
)

_BEGIN = "-----BEGIN"
_KEY_BLOCK = re.compile(
    rb"-----BEGIN (?P<label>[A-Z ]*PRIVATE KEY)-----.*?-----END (?P=label)-----", re.DOTALL
)
_ENCRYPTED = re.compile(rb"-----BEGIN ENCRYPTED |Proc-Type: 4,ENCRYPTED")
# The inside of a key, given without its BEGIN line: it must not be shown as if it were a path.
_MAY_BE_A_SECRET = re.compile(r"[A-Za-z0-9+/=\s]{40,}|.*\n.*|.{256,}", re.DOTALL)

_LONGEST_COMMON_NAME = 64  # RFC 5280, appendix A.1, ub-common-name

_CLOCK_SKEW = datetime.timedelta(hours=1)
_LIFETIME = datetime.timedelta(days=365)


class Identity(NamedTuple):
    """What a server shows of itself: its certificate, those that lead to the root, and its key."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey


def read_pem(option: str, value: PEM) -> bytes:
    """The PEM octets that `value`, given for `option`, is or names.

    Raises ValueError for a file that cannot be read.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and _BEGIN in value:
        return value.encode("utf-8", "replace")
    path = os.fsdecode(value)
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no path"
        if _MAY_BE_A_SECRET.fullmatch(path):
            # The cause, too, would show it.
            raise ValueError(f"{option}: neither PEM nor a file that can be read") from None
        raise ValueError(f"{option}: cannot read {path!r}: {reason}") from error


def load_identity(options: TLSOptions) -> Identity:
    """The certificate, chain and key that `options` give; one of `cert` and `key` must be given.

    Raises ValueError, naming the option, when they cannot be read or do not fit together.
    """
    if options.cert is None:
        raise ValueError("key: given without cert")
    certificate_pem = read_pem("cert", options.cert)
    certificates = _load_certificates("cert", certificate_pem)
    key = _load_key(options, certificate_pem)
    try:
        fits = certificates[0].public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("cert: of a kind that cannot be used") from error
    if not fits:
        raise ValueError("key: does not belong to cert")
    return Identity(certificates[0], certificates[1:], key)


def load_authorities(ca: PEM) -> tuple[x509.Certificate, ...]:
    """The certificates of the option `ca`. Raises ValueError when they cannot be read."""
    return _load_certificates("ca", read_pem("ca", ca))


def _load_certificates(option: str, pem: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError as error:
        raise ValueError(f"{option}: no PEM certificate, or a damaged one") from error


def _load_key(options: TLSOptions, certificate_pem: bytes) -> PrivateKey:
    """The key of the option `key`, or the one that stands beside the certificate."""
    pem = certificate_pem if options.key is None else read_pem("key", options.key)
    # Alone: what may stand before it, EC PARAMETERS for one, is not for the loader.
    block = _KEY_BLOCK.search(pem)
    if block is None and options.key is None:
        raise ValueError("cert: given without key, and holds none itself")
    if block is None:
        raise ValueError("key: no PEM private key")
    encrypted = _ENCRYPTED.search(block.group()) is not None
    if encrypted and options.passphrase is None:
        raise ValueError("key: is encrypted, and there is no passphrase")
    try:
        key = load_pem_private_key(block.group(), options.passphrase if encrypted else None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        problem = "wrong passphrase, or a damaged key" if encrypted else "a damaged or unknown key"
        raise ValueError(f"key: {problem}") from error
    if not isinstance(key, PrivateKey):
        raise ValueError("key: of a kind that cannot be used for TLS")
    return key


def self_signed(name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A new certificate for this machine, and its key.

    It is valid for a year, for `name` (where that is a host name or an IP address), localhost and
    the loopback addresses. Clients can verify it by trusting it itself.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    common_name = name if 0 < len(name) <= _LONGEST_COMMON_NAME else "localhost"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
        # No authority, so that whoever trusts it trusts this server and nobody else.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_SIGNS_HANDSHAKES, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_own_names(name)), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
    )
    return builder.sign(key, hashes.SHA256()), key


_SIGNS_HANDSHAKES = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def _own_names(name: str) -> list[x509.GeneralName]:
    addresses = ["127.0.0.1", "::1"]
    names = ["localhost"]
    try:
        addresses.insert(0, str(ipaddress.ip_address(name)))
    except ValueError:
        name = name.rstrip(".")
        if is_hostname(name):
            names.insert(0, name)
    return [
        *(x509.DNSName(each) for each in dict.fromkeys(names)),
        *(x509.IPAddress(ipaddress.ip_address(each)) for each in dict.fromkeys(addresses)),
    ]
