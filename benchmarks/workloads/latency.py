"""How long one delivery of smtplib's takes."""

from __future__ import annotations

import smtplib
import statistics
import time

from ..load.client import HOST
from ..load.usage import Sample, usage
from ..processes import Server
from ..scale import Scale
from .workload import Workload

_MESSAGE = "Subject: hello\r\n\r\nHello!\r\n"


class Latency(Workload):
    """What a program that sends a message now and then waits for it."""

    name = "latency"
    title = "One delivery with smtplib, p50"
    unit = "ms"
    smaller_is_better = True

    def __init__(self, scale: Scale) -> None:
        self.explanation = (
            f"Connect, EHLO, MAIL, RCPT, DATA, QUIT; {scale.deliveries} deliveries one after "
            f"the other (fewer, where they take more than {scale.patience:g} s), the median of "
            "them. smtplib's own time is part of it. Load and server wait for each other in turn."
        )
        self._scale = scale

    def prepare(self, server: Server) -> int:
        for _ in range(5):
            _deliver(server.port)
        return self._scale.deliveries

    def measure(self, server: Server, amount: int) -> Sample:
        before = usage(server)
        times: list[float] = []
        while len(times) < amount and sum(times) < self._scale.patience:
            begin = time.perf_counter()
            _deliver(server.port)
            times.append(time.perf_counter() - begin)
        used = usage(server).since(before)
        milliseconds = 1000 * statistics.median(times)
        return Sample(milliseconds, used.load / used.wall, used.server / used.wall)


def _deliver(port: int) -> None:
    # With a name given it does not look its own up.
    with smtplib.SMTP(HOST, port, "client.example", timeout=30) as client:
        client.sendmail("sender@client.example", ["recipient@mx.example"], _MESSAGE)
