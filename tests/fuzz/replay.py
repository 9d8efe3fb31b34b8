"""Run inputs again: `python -m tests.fuzz.replay TARGET FILE ...`. The first that fails raises."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.fuzz.targets import TARGETS


def main() -> None:
    """Run the files that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.replay", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    given = parser.parse_args()
    for path in given.files:
        octets = path.read_bytes()
        print(f"{path}: {octets!r}", flush=True)
        TARGETS[given.target].run(octets)


if __name__ == "__main__":
    main()
