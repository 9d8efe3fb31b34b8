"""blocksmtp with its default options, in one process or several.

Every server program here takes one argument, settings as JSON (see `benchmarks.contenders`), prints
its port when it listens, and ends at SIGTERM or when its standard input ends.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from blocksmtp import DataStream, SMTPServer, SMTPSession


def start(settings: dict[str, Any], sock: socket.socket | None = None) -> SMTPServer:
    """A server that listens, on `sock` or a port of its own."""
    seconds = settings["sleep"]

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        while stream.read(65536):
            pass
        if seconds:
            time.sleep(seconds)

    server = SMTPServer(
        name="mx.example",
        auth_optional=True,
        disable_reverse_lookup=True,
        max_clients=None,
        cert=Path(settings["certificate"]),
        key=Path(settings["key"]),
        on_data=on_data,
    )
    if sock is None:
        return server.listen(0, "127.0.0.1", secure=settings["secure"])
    return server.listen(sock=sock, secure=settings["secure"])


def fork(settings: dict[str, Any], processes: int) -> int:
    """Start so many processes that share a port; returns the port.

    They end with the standard input, which they share too.
    """
    shared = settings.get("shared_socket", False)
    reserved = socket.socket()
    if not shared:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("127.0.0.1", 0))
    ours, theirs = os.pipe()
    for _ in range(processes):
        if os.fork() == 0:
            os.close(ours)
            if shared:
                sock = reserved
            else:
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.bind(reserved.getsockname())
                reserved.close()
            with start(settings, sock):
                os.write(theirs, b"+")
                os.close(theirs)
                sys.stdin.buffer.read()
            os._exit(0)
    os.close(theirs)
    for _ in range(processes):
        if os.read(ours, 1) != b"+":
            sys.exit("a process did not start")
    port: int = reserved.getsockname()[1]
    return port


def main() -> None:
    """Serve until standard input ends."""
    settings = json.loads(sys.argv[1])
    processes = settings.get("processes", 1)
    if processes > 1:
        print(fork(settings, processes), flush=True)
        sys.stdin.buffer.read()
    else:
        with start(settings) as server:
            print(server.port, flush=True)
            sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
