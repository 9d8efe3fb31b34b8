"""How many times better than another: the one number that means the same in every workload."""

from __future__ import annotations

from .contenders import CONTENDERS, Contender, Kind
from .results import Results
from .targets import OURS, Bound, Target, ratio
from .workloads import Workload


def peers(results: Results) -> list[Contender]:
    """Those that blocksmtp is compared with, as far as they were measured at all."""
    return [
        contender
        for contender in CONTENDERS
        if contender.kind in (Kind.PRODUCT, Kind.ANCHOR)
        and contender.name != OURS
        and any(results.measured(workload, contender.name) for workload in results.figures)
    ]


def times_better(results: Results, workload: Workload, peer: str, ours: str = OURS) -> float | None:
    """How many times more blocksmtp does than the peer, or how many times less it needs.

    None where one of the two was not measured.
    """
    found = ratio(results, workload.name, ours, peer)
    if found is None or not found:
        return None
    return 1 / found if workload.smaller_is_better else found


def target_times_better(target: Target) -> float:
    """The target in the same measure. It must be one against a peer."""
    return target.value if target.bound is Bound.AT_LEAST else 1 / target.value


def shown(number: float) -> str:
    """A number with as many digits as say something."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"
