"""Complete session logging: what each callback learns of a client and of its message.

    python examples/session_logging.py

and in another terminal, in clear or in TLS, as somebody or as nobody:

    swaks --server 127.0.0.1:2525 --to bob@example.com
    swaks --server 127.0.0.1:2525 --to bob@example.com --tls --auth-user alice --auth-password x

Here everybody is let in with any password: this is about logging.
"""

from __future__ import annotations

import logging
import sys

from OpenSSL import SSL

from blocksmtp import Auth, DataStream, SMTPAddress, SMTPServer, SMTPSession

log = logging.getLogger("mail")


def on_connect(session: SMTPSession) -> None:
    log.info(
        "%s: connection from %s port %d (%s)",
        session.id,
        session.remote_address,
        session.remote_port,
        session.client_hostname,
    )
    # `state` is the application's own, and lives as long as the connection.
    session.state["bytes"] = 0


def on_secure(connection: SSL.Connection, session: SMTPSession) -> None:
    log.info("%s: TLS %s, for %s", session.id, session.tls_options, session.servername)


def on_auth(auth: Auth, session: SMTPSession) -> dict[str, str]:
    # Never log `auth.password`. What is returned becomes `session.user`.
    log.info("%s: %s as %s", session.id, auth.method, auth.username)
    return {"username": auth.username}


def on_mail_from(address: SMTPAddress, session: SMTPSession) -> None:
    log.info("%s: sender <%s> %s", session.id, address.address, address.args)


def on_rcpt_to(address: SMTPAddress, session: SMTPSession) -> None:
    log.info("%s: recipient <%s> %s", session.id, address.address, address.args)


def on_data(stream: DataStream, session: SMTPSession) -> str:
    envelope = session.envelope
    while stream.read(65_536):
        pass  # A message of any size needs no more memory than this.
    session.state["bytes"] += stream.byte_length
    log.info("%s: message %d", session.id, session.transaction + 1)
    log.info("  said hello: %s %s", session.opening_command, session.host_name_appears_as)
    log.info("  protocol:   %s", session.transmission_type)
    log.info("  user:       %s", session.user)
    log.info("  from:       %s", envelope.mail_from)
    log.info("  to:         %s", ", ".join(map(str, envelope.rcpt_to)))
    log.info("  body:       %s, UTF-8 addresses: %s", envelope.body_type, envelope.smtp_utf8)
    log.info("  bytes:      %d", stream.byte_length)
    return f"logged as {session.id}"


def on_close(session: SMTPSession) -> None:
    # Called however the connection ended, once for each `on_connect`.
    log.info("%s: closed, after %d bytes of mail", session.id, session.state["bytes"])


def make_server() -> SMTPServer:
    return SMTPServer(
        auth_optional=True,
        on_connect=on_connect,
        on_secure=on_secure,
        on_auth=on_auth,
        on_mail_from=on_mail_from,
        on_rcpt_to=on_rcpt_to,
        on_data=on_data,
        on_close=on_close,
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
    make_server().serve_forever(port, "127.0.0.1")
