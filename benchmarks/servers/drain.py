"""The cheapest server in Python that ends a message at all: what the load itself can send.

Fixed replies, a thread a connection, and of a message only the last octets of each read are looked
at. See `blocksmtp_server` for what all server programs here have in common.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading

END = b"\r\n.\r\n"


def serve(sock: socket.socket, context: ssl.SSLContext | None) -> None:
    """Answer one client until it has gone."""
    room = bytearray(1 << 18)
    view = memoryview(room)
    wrapped = sock if context is None else context.wrap_socket(sock, server_side=True)
    with wrapped:
        wrapped.sendall(b"220 drain\r\n")
        tail = None
        while count := wrapped.recv_into(view):
            if tail is not None:
                tail = (tail + room[max(0, count - len(END)) : count])[-len(END) :]
                if tail == END:
                    tail = None
                    wrapped.sendall(b"250 OK\r\n")
                continue
            for line in bytes(view[:count]).splitlines():
                if line == b"DATA":
                    tail = b""
                wrapped.sendall(b"354 Go on\r\n" if line == b"DATA" else b"250 OK\r\n")


def accept(listener: socket.socket, context: ssl.SSLContext | None) -> None:
    """Serve every client that comes."""
    while True:
        sock = listener.accept()[0]
        threading.Thread(target=serve, args=(sock, context), daemon=True).start()


def main() -> None:
    """Serve until standard input ends."""
    settings = json.loads(sys.argv[1])
    context = None
    if settings["secure"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings["certificate"], settings["key"])
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    threading.Thread(target=accept, args=(listener, context), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
