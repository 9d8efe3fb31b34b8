"""Large messages on one session, in lines of several shapes, in clear and in TLS."""

from __future__ import annotations

import functools

from ..contenders import Feature
from ..load.client import ENVELOPE, Session, open_session, tls_context
from ..load.usage import Sample, Usage, rate, usage
from ..processes import Server, Settings
from ..scale import Scale
from .calibration import amount_for
from .workload import Workload

_END = b".\r\n"
_LINES = {
    "bulk-998": b"x" * 998 + b"\r\n",
    "bulk-70": b"x" * 70 + b"\r\n",
    # As it is on the wire: a dot of the line, and the one that stuffs it.
    "bulk-dotted": b".." + b"x" * 69 + b"\r\n",
}


def lines(name: str, octets: int) -> bytes:
    """Lines of a shape, as on the wire, of about so many octets and not more."""
    line = _LINES["bulk-998" if name == "bulk-tls" else name]
    return line * (octets // len(line))


class Bulk(Workload):
    """Octets as fast as the server takes them."""

    unit = "MB/s"

    def __init__(self, name: str, shape: str, scale: Scale) -> None:
        self.name = name
        secure = name == "bulk-tls"
        self.title = f"{scale.bulk_octets / 1e6:g} MB messages, {shape}"
        self.needs = Feature.TLS if secure else Feature.PLAIN
        self.settings = Settings(secure=secure)
        self._context = tls_context() if secure else None
        self._octets = scale.bulk_octets
        self._seconds = scale.bulk_seconds
        self.explanation = (
            "One session, message after message from memory; the envelope of each is timed with "
            "it. Octets as on the wire. `drain` tells what the load itself can send"
            + (", which here has to encrypt." if secure else ".")
        )

    @functools.cached_property
    def _body(self) -> bytes:
        return lines(self.name, self._octets) + _END

    def _deliver(self, session: Session, amount: int) -> None:
        for _ in range(amount):
            for line in ENVELOPE:
                session.command(line)
            session.sock.sendall(self._body)
            session.read()

    def _run(self, server: Server, amount: int) -> Usage:
        session = open_session(server.port, self._context)
        with session.sock:
            before = usage(server)
            self._deliver(session, amount)
            used = usage(server).since(before)
            session.quit()
        return used

    def prepare(self, server: Server) -> int:
        return amount_for(self._seconds, 1, lambda amount: self._run(server, amount).wall)

    def measure(self, server: Server, amount: int) -> Sample:
        return rate(amount * len(self._body) / 1e6, self._run(server, amount))
