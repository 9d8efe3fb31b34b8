"""Messages of 1 KB with smtp-source: on sessions that last, and on new connections."""

from __future__ import annotations

from ..load import smtp_source
from ..load.usage import Sample, Usage, rate, usage
from ..processes import Server
from ..scale import Scale
from .calibration import amount_for
from .workload import Workload

_FIRST = 2
"""Messages a session that are not timed: with them goes the time to connect and to be greeted."""


class Messages(Workload):
    """One connection after another would be another workload: here they last."""

    unit = "messages/s"

    def __init__(
        self, name: str, title: str, sessions: int, scale: Scale, *, one_core: bool = False
    ) -> None:
        self.name = name
        self.title = f"1 KB messages, {title}"
        self.one_core = one_core
        self._sessions = sessions
        self._seconds = scale.seconds
        self.explanation = (
            "`smtp-source -d`, which does not pipeline. What a run of a few messages takes is "
            "taken off, so that neither the connections nor a delay before the greeting count."
        )
        if one_core:
            self.explanation += " Load and server share one core, so their shares add up to it."
        if sessions == 1:
            self.explanation += (
                " Load and server wait for each other in turn: neither can reach a whole core."
            )

    def require(self) -> None:
        smtp_source.path()

    def _slope(self, server: Server, amount: int) -> Usage:
        """What `amount` messages use beyond the first few."""
        first = _FIRST * self._sessions
        begin = usage(server)
        smtp_source.send(server.port, first, self._sessions)
        middle = usage(server)
        smtp_source.send(server.port, first + amount, self._sessions)
        return slope(begin, middle, usage(server))

    def prepare(self, server: Server) -> int:
        return amount_for(
            self._seconds, 20 * self._sessions, lambda amount: self._slope(server, amount).wall
        )

    def measure(self, server: Server, amount: int) -> Sample:
        return rate(amount, self._slope(server, amount))


def slope(begin: Usage, middle: Usage, end: Usage) -> Usage:
    """What the longer of two runs took more: a short one up to `middle`, a long one up to `end`."""
    return end.since(middle).since(middle.since(begin))


class NewConnections(Workload):
    """A connection for every message."""

    name = "new-connections"
    title = "A new connection for each 1 KB message"
    unit = "messages/s"
    explanation = (
        "`smtp-source`, 8 connections at a time, one message in each. All is timed, a delay before "
        "the greeting too."
    )

    def __init__(self, scale: Scale) -> None:
        self._seconds = scale.seconds

    def require(self) -> None:
        smtp_source.path()

    def _run(self, server: Server, amount: int) -> Usage:
        before = usage(server)
        smtp_source.send(server.port, amount, 8, reconnect=True)
        return usage(server).since(before)

    def prepare(self, server: Server) -> int:
        return amount_for(self._seconds, 16, lambda amount: self._run(server, amount).wall)

    def measure(self, server: Server, amount: int) -> Sample:
        return rate(amount, self._run(server, amount))
