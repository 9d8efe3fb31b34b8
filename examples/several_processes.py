"""One port, several processes: for who has more than one core to give.

    python examples/several_processes.py

and in another terminal, several times: the reply names the process that took the message.

    swaks --server 127.0.0.1:2525 --from alice@example.com --to bob@example.com

Each process binds a socket of its own to the same port (SO_REUSEPORT), and the kernel deals the
connections out. What a server counts, as `max_clients`, each process counts for itself.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
from multiprocessing.connection import wait

from blocksmtp import DataStream, SMTPServer, SMTPSession

PROCESSES = 2


def on_data(stream: DataStream, session: SMTPSession) -> str:
    while stream.read(65536):
        pass
    return f"taken by process {os.getpid()}"


def bound(port: int) -> socket.socket:
    """A socket on the port, beside others on the same; 0 for a free port."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def serve(port: int) -> None:
    """What each process does: it ends with SIGTERM or Ctrl-C, messages in progress first."""
    logging.basicConfig(level=logging.INFO)
    server = SMTPServer(name="mx.example.com", auth_optional=True, on_data=on_data)
    server.serve_forever(sock=bound(port))


def main(port: int) -> int:
    """Start the processes and wait for them; when one ends, for whatever reason, end all."""
    # It never listens, so no client comes to it: it keeps the port while processes come and go.
    with bound(port) as reserved:
        # New interpreters, not copies of this one with all that it may have open.
        context = multiprocessing.get_context("spawn")
        arguments = (reserved.getsockname()[1],)
        processes = [context.Process(target=serve, args=arguments) for _ in range(PROCESSES)]
        for process in processes:
            process.start()

        def stop(*_: object) -> None:
            for process in processes:
                process.terminate()

        signal.signal(signal.SIGTERM, stop)
        try:
            wait([process.sentinel for process in processes])
        except KeyboardInterrupt:
            pass  # Ctrl-C has gone to all of them.
        else:
            stop()
        for process in processes:
            process.join()
        # SIGTERM ends one that does not listen yet without more ado.
        return int(any(process.exitcode not in (0, -signal.SIGTERM) for process in processes))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2525))
