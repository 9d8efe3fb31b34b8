"""No message twice: recognise what a client sends again because our answer never reached it.

    python examples/exactly_once.py

and in another terminal, any number of times:

    swaks --server 127.0.0.1:2525 --to bob@example.com --header 'Message-ID: <1@example.com>'

A client that loses the connection after its message, and before our 250, must send it again (RFC
5321, section 4.5.4.1). Such messages, and only these, are remembered here for a while.
"""

from __future__ import annotations

import email
import email.policy
import logging
import sys
import threading
import time

from blocksmtp import DataStream, MessageInfo, SMTPServer, SMTPSession

log = logging.getLogger("mail")

# Clients try again for days; a database would keep this better.
REMEMBERED_SECONDS = 5 * 86_400

Key = tuple[str, str, tuple[str, ...]]


class Inbox:
    """Stores each message once."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []
        self._lock = threading.Lock()
        # By session: what was stored, and is being answered.
        self._answering: dict[str, Key] = {}
        # What was stored, and its sender does not know it: until when.
        self._unanswered: dict[Key, float] = {}

    def on_data(self, stream: DataStream, session: SMTPSession) -> str:
        content = stream.read()
        message_id = email.message_from_bytes(content, policy=email.policy.SMTP)["Message-ID"]
        recipients = tuple(sorted(address.address for address in session.envelope.rcpt_to))
        key = (str(message_id), str(session.envelope.mail_from), recipients)
        with self._lock:
            if message_id:
                self._answering[session.id] = key
            if self._unanswered.pop(key, 0.0) > time.monotonic():
                # Should this answer get lost as well, the event says so once more.
                return "we have that already"
            self.stored.append(content)
        return "stored"

    def answered(self, message: MessageInfo) -> None:
        """What became of the answer to a message."""
        with self._lock:
            key = self._answering.pop(message.id, None)
            if key is not None and message.accepted and not message.reply_written:
                log.warning("%s: stored, and the client does not know", message.id)
                self._unanswered[key] = time.monotonic() + REMEMBERED_SECONDS


def make_server(inbox: Inbox) -> SMTPServer:
    server = SMTPServer(auth_optional=True, on_data=inbox.on_data)
    server.on("message", inbox.answered)
    return server


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
    make_server(Inbox()).serve_forever(port, "127.0.0.1")
