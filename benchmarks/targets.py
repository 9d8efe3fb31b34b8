"""What blocksmtp is meant to reach, and whether it did."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .contenders import BY_NAME, CONTENDERS, Kind
from .results import Results

OURS = "blocksmtp"
BEST_PEER = "best peer"
"""The best of the other products that were measured."""


class Bound(Enum):
    """In which direction a target is met."""

    AT_LEAST = "≥"
    AT_MOST = "≤"


@dataclass(frozen=True)
class Target:
    """Our figure, as a multiple of a peer's or, without a peer, in the unit of the workload."""

    workload: str
    peer: str | None
    bound: Bound
    value: float
    ours: str = OURS


def _at_least(workload: str, ours: str = OURS, **peers: float) -> tuple[Target, ...]:
    return tuple(
        Target(workload, peer.replace("_", "-"), Bound.AT_LEAST, value, ours)
        for peer, value in peers.items()
    )


def _best(workload: str, value: float) -> tuple[Target, ...]:
    return (Target(workload, BEST_PEER, Bound.AT_LEAST, value),)


def _at_most(workload: str, peer: str | None, value: float) -> tuple[Target, ...]:
    return (Target(workload, peer, Bound.AT_MOST, value),)


TARGETS = (
    *_at_least("messages-1", aiosmtpd=2.0),
    *_at_least("messages-8", aiosmtpd=2.5),
    *_at_least("messages-8", "blocksmtp-2", bun_smtp=1.0),
    *_at_least("messages-8-one-core", bun_smtp=1.0, aiosmtpd=3.0),
    *_at_least("messages-64", aiosmtpd=2.0),
    *_at_least("new-connections", aiosmtpd=1.5, bun_smtp=15.0),
    *_at_least("new-connections", smtp_server_node=15.0, smtp_server_bun=15.0),
    *_at_least("bulk-998", bun_smtp=1.0, smtp_sink=2.0),
    *_at_least("bulk-70", bun_smtp=1.2),
    *_at_least("bulk-dotted", bun_smtp=1.2),
    *_at_least("recipients-50", bun_smtp=3.0),
    *_best("tls-full", 0.75),
    *_best("tls-resumed", 0.9),
    *_best("starttls", 0.9),
    *_best("bulk-tls", 1.0),
    *_at_most("large-message", None, 6.0),
    *_at_most("idle-plain", "aiosmtpd", 3.0),
    *_at_most("idle-tls", "aiosmtpd", 0.4),
    *_at_most("latency", "aiosmtpd", 0.5),
    *_at_least("blocking-callback", aiosmtpd=8.0),
)


@dataclass(frozen=True)
class Verdict:
    """What a target came to."""

    target: Target
    value: float | None
    """Our multiple of the peer, or our figure; None where it was not measured."""
    peer: str | None = None
    """Who was the peer, for the best of them."""
    reason: str = ""
    """Why it was not measured."""

    @property
    def met(self) -> bool | None:
        """None: not measured."""
        if self.value is None:
            return None
        if self.target.bound is Bound.AT_LEAST:
            return self.value >= self.target.value
        return self.value <= self.target.value


def ratio(results: Results, workload: str, ours: str, peer: str) -> float | None:
    """Our median divided by the peer's; None where one of them is missing or not above zero."""
    mine, theirs = results.measured(workload, ours), results.measured(workload, peer)
    if mine is None or theirs is None or theirs.median <= 0:
        return None
    return mine.median / theirs.median


def best_peer(target: Target, results: Results) -> str | None:
    """The product with the best figure, blocksmtp apart; None where none has any."""
    found = {
        contender.name: measured.median
        for contender in CONTENDERS
        if contender.kind is Kind.PRODUCT and contender.name != OURS
        if (measured := results.measured(target.workload, contender.name)) is not None
    }
    choose = max if target.bound is Bound.AT_LEAST else min
    return choose(found, key=found.__getitem__) if found else None


def judge(target: Target, results: Results) -> Verdict:
    """Whether the target is met."""
    mine = results.measured(target.workload, target.ours)
    if mine is None:
        return _not_measured(target, target.ours, results)
    if target.peer is None:
        return Verdict(target, mine.median)
    peer = best_peer(target, results) if target.peer == BEST_PEER else target.peer
    if peer is None:
        return Verdict(target, None, reason="no other product was measured")
    value = ratio(results, target.workload, target.ours, peer)
    if value is None:
        return _not_measured(target, peer, results)
    return Verdict(target, value, peer)


def _not_measured(target: Target, contender: str, results: Results) -> Verdict:
    why = results.why_not(target.workload, contender)
    label = BY_NAME[contender].label
    reason = f"{label} is left out" if why == "left out" else f"{label}: {why}"
    return Verdict(target, None, reason=reason)
