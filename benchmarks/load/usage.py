"""Who used how much of the processor: whether the load held the server back is seen from it."""

from __future__ import annotations

import resource
import time
from typing import NamedTuple

from ..processes import Server


class Usage(NamedTuple):
    """Seconds of the clock, and of processor time of the load and of the server."""

    wall: float
    load: float
    server: float

    def since(self, before: Usage) -> Usage:
        """What was used between."""
        return Usage(*(now - then for now, then in zip(self, before, strict=True)))


class Sample(NamedTuple):
    """One figure, and the shares of one core that load and server had meanwhile.

    The shares are None where they say nothing.
    """

    value: float
    load: float | None = None
    server: float | None = None


def usage(server: Server) -> Usage:
    """What was used so far, by this process and those of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = time.process_time() + children.ru_utime + children.ru_stime
    return Usage(time.monotonic(), own, server.cpu_seconds())


def rate(amount: float, used: Usage) -> Sample:
    """So much in that time, a second."""
    return Sample(amount / used.wall, used.load / used.wall, used.server / used.wall)
