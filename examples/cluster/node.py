"""A node: it takes mail in, and says 250 when the broker has said that it has the message.

    BROKER=redis://127.0.0.1:6379/0 python examples/cluster/node.py 2601

It keeps nothing. Whatever happens to it, a message is with the client or with the broker.
"""

from __future__ import annotations

import base64
import logging
import sys

import kombu.exceptions
import redis
from tasks import process_message

from blocksmtp import DataStream, SMTPError, SMTPServer, SMTPSession

# Who may tell us of clients in a PROXY header: HAProxy, which is on this machine here.
PROXIES = ["127.0.0.0/8"]

# A message goes through the broker whole: let it be no larger than that should keep in memory.
LARGEST = 10_000_000

log = logging.getLogger("node")


def on_data(stream: DataStream, session: SMTPSession) -> str | None:
    content = stream.read()
    if stream.size_exceeded:
        return None  # The server says 552.
    envelope = session.envelope
    # It is also the name of the task: what runs it twice can see that it does.
    name = f"{session.id}-{session.transaction + 1}"
    try:
        process_message.apply_async(
            args=[
                name,
                str(envelope.mail_from),
                [str(recipient) for recipient in envelope.rcpt_to],
                base64.b64encode(session.received_header() + content).decode(),
            ],
            task_id=name,
            # The client can wait, and try again: better than a thread that does it here.
            retry=False,
        )
    except (kombu.exceptions.KombuError, redis.RedisError, OSError) as error:
        log.error("no broker: %s", type(error).__name__)
        raise SMTPError("Error: cannot queue the message now", 451, "4.3.2") from error
    return f"queued as {name}"


def make_server() -> SMTPServer:
    return SMTPServer(
        name="mx.example.com",
        auth_optional=True,
        size=LARGEST,
        use_proxy=PROXIES,
        disable_reverse_lookup=True,
        on_data=on_data,
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    # SIGTERM: idle clients get 421, messages in progress are finished first.
    make_server().serve_forever(int(sys.argv[1]) if len(sys.argv) > 1 else 2601, "127.0.0.1")
