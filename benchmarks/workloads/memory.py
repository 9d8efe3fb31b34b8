"""The memory of clients that are idle, and of one large message."""

from __future__ import annotations

import contextlib

from ..contenders import Feature
from ..load.client import ENVELOPE, Session, connect, open_session, tls_context
from ..load.usage import Sample
from ..processes import Server, Settings
from ..scale import Scale
from .bulk import lines
from .workload import Workload

_AT_ONCE = 50
"""Clients that connect before the first is greeted: a delay is had once for all of them."""

_BLOCK = 10_000_000
_KIB_IN_MB = 1024 / 1e6


class Idle(Workload):
    """What a client that is connected and says nothing costs."""

    unit = "KiB"
    smaller_is_better = True
    fresh = True
    most_rounds = 3

    def __init__(self, name: str, scale: Scale, *, secure: bool) -> None:
        self.name = name
        self.title = f"Memory of an idle client{', TLS' if secure else ''}"
        self.needs = Feature.TLS if secure else Feature.PLAIN
        self.settings = Settings(secure=secure)
        self.explanation = (
            f"{scale.idle_clients} clients that have said EHLO and stay; what the server's memory "
            "(Pss) grew by, for each. The first client, untimed, loads what all need."
        )
        self._clients = scale.idle_clients
        self._context = tls_context() if secure else None

    def prepare(self, server: Server) -> int:
        return self._clients

    def measure(self, server: Server, amount: int) -> Sample:
        with contextlib.ExitStack() as stack:
            self._connect(server, 1, stack)
            before = server.memory_kib()
            for start in range(0, amount, _AT_ONCE):
                self._connect(server, min(_AT_ONCE, amount - start), stack)
            return Sample((server.memory_kib() - before) / amount)

    def _connect(self, server: Server, clients: int, stack: contextlib.ExitStack) -> None:
        sessions = []
        for _ in range(clients):
            sock = connect(server.port)
            stack.callback(sock.close)
            if self._context is not None:
                sock = self._context.wrap_socket(sock)
                stack.callback(sock.close)
            sessions.append(Session(sock))
        for session in sessions:
            session.greet()


class LargeMessage(Workload):
    """How much more memory a message takes while it comes in."""

    name = "large-message"
    unit = "MB"
    smaller_is_better = True
    fresh = True
    most_rounds = 3

    def __init__(self, scale: Scale) -> None:
        self.title = f"More memory for a message of {scale.large_octets / 1e6:g} MB"
        self.explanation = (
            "The peak (VmHWM, reset through `/proc/PID/clear_refs`) during the message, less what "
            "was resident (VmRSS) after a small message in the same session. Lines of 998."
        )
        self._octets = scale.large_octets

    def prepare(self, server: Server) -> int:
        return self._octets

    def measure(self, server: Server, amount: int) -> Sample:
        block = lines("bulk-998", _BLOCK)
        session = open_session(server.port)
        with session.sock:
            session.deliver(b"Subject: small\r\n\r\nSmall.\r\n.\r\n")
            before = server.reset_peak()
            for line in ENVELOPE:
                session.command(line)
            left = amount
            while left > 0:
                part = block[: left - left % 1000] if left < len(block) else block
                if not part:
                    break
                session.sock.sendall(part)
                left -= len(part)
            session.sock.sendall(b".\r\n")
            session.read()
            grown = server.peak_kib() - before
            session.quit()
        return Sample(grown * _KIB_IN_MB)
