"""Finds how much to do so that a run takes as long as it should."""

from __future__ import annotations

from collections.abc import Callable

_ENOUGH = 0.4
"""The share of the time from which on the rest is extrapolated."""
_GROWTH = 8.0
_TOO_SHORT = 0.001  # seconds: more noise than time


def amount_for(seconds: float, first: int, duration: Callable[[int], float]) -> int:
    """The amount that takes so many seconds; `duration` does a given amount and returns its time.

    The tries are a warm-up as well. The time of an amount may be noise, or even be less than
    nothing, where it is a difference: then more is tried.
    """
    amount = first
    while True:
        took = max(duration(amount), _TOO_SHORT)
        wanted = amount * seconds / took
        if took >= _ENOUGH * seconds:
            return max(first, round(wanted))
        amount = round(min(max(wanted, amount + 1), amount * _GROWTH))
