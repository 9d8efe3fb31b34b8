"""Results that nobody measured, to see what becomes of them."""

from __future__ import annotations

from benchmarks.load.usage import Sample
from benchmarks.results import Measured, Results


def measured(*values: float, load: float = 0.5, server: float = 0.75) -> Measured:
    return Measured([Sample(value, load, server) for value in values])


def results(**figures: dict[str, Measured]) -> Results:
    """Results of workloads by name, "_" for "-"."""
    found = {workload.replace("_", "-"): one for workload, one in figures.items()}
    names = {name for one in found.values() for name in one}
    return Results(
        machine={"processor": "abacus"},
        date="2001-02-03 04:05 UTC",
        rounds=3,
        quick=False,
        versions=dict.fromkeys(sorted(names), "1.0"),
        left_out={"bun-smtp": "it is not in the registry"},
        seconds=600.0,
        figures=found,
    )
