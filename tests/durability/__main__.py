"""`python -m tests.durability --kills 100 --seed 1`: the server and its workers, each as often."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from .killing import WAYS


def main() -> int:
    """Kill, check, and say how much was acknowledged meanwhile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    chosen = parser.parse_args()
    for name, kill in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            count = kill(Path(folder), chosen.kills, chosen.seed)
        print(
            f"{name} killed {chosen.kills} times (seed {chosen.seed}): "
            f"{count} messages acknowledged, none lost, none twice, all whole",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
