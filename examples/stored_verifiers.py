"""No password is stored: SCRAM with verifiers, which PLAIN can use as well.

    python examples/stored_verifiers.py

and in another terminal (msmtp speaks SCRAM, and binds the proof to the TLS connection if it can):

    msmtp --host=127.0.0.1 --port=2525 --tls --tls-starttls --tls-certcheck=off \\
        --auth=scram-sha-256 --user=alice --passwordeval="echo secret123" \\
        --from=alice@example.com bob@example.com < examples/README.md

`--auth=plain` works, too; a verifier that is stolen opens no account either way.
"""

from __future__ import annotations

import logging
import sys

from blocksmtp import Auth, LoginAuth, PlainAuth, ScramVerifier, SMTPServer, SMTPSession

# A program of yours makes these when a user chooses a password, and stores the four values.
VERIFIERS = {"alice": ScramVerifier.from_password("secret123")}
NOBODY = ScramVerifier.from_password("of no account")


def scram_verifier(username: str, session: SMTPSession) -> ScramVerifier | None:
    # For an unknown user the server goes on as if there were one, and refuses in the end.
    return VERIFIERS.get(username)


def on_auth(auth: Auth, session: SMTPSession) -> str | None:
    if isinstance(auth, (PlainAuth, LoginAuth)):
        # As much work for a name that is unknown.
        verifier = VERIFIERS.get(auth.username, NOBODY)
        right = verifier.validate_password(auth.password) and verifier is not NOBODY
        return auth.username if right else None
    # With `scram_verifier` a client of SCRAM gets here after a right proof only.
    return auth.username


def make_server() -> SMTPServer:
    return SMTPServer(
        auth_methods=["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"],
        scram_verifier=scram_verifier,
        on_auth=on_auth,
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
    make_server().serve_forever(port, "127.0.0.1")
