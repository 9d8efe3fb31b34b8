"""`python -m tests.soak --dialogues 200000 --seed 1`: see soak.py.

Ends with status 1, and says why, where a message was lost, doubled or taken for whole, or where the
servers use more than before.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from .counts import Fate
from .soak import MEMORY, Report, Soak


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=Soak.__doc__)
    parser.add_argument("--dialogues", type=int, default=200_000, help="how many, warm-up included")
    parser.add_argument("--seed", type=int, default=1, help="the same seed: the same dialogues")
    parser.add_argument("--report", type=Path, help="file for the figures, as JSON")
    options = parser.parse_args()
    report = Soak(options.dialogues, options.seed, lambda line: print(line, flush=True)).run()
    show(report)
    if options.report:
        options.report.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    return 1 if report.complaints else 0


def show(report: Report) -> None:
    """Print the tables."""
    total = report.dialogues.total()
    print(f"\n{'kind':24}{'dialogues':>10}" + "".join(f"{fate.value:>14}" for fate in Fate))
    for kind, dialogues in report.dialogues.most_common():
        fates = report.tally.fates.get(kind, Counter())
        print(f"{kind:24}{dialogues:10}" + "".join(f"{fates[fate]:14}" for fate in Fate))
    print(f"{'':24}{total:10}" + "".join(f"{report.tally.of(fate):14}" for fate in Fate))
    print(f"\nmessages seen by the application: {report.tally.seen}")
    print(f"\n{'servers':24}{'threads':>10}{'descriptors':>14}{'memory, KB':>14}{'objects':>14}")
    for name, figures in (
        ("after the warm-up", report.before),
        ("at the end", report.after),
        ("without idle clients", report.closed),
    ):
        if figures is not None:
            print(
                f"{name:24}{figures.threads:10}{figures.descriptors:14}"
                f"{figures.memory // 1024:14}{figures.objects:14}"
            )
    print(
        f"(memory: VmRSS after a collection and malloc_trim; {MEMORY // 1024} KB more are allowed)"
    )
    print(f"\ncertificates replaced: {report.told.get('replaced')} times")
    for warning, times in sorted(report.told.get("warnings", {}).items()):
        print(f"warning, {times} times: {warning}")
    print(f"{total} dialogues in {report.seconds:.0f} s: {total / report.seconds:.0f} a second")
    for complaint in report.complaints:
        print(f"WRONG: {complaint}")


if __name__ == "__main__":
    sys.exit(main())
