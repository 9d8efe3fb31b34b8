"""Rate limiting by address: whoever fails to log in too often has to wait.

    python examples/rate_limiting.py

and in another terminal, six times:

    swaks --server 127.0.0.1:2525 --tls --quit-after AUTH --auth PLAIN \\
        --auth-user alice --auth-password wrong
"""

from __future__ import annotations

import hmac
import logging
import sys
import threading
import time
from collections.abc import Callable

from blocksmtp import LoginAuth, PlainAuth, SMTPError, SMTPServer, SMTPSession

PASSWORDS = {"alice": "secret123"}
FAILURES = 5
SECONDS = 600.0


class FailedLogins:
    """Counts failures by address, and forgets an address some time after its last one.

    Each connection has a thread of its own, so what they share needs a lock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # Count and time of the last failure; the oldest comes first.
        self._failures: dict[str, tuple[int, float]] = {}

    def too_many(self, address: str) -> bool:
        with self._lock:
            self._forget_old()
            return self._failures.get(address, (0, 0.0))[0] >= FAILURES

    def add(self, address: str) -> None:
        with self._lock:
            self._forget_old()
            count, _ = self._failures.pop(address, (0, 0.0))
            self._failures[address] = (count + 1, self._clock())

    def clear(self, address: str) -> None:
        with self._lock:
            self._failures.pop(address, None)

    def _forget_old(self) -> None:
        """So that strangers cannot fill the memory."""
        horizon = self._clock() - SECONDS
        while self._failures:
            oldest = next(iter(self._failures))
            if self._failures[oldest][1] > horizon:
                break
            del self._failures[oldest]


def make_server(clock: Callable[[], float] = time.monotonic) -> SMTPServer:
    failed = FailedLogins(clock)

    def on_connect(session: SMTPSession) -> None:
        if failed.too_many(session.remote_address):
            raise SMTPError("Too many failed attempts, try again later", 421, "4.7.0")

    def on_auth(auth: PlainAuth | LoginAuth, session: SMTPSession) -> str:
        # Connections that were open before are no way around the limit.
        if failed.too_many(session.remote_address):
            raise SMTPError("Too many failed attempts, try again later", 421, "4.7.0")
        right = PASSWORDS.get(auth.username, "")
        same = hmac.compare_digest(right.encode(), auth.password.encode())
        if not same or auth.username not in PASSWORDS:
            failed.add(session.remote_address)
            raise SMTPError("Invalid credentials", 535)
        failed.clear(session.remote_address)
        return auth.username

    # Two more limits, which the server keeps by itself.
    return SMTPServer(
        max_clients_per_address=20, max_auth_failures=3, on_connect=on_connect, on_auth=on_auth
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
    make_server().serve_forever(port, "127.0.0.1")
