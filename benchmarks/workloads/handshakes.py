"""TLS handshakes, several at a time."""

from __future__ import annotations

from ..contenders import Feature
from ..errors import MeasurementError
from ..load.fleet import Fleet
from ..load.usage import Sample, Usage, rate
from ..processes import Server, Settings
from ..scale import Scale
from .workload import Workload

_EXPLANATION = (
    "TLS 1.3, ECDSA P-256. {0} processes make one handshake after another. {1} In TLS 1.3 a client "
    "is done before the server is: after each batch, untimed, every connection has a dialogue "
    "and is closed by QUIT, so no server got away with less."
)
_TIMED = {
    "full": "Timed from `connect` to the end of the client's handshake, the greeting not.",
    "resumed": "Timed like full handshakes; each process resumes one session of its own, and all "
    "must be resumptions.",
    "starttls": "Connections have said EHLO before; timed are STARTTLS, its reply and the "
    "handshake.",
}


class Handshakes(Workload):
    """Handshakes of one kind: see `load.handshaker.KINDS`."""

    unit = "handshakes/s"

    def __init__(self, name: str, title: str, kind: str, scale: Scale) -> None:
        self.name = name
        self.title = title
        self.needs = Feature.STARTTLS if kind == "starttls" else Feature.TLS
        self.settings = Settings(secure=kind != "starttls")
        self.explanation = _EXPLANATION.format(scale.load_processes, _TIMED[kind])
        self._kind = kind
        self._scale = scale

    def _run(self, server: Server, batches: int) -> Sample:
        scale = self._scale
        used = Usage(0.0, 0.0, 0.0)
        number = batches * scale.load_processes * scale.handshakes
        resumed = 0
        with Fleet(scale.load_processes, server.port, self._kind, scale.handshakes) as fleet:
            for _ in range(batches):
                batch, resumptions = fleet.batch(server)
                used = Usage(*map(sum, zip(used, batch, strict=True)))
                resumed += resumptions
        if resumed != (number if self._kind == "resumed" else 0):
            raise MeasurementError(
                f"does not resume: {resumed} of {number} handshakes were resumptions"
            )
        return rate(number, used)

    def prepare(self, server: Server) -> int:
        self._run(server, 1)
        return self._scale.batches

    def measure(self, server: Server, amount: int) -> Sample:
        return self._run(server, amount)
