"""Certificates and keys: reading what the options give, and the self-signed one."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from blocksmtp.options import PEM, TLSOptions
from blocksmtp.wire.certificates import (
    load_authorities,
    load_identity,
    read_pem,
    self_signed,
)
from tests.certificates import Authority, Leaf


@pytest.fixture(scope="module")
def leaf(authority: Authority) -> Leaf:
    return authority.issue("mail.example.org")


def key_octets(options: TLSOptions) -> bytes:
    key = load_identity(options).key
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


# --- reading -----------------------------------------------------------------------------------


def test_pem_comes_as_text_octets_or_path(leaf: Leaf, tmp_path: Path) -> None:
    cert, key = leaf.write(tmp_path)
    forms: list[tuple[PEM, PEM]] = [
        (leaf.cert, leaf.key),
        (leaf.cert.decode(), leaf.key.decode()),
        (cert, key),
        (str(cert), str(key)),
    ]
    for form in forms:
        identity = load_identity(TLSOptions(cert=form[0], key=form[1]))
        assert identity.certificate == leaf.certificate
        assert identity.key.public_key() == leaf.certificate.public_key()


def test_text_around_the_pem_does_no_harm(leaf: Leaf) -> None:
    text = f"Bücher \udc80\n{leaf.cert.decode()}\nend"
    assert load_identity(TLSOptions(cert=text, key=leaf.key)).certificate == leaf.certificate


def test_certificate_and_key_in_one(leaf: Leaf) -> None:
    for pem in (leaf.key + leaf.cert, leaf.cert + leaf.key):
        assert key_octets(TLSOptions(cert=pem)) == key_octets(
            TLSOptions(cert=leaf.cert, key=leaf.key)
        )


def test_the_option_key_goes_before_the_key_beside_the_certificate(
    authority: Authority, leaf: Leaf
) -> None:
    other = authority.issue("other.example.org")
    identity = load_identity(TLSOptions(cert=leaf.cert + other.key, key=leaf.key))
    assert identity.key.public_key() == leaf.certificate.public_key()


def test_what_stands_before_the_key_is_skipped(leaf: Leaf) -> None:
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    identity = load_identity(TLSOptions(cert=leaf.cert, key=parameters + leaf.key))
    assert identity.key.public_key() == leaf.certificate.public_key()


def test_the_chain_follows_the_certificate(authority: Authority) -> None:
    intermediate = authority.child()
    leaf = intermediate.issue("mail.example.org")
    identity = load_identity(TLSOptions(cert=leaf.cert, key=leaf.key))
    assert identity.certificate == leaf.certificate
    assert identity.chain == (intermediate.certificate,)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_opens_with_its_passphrase(leaf: Leaf, form: PrivateFormat) -> None:
    pem = leaf.encrypted_key(b"sesame", form)
    options = TLSOptions(cert=leaf.cert, key=pem, passphrase=b"sesame")
    assert key_octets(options) == key_octets(TLSOptions(cert=leaf.cert, key=leaf.key))


def test_a_passphrase_that_is_not_needed_does_no_harm(leaf: Leaf) -> None:
    assert load_identity(TLSOptions(cert=leaf.combined, passphrase=b"sesame"))


def test_authorities_may_be_many(authority: Authority) -> None:
    other = Authority()
    assert load_authorities(authority.pem + other.pem) == (
        authority.certificate,
        other.certificate,
    )


# --- what is refused ---------------------------------------------------------------------------


def refused(**options: PEM | bytes | None) -> ValueError:
    with pytest.raises(ValueError) as caught:
        load_identity(TLSOptions(**options))  # type: ignore[arg-type]
    return caught.value


def test_a_key_without_certificate(leaf: Leaf) -> None:
    assert str(refused(key=leaf.key)) == "key: given without cert"


def test_a_certificate_without_key(leaf: Leaf) -> None:
    assert str(refused(cert=leaf.cert)) == "cert: given without key, and holds none itself"


def test_a_missing_file(leaf: Leaf, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    error = refused(cert=missing, key=leaf.key)
    assert str(error) == f"cert: cannot read {str(missing)!r}: No such file or directory"
    assert isinstance(error.__cause__, FileNotFoundError)
    assert str(refused(cert=leaf.cert, key=str(missing))).startswith("key: cannot read")
    with pytest.raises(ValueError, match=r"^ca: cannot read"):
        load_authorities(missing)


def test_a_path_that_is_none(leaf: Leaf) -> None:
    assert str(refused(cert="\0", key=leaf.key)) == "cert: cannot read '\\x00': no path"


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^ca: cannot read .*directory"):
        load_authorities(tmp_path)


def test_octets_that_are_no_certificate(leaf: Leaf) -> None:
    for cert in (b"", b"/etc/ssl/cert.pem", leaf.key, leaf.cert.replace(b"MII", b"XYZ")):
        error = refused(cert=cert, key=leaf.key)
        assert str(error) == "cert: no PEM certificate, or a damaged one"
        assert error.__cause__ is not None
    with pytest.raises(ValueError, match=r"^ca: no PEM certificate"):
        load_authorities(b"-----BEGIN NOTHING-----")


def test_octets_that_are_no_key(leaf: Leaf) -> None:
    assert str(refused(cert=leaf.cert, key=leaf.cert)) == "key: no PEM private key"


def test_a_damaged_key(leaf: Leaf) -> None:
    damaged = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    error = refused(cert=leaf.cert, key=damaged)
    assert str(error) == "key: a damaged or unknown key"
    assert error.__cause__ is not None


def test_an_encrypted_key_without_passphrase(leaf: Leaf) -> None:
    error = refused(cert=leaf.cert, key=leaf.encrypted_key(b"sesame"))
    assert str(error) == "key: is encrypted, and there is no passphrase"


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_wrong_passphrase(leaf: Leaf, form: PrivateFormat) -> None:
    key = leaf.encrypted_key(b"sesame", form)
    error = refused(cert=leaf.cert, key=key, passphrase=b"mustard")
    assert str(error) == "key: wrong passphrase, or a damaged key"
    assert "mustard" not in f"{error!r}{error.__cause__!r}"


def test_a_key_of_another_certificate(authority: Authority, leaf: Leaf) -> None:
    other = authority.issue("other.example.org")
    assert str(refused(cert=leaf.cert, key=other.key)) == "key: does not belong to cert"


def test_a_key_that_cannot_sign(leaf: Leaf) -> None:
    key = x25519.X25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    error = refused(cert=leaf.cert, key=pem)
    assert str(error) == "key: of a kind that cannot be used for TLS"


def test_a_certificate_of_an_unknown_kind(leaf: Leaf) -> None:
    """Its key lies on a curve that does not exist: the OID of P-256 ends in another octet."""
    der = leaf.certificate.public_bytes(Encoding.DER)
    p256 = bytes.fromhex("06082a8648ce3d030107")
    assert p256 in der
    strange = x509.load_der_x509_certificate(der.replace(p256, p256[:-1] + b"\x7f"))
    error = refused(cert=strange.public_bytes(Encoding.PEM), key=leaf.key)
    assert str(error) == "cert: of a kind that cannot be used"
    assert error.__cause__ is not None


@pytest.mark.parametrize("cut", ["one line", "lines"])
def test_a_key_without_its_first_line_is_not_shown(leaf: Leaf, cut: str) -> None:
    """It looks like a path; neither the error nor what led to it may repeat it."""
    lines = leaf.key.decode().splitlines()[1:-1]
    inside = "".join(lines) if cut == "one line" else "\n".join(lines)
    error = refused(cert=leaf.cert, key=inside)
    assert str(error) == "key: neither PEM nor a file that can be read"
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\xff\r\n")
    assert read_pem("ca", path) == b"\xff\r\n"


# --- self-signed -------------------------------------------------------------------------------


def names_in(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return names.get_values_for_type(x509.DNSName), [str(address) for address in addresses]


@pytest.mark.parametrize(
    ("name", "names", "addresses"),
    [
        ("mail.example.org", ["mail.example.org", "localhost"], ["127.0.0.1", "::1"]),
        ("mail.example.org.", ["mail.example.org", "localhost"], ["127.0.0.1", "::1"]),
        ("localhost", ["localhost"], ["127.0.0.1", "::1"]),
        ("192.0.2.1", ["localhost"], ["192.0.2.1", "127.0.0.1", "::1"]),
        ("::1", ["localhost"], ["::1", "127.0.0.1"]),
        ("not/a/name", ["localhost"], ["127.0.0.1", "::1"]),
        ("", ["localhost"], ["127.0.0.1", "::1"]),
    ],
)
def test_the_self_signed_certificate_is_for_this_machine(
    name: str, names: list[str], addresses: list[str]
) -> None:
    assert names_in(self_signed(name)[0]) == (names, addresses)


def test_the_self_signed_certificate_is_sound() -> None:
    before = datetime.now(timezone.utc)
    certificate, key = self_signed("mail.example.org")
    after = datetime.now(timezone.utc)
    assert isinstance(key.curve, ec.SECP256R1)
    assert key.public_key() == certificate.public_key()
    assert certificate.not_valid_before_utc < before
    assert before - timedelta(days=1) < certificate.not_valid_before_utc
    lifetime = timedelta(days=365)
    assert before + lifetime - timedelta(seconds=1) <= certificate.not_valid_after_utc
    assert certificate.not_valid_after_utc <= after + lifetime
    extensions = certificate.extensions
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
    certificate.verify_directly_issued_by(certificate)


def test_each_self_signed_certificate_is_another() -> None:
    first, second = self_signed("a.example")[0], self_signed("a.example")[0]
    assert first.serial_number != second.serial_number
    assert first.public_key() != second.public_key()


@pytest.mark.parametrize(
    ("name", "common_name"),
    [("mail.example.org", "mail.example.org"), ("a." * 40 + "example", "localhost")],
)
def test_a_common_name_fits(name: str, common_name: str) -> None:
    certificate, _ = self_signed(name)
    (attribute,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert attribute.value == common_name
    assert names_in(certificate)[0][0] == name


def test_a_client_that_trusts_the_certificate_itself_verifies_it(tmp_path: Path) -> None:
    """As its users will: with the certificate as the file of authorities, in the strictest mode."""
    certificate, key = self_signed("mail.example.org")
    pem = certificate.public_bytes(Encoding.PEM)
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    cert_path, key_path = Leaf(pem, key_pem).write(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert_path, key_path)
    client = ssl.create_default_context(cafile=str(cert_path))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("mail.example.org", "localhost", "127.0.0.1", "::1"):
        handshake_in_memory(client, server, name)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake_in_memory(client, server, "other.example.org")


def handshake_in_memory(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
