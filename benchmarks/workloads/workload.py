"""What every workload says of itself and can do."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..contenders import Feature
from ..load.usage import Sample
from ..processes import Server, Settings


class Workload(ABC):
    """A kind of load and how its figure is taken.

    `measure` raises MeasurementError or OSError where there is no figure.
    """

    name: str
    """On the command line."""
    title: str
    """In the report and the chart."""
    unit: str
    explanation: str
    """What is timed, and what has to be known to judge the figures; Markdown."""
    smaller_is_better = False
    needs = Feature.PLAIN
    settings = Settings()
    one_core = False
    """Client and server on one core; else on two, as the scheduler wants."""
    fresh = False
    """A new process of the server for every round: for memory, which grows and stays."""
    most_rounds = 100
    """More would only repeat the same figure."""

    def require(self) -> None:  # noqa: B027 (most need nothing)
        """Raise Unavailable where a program is missing that the workload itself needs."""

    @abstractmethod
    def prepare(self, server: Server) -> int:
        """Warm the server up, and find out how much one run should be, for this contender."""

    @abstractmethod
    def measure(self, server: Server, amount: int) -> Sample:
        """One run."""
