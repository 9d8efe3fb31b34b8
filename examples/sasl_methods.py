"""All SASL mechanisms: PLAIN, LOGIN, CRAM-MD5, and XOAUTH2 with its error data.

    python examples/sasl_methods.py

and in another terminal:

    swaks --server 127.0.0.1:2525 --tls --quit-after AUTH --auth CRAM-MD5 \\
        --auth-user alice --auth-password secret123
    curl --ssl-reqd --insecure smtp://127.0.0.1:2525 --user alice --oauth2-bearer alice-token \\
        --login-options AUTH=XOAUTH2 --mail-from alice@example.com --mail-rcpt b@example.com \\
        --upload-file examples/README.md

PLAIN and LOGIN instead of CRAM-MD5 work as well; a wrong token shows the error data.
"""

from __future__ import annotations

import hmac
import logging
import sys

from blocksmtp import (
    Auth,
    AuthResponse,
    CramMD5Auth,
    LoginAuth,
    PlainAuth,
    SMTPError,
    SMTPServer,
    SMTPSession,
    XOAuth2Auth,
)

# CRAM-MD5 needs the password itself; where it is not offered, store salted hashes instead.
PASSWORDS = {"alice": "secret123"}
TOKENS = {"alice": "alice-token"}


def is_right(secrets: dict[str, str], username: str, secret: str) -> bool:
    """Compares in constant time, and does as much for a name that is unknown."""
    same = hmac.compare_digest(secrets.get(username, "").encode(), secret.encode())
    return same and username in secrets


def on_auth(auth: Auth, session: SMTPSession) -> AuthResponse | str | None:
    if isinstance(auth, (PlainAuth, LoginAuth)):
        if is_right(PASSWORDS, auth.username, auth.password):
            return auth.username
    elif isinstance(auth, CramMD5Auth):
        # The password never crosses the wire; what comes is a digest that only it can make.
        right = auth.validate_password(PASSWORDS.get(auth.username, ""))
        if right and auth.username in PASSWORDS:
            return auth.username
    elif isinstance(auth, XOAuth2Auth):
        if is_right(TOKENS, auth.username, auth.access_token):
            return AuthResponse(user=auth.username, message=f"Welcome, {auth.username}")
        # The client gets this as JSON, and may fetch itself a new token.
        return AuthResponse(data={"status": "401", "schemes": "bearer"})
    else:
        raise SMTPError("Unsupported authentication method", 504)
    return None  # refused: 535


def make_server() -> SMTPServer:
    return SMTPServer(auth_methods=["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"], on_auth=on_auth)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
    make_server().serve_forever(port, "127.0.0.1")
