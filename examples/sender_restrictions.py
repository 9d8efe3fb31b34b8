"""Sender restrictions by user: whoever has logged in may send from the own addresses only.

    python examples/sender_restrictions.py

and in another terminal, first as alice, then as somebody she is not:

    swaks --server 127.0.0.1:2525 --tls --auth-user alice --auth-password secret123 \\
        --to carol@example.org --from alice@example.com
    swaks --server 127.0.0.1:2525 --tls --auth-user alice --auth-password secret123 \\
        --to carol@example.org --from bob@example.com
"""

from __future__ import annotations

import hmac
import logging
import sys
from dataclasses import dataclass, field

from blocksmtp import (
    DataStream,
    LoginAuth,
    PlainAuth,
    SMTPAddress,
    SMTPError,
    SMTPServer,
    SMTPSession,
)


@dataclass(frozen=True)
class User:
    """What `on_auth` returns is `session.user` from then on: any object will do."""

    name: str
    password: str = field(repr=False)
    addresses: frozenset[str]


USERS = {
    user.name: user
    for user in (
        User("alice", "secret123", frozenset({"alice@example.com", "sales@example.com"})),
        User("bob", "password456", frozenset({"bob@example.com"})),
    )
}
NOBODY = User("", "", frozenset())


def on_auth(auth: PlainAuth | LoginAuth, session: SMTPSession) -> User | None:
    user = USERS.get(auth.username, NOBODY)
    same = hmac.compare_digest(user.password.encode(), auth.password.encode())
    return user if same and user is not NOBODY else None


def on_mail_from(address: SMTPAddress, session: SMTPSession) -> None:
    if address.address.lower() not in session.user.addresses:
        raise SMTPError("You can only send from your own address", 550, "5.7.1")


def on_data(stream: DataStream, session: SMTPSession) -> str:
    return f"accepted from {session.user.name}"


def make_server() -> SMTPServer:
    return SMTPServer(on_auth=on_auth, on_mail_from=on_mail_from, on_data=on_data)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
    make_server().serve_forever(port, "127.0.0.1")
