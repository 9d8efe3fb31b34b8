"""The benchmarks read processor time and memory from /proc: they are for Linux."""

from __future__ import annotations

import sys

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]
