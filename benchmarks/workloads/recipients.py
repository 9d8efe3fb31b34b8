"""A small message to many recipients, the envelope in one write."""

from __future__ import annotations

from ..load.client import ENVELOPE, open_session
from ..load.usage import Sample, Usage, rate, usage
from ..processes import Server
from ..scale import Scale
from .calibration import amount_for
from .workload import Workload

_RECIPIENTS = 50
_COMMANDS = b"".join(
    [
        ENVELOPE[0],
        *(b"RCPT TO:<recipient%d@mx.example>\r\n" % number for number in range(_RECIPIENTS)),
        ENVELOPE[2],
    ]
)
_BODY = b"Subject: hello\r\n\r\nHello!\r\n.\r\n"


class Recipients(Workload):
    """A pipelined group (RFC 2920) of 52 commands."""

    name = "recipients-50"
    title = f"{_RECIPIENTS} recipients in one write"
    unit = "messages/s"
    explanation = (
        f"One session. MAIL, {_RECIPIENTS} RCPT and DATA in one write, {_RECIPIENTS + 2} replies, "
        "a short message. Load and server wait for each other in turn."
    )

    def __init__(self, scale: Scale) -> None:
        self._seconds = scale.bulk_seconds

    def _run(self, server: Server, amount: int) -> Usage:
        session = open_session(server.port)
        with session.sock:
            before = usage(server)
            for _ in range(amount):
                session.sock.sendall(_COMMANDS)
                session.read(_RECIPIENTS + 2)
                session.sock.sendall(_BODY)
                session.read()
            used = usage(server).since(before)
            session.quit()
        return used

    def prepare(self, server: Server) -> int:
        return amount_for(self._seconds, 5, lambda amount: self._run(server, amount).wall)

    def measure(self, server: Server, amount: int) -> Sample:
        return rate(amount, self._run(server, amount))
