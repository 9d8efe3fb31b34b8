"""Client certificates: a machine shows who it is, and needs no password.

    python examples/client_certificates.py

makes an authority, a server's and a client's certificate in the folder `certificates`, and in
another terminal:

    swaks --server 127.0.0.1:2525 --tls --tls-cert certificates/printer.pem \\
        --tls-key certificates/printer.pem --tls-ca-path certificates/ca.pem \\
        --from printer@example.com --to bob@example.com

Without --tls-cert the handshake fails; from another address than its own it is refused.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from cryptography.x509.oid import NameOID
from make_certificates import make_certificate
from OpenSSL import SSL

from blocksmtp import SMTPAddress, SMTPError, SMTPServer, SMTPSession

log = logging.getLogger("mail")


def on_secure(connection: SSL.Connection, session: SMTPSession) -> None:
    # The certificate has been verified: the handshake failed otherwise.
    certificate = connection.get_peer_certificate(as_cryptography=True)
    if certificate is None:
        raise SMTPError("No client certificate")
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    session.state["machine"] = str(names[0].value)
    log.info("%s: this is %s", session.id, session.state["machine"])


def on_mail_from(address: SMTPAddress, session: SMTPSession) -> None:
    if address.address.lower() != f"{session.state['machine']}@example.com":
        raise SMTPError("The certificate is not for this sender", 550, "5.7.1")


def make_server(folder: Path) -> SMTPServer:
    """Makes the certificates in `folder`: ca.pem, and printer.pem with the key."""
    folder.mkdir(exist_ok=True)
    authority = make_certificate("Example authority", authority=True)
    server = make_certificate("localhost", authority)
    printer = make_certificate("printer", authority)
    (folder / "ca.pem").write_bytes(authority.cert)
    (folder / "printer.pem").write_bytes(printer.cert + printer.key)
    return SMTPServer(
        cert=server.cert,
        key=server.key,
        # Whose clients are let in. `reject_unauthorized=False` would leave it to `on_secure`.
        ca=folder / "ca.pem",
        request_cert=True,
        # No mail in clear, and no password beside the certificate.
        needs_upgrade=True,
        auth_optional=True,
        disabled_commands=["AUTH"],
        on_secure=on_secure,
        on_mail_from=on_mail_from,
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
    make_server(Path("certificates")).serve_forever(port, "127.0.0.1")
