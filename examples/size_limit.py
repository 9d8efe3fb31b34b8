"""A size limit, and reading a message piece by piece.

    python examples/size_limit.py

and in another terminal, a message that is small enough, and one that is not:

    swaks --server 127.0.0.1:2525 --to bob@example.com
    head -c 2000000 /dev/zero | base64 > large.txt
    curl smtp://127.0.0.1:2525 --mail-from a@example.com --mail-rcpt bob@example.com \\
        --upload-file large.txt

curl tells the size beforehand, and is refused at MAIL FROM. Who does not tell it is refused after
the message, of which no more than the limit was ever looked at.
"""

from __future__ import annotations

import hashlib
import logging
import sys

from blocksmtp import DataStream, SMTPError, SMTPServer, SMTPSession

LARGEST = 1_000_000  # bytes


def on_data(stream: DataStream, session: SMTPSession) -> str:
    digest = hashlib.sha256()
    while piece := stream.read(65_536):
        digest.update(piece)
    # What was read is only the beginning then: throw it away. The server would refuse by itself;
    # this is to do it in our own words.
    if stream.size_exceeded:
        limit = f"at most {LARGEST} bytes"
        raise SMTPError(f"Message of {stream.byte_length} bytes: {limit}", 552, "5.3.4")
    return f"{stream.byte_length} bytes, SHA-256 {digest.hexdigest()}"


def make_server() -> SMTPServer:
    return SMTPServer(auth_optional=True, size=LARGEST, on_data=on_data)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
    make_server().serve_forever(port, "127.0.0.1")
