"""SNI: one server, two domains, each with a certificate of its own.

    python examples/sni_two_domains.py

and in another terminal, with either name:

    openssl s_client -starttls smtp -connect 127.0.0.1:2525 -servername mail.one.example

The certificates are made at start. Real ones are given as paths: `"cert": "/etc/…/fullchain.pem"`.
"""

from __future__ import annotations

import logging
import sys

from make_certificates import Certificate, make_certificate

from blocksmtp import DataStream, SMTPServer, SMTPSession, TLSOptions


def on_data(stream: DataStream, session: SMTPSession) -> str:
    return f"accepted for {session.servername}"


def make_server(default: Certificate, one: Certificate, two: Certificate) -> SMTPServer:
    return SMTPServer(
        auth_optional=True,
        on_data=on_data,
        # For clients that ask for no name, or for another one.
        cert=default.cert,
        key=default.key,
        sni_options={
            "mail.one.example": {"cert": one.cert, "key": one.key},
            # A star stands for one label. The mapping may also be a TLSOptions.
            "*.two.example": TLSOptions(cert=two.cert, key=two.key, min_version="TLSv1.2"),
        },
    )


def renew(server: SMTPServer, default: Certificate) -> None:
    """A new certificate for the connections to come, without a restart."""
    server.update_secure_context(cert=default.cert, key=default.key)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
    names = ("localhost", "mail.one.example", "*.two.example")
    make_server(*map(make_certificate, names)).serve_forever(port, "127.0.0.1")
