"""Behind a proxy: the client's own address, from HAProxy (PROXY protocol) or Postfix (XCLIENT).

    python examples/behind_a_proxy.py 2525 PROXY
    python examples/behind_a_proxy.py 2525 XCLIENT

and in another terminal, for the first and for the second:

    swaks --server 127.0.0.1:2525 --to bob@example.com --proxy 'TCP4 203.0.113.9 192.0.2.1 4711 25'
    swaks --server 127.0.0.1:2525 --to bob@example.com --xclient 'ADDR=203.0.113.9 NAME=a.example'

In HAProxy: `server mail 127.0.0.1:2525 send-proxy-v2`; in nginx: `xclient on`.
"""

from __future__ import annotations

import logging
import sys

from blocksmtp import Auth, ConnectionInfo, DataStream, SMTPError, SMTPServer, SMTPSession

log = logging.getLogger("mail")

# Never True on a port that strangers can reach: they would choose their own address.
PROXIES = ["127.0.0.0/8", "::1"]
BLOCKED = {"203.0.113.66"}


def connected(client: ConnectionInfo) -> None:
    """The event comes when it is settled who the client is, `on_connect` before XCLIENT."""
    log.info("client %s port %d", client.remote_address, client.remote_port)


def on_mail_from(address: object, session: SMTPSession) -> None:
    if session.remote_address in BLOCKED:
        raise SMTPError("Not from you", 550, "5.7.1")


def on_auth(auth: Auth, session: SMTPSession) -> str | None:
    # XCLIENT LOGIN: the proxy has checked the password, and is trusted to have done so.
    return auth.username if auth.method == "XCLIENT" else None


def on_data(stream: DataStream, session: SMTPSession) -> str:
    return f"accepted from {session.client_hostname} at {session.remote_address}"


def make_server(protocol: str) -> SMTPServer:
    server = SMTPServer(
        auth_optional=True,
        use_proxy=PROXIES if protocol == "PROXY" else False,
        use_xclient=PROXIES if protocol == "XCLIENT" else False,
        # What the proxy already knows it can tell.
        disable_reverse_lookup=True,
        on_auth=on_auth,
        on_mail_from=on_mail_from,
        on_data=on_data,
    )
    server.on("connect", connected)
    return server


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
    make_server(sys.argv[2] if len(sys.argv) > 2 else "PROXY").serve_forever(port, "127.0.0.1")
