"""A server for known users: TLS first, then a password, then mail, which it stores in files.

    python examples/authenticated.py

and in another terminal:

    swaks --server 127.0.0.1:2525 --tls --auth PLAIN --auth-user alice --auth-password secret123 \\
        --from alice@example.com --to bob@example.com

or by hand: `openssl s_client -starttls smtp -crlf -quiet -connect 127.0.0.1:2525`, then

    EHLO localhost
    AUTH PLAIN AGFsaWNlAHNlY3JldDEyMw==

(the output of `printf '\\0alice\\0secret123' | base64`). The messages are in the folder `received`.
"""

from __future__ import annotations

import hmac
import logging
import os
import shutil
import sys
from pathlib import Path

from blocksmtp import DataStream, LoginAuth, PlainAuth, SMTPError, SMTPServer, SMTPSession

log = logging.getLogger("mail")

# In production: salted hashes (hashlib.scrypt) in a database.
PASSWORDS = {"alice": "secret123", "bob": "password456"}


def password_is_right(username: str, password: str) -> bool:
    """Compares in constant time, and does as much for a name that is unknown."""
    same = hmac.compare_digest(PASSWORDS.get(username, "").encode(), password.encode())
    return same and username in PASSWORDS


def on_auth(auth: PlainAuth | LoginAuth, session: SMTPSession) -> dict[str, str]:
    if not password_is_right(auth.username, auth.password):
        log.info("wrong credentials for %s from %s", auth.username, session.remote_address)
        raise SMTPError("Invalid username or password", 535)
    return {"username": auth.username, "ip": session.remote_address}


def make_server(folder: Path) -> SMTPServer:
    folder.mkdir(exist_ok=True)

    def on_data(stream: DataStream, session: SMTPSession) -> str:
        # The user is one of ours: a name that a stranger made up is no file name.
        name = f"{session.user['username']}-{session.id}-{session.transaction + 1}.eml"
        unfinished = folder / f".{name}"
        try:
            with unfinished.open("xb") as file:
                file.write(session.received_header())
                shutil.copyfileobj(stream, file)
                # 250 says that the message will not get lost any more.
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(folder / name)
        finally:
            unfinished.unlink(missing_ok=True)
        return f"stored as {name}"

    # Authentication is required, and offered in TLS only: both are the default.
    return SMTPServer(auth_methods=["PLAIN", "LOGIN"], on_auth=on_auth, on_data=on_data)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
    make_server(Path("received")).serve_forever(port, "127.0.0.1")
