"""LMTP (RFC 2033), the last step into a mailbox: one message, one reply for each recipient.

    python examples/lmtp_replies.py

and in another terminal:

    swaks --protocol LMTP --server 127.0.0.1:2525 --from carol@example.org \\
        --to alice@example.com,bob@example.com

The second message is too much for bob's mailbox, and refused for him alone. In Postfix:
`virtual_transport = lmtp:inet:127.0.0.1:2525`.
"""

from __future__ import annotations

import logging
import sys
import threading
from dataclasses import dataclass, field

from blocksmtp import DataStream, SMTPAddress, SMTPError, SMTPServer, SMTPSession


@dataclass
class Mailbox:
    """Messages in memory; connections share it, so it has a lock."""

    capacity: int
    messages: list[bytes] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def deliver(self, message: bytes) -> int:
        """Add a message; how many there are. Raises SMTPError when there is no more room."""
        with self.lock:
            if len(self.messages) >= self.capacity:
                raise SMTPError("Mailbox full", 452, "4.2.2")
            self.messages.append(message)
            return len(self.messages)


def make_server(mailboxes: dict[str, Mailbox]) -> SMTPServer:
    def on_rcpt_to(address: SMTPAddress, session: SMTPSession) -> None:
        if address.address.lower() not in mailboxes:
            raise SMTPError("No such mailbox here", 550, "5.1.1")

    def on_data(stream: DataStream, session: SMTPSession) -> list[str | SMTPError]:
        message = session.received_header() + stream.read()
        replies: list[str | SMTPError] = []
        for recipient in session.envelope.rcpt_to:
            try:
                count = mailboxes[recipient.address.lower()].deliver(message)
                replies.append(f"{recipient.address} has {count} message(s)")
            except SMTPError as error:
                # An error in the list refuses for this recipient; raised, it would for all.
                replies.append(error)
        return replies

    return SMTPServer(
        lmtp=True, auth_optional=True, size=10_000_000, on_rcpt_to=on_rcpt_to, on_data=on_data
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
    boxes = {"alice@example.com": Mailbox(100), "bob@example.com": Mailbox(1)}
    make_server(boxes).serve_forever(port, "127.0.0.1")
