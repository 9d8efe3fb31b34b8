"""What ends the command line before it has begun."""

from __future__ import annotations


class CannotStart(Exception):
    """Something that was asked for cannot be done; the text, one line, says what and why."""


def reason_of(error: Exception) -> str:
    """What went wrong, without the number and the file that an OSError shows."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
