"""What can go wrong with a benchmark without being a defect of it."""

from __future__ import annotations


class Unavailable(Exception):
    """A contender or a program that is not there; the text says what is missing and why."""


class MeasurementError(Exception):
    """A measurement that came to no figure; the text says why."""
