"""The figures of a run: kept as JSON, so that the report can be made anew."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .load.usage import Sample


@dataclass
class Measured:
    """The samples of one contender in one workload, by round, or why there are none."""

    samples: list[Sample] = field(default_factory=list)
    failure: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(sample.value for sample in self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the most."""
        values = [sample.value for sample in self.samples]
        return min(values), max(values)

    @property
    def load(self) -> float | None:
        """The median share of a core that the load had."""
        return _median([sample.load for sample in self.samples])

    @property
    def server(self) -> float | None:
        """The same for the server."""
        return _median([sample.server for sample in self.samples])


def _median(shares: list[float | None]) -> float | None:
    known = [share for share in shares if share is not None]
    return statistics.median(known) if known else None


@dataclass
class Results:
    """All that a run found out."""

    machine: dict[str, str]
    date: str
    rounds: int
    quick: bool
    versions: dict[str, str] = field(default_factory=dict)
    """Of the contenders that were measured, by name."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Contenders that could not be, and why."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Workloads that could not be, and why."""
    seconds: float = 0.0
    """How long the whole run took."""
    figures: dict[str, dict[str, Measured]] = field(default_factory=dict)
    """By workload and contender."""

    def measured(self, workload: str, contender: str) -> Measured | None:
        """The figures, None where there are none."""
        found = self.figures.get(workload, {}).get(contender)
        return found if found is not None and found.samples else None

    def why_not(self, workload: str, contender: str) -> str:
        """Why `measured` is None."""
        if workload in self.skipped:
            return self.skipped[workload]
        if contender in self.left_out:
            return "left out"
        found = self.figures.get(workload, {}).get(contender)
        if found is not None and found.failure:
            return found.failure
        return "not in this run"


def save(results: Results, path: Path) -> None:
    """Write the results as JSON."""
    path.write_text(json.dumps(asdict(results), indent=1) + "\n")


def load(path: Path) -> Results:
    """Read what `save` wrote. Raises OSError, ValueError."""
    content: dict[str, Any] = json.loads(path.read_text())
    figures = {
        workload: {
            name: Measured([Sample(*sample) for sample in one["samples"]], one["failure"])
            for name, one in contenders.items()
        }
        for workload, contenders in content.pop("figures").items()
    }
    return Results(**content, figures=figures)
