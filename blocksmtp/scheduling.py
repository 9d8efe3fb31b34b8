"""How connection threads share a core."""

from __future__ import annotations

import contextlib
import os


def let_others_finish() -> None:
    """Have this thread, when it wakes up, not push another off its core.

    A thread whose client has said something wants the interpreter lock first. If for its sake the
    kernel interrupts the thread that holds the lock, both lose: the one that wakes goes to sleep
    again at once. SCHED_BATCH (see sched(7)) is Linux's word for that; the thread's share of the
    processor stays what it was. What a callback starts inherits it. A policy that somebody has
    chosen is left alone. Of `python -m benchmarks` the workload "8 sessions, two cores" shows what
    it is worth: 1.3 times.
    """
    if hasattr(os, "SCHED_BATCH"):
        # A sandbox may forbid it.
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
