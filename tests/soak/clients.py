"""A process of clients: `python -m tests.soak.clients`, with a plan as JSON on standard input.

It plays the dialogues of the plan in several threads. Which kind a dialogue is, and what dice it
has, follows from its number and the seed alone. Standard output tells now and then how many are
done, and at the end what there is to tell; each as a line of JSON.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from . import bad, good
from .book import Ledger, Page, Setting, addresses

_MOST_FAILURES = 10
_PROGRESS_EVERY = 1.0  # seconds


class Kind(NamedTuple):
    """A kind of dialogue, and how many of a thousand are of it."""

    play: Callable[[Setting, Page], None]
    good: bool
    share: float


KINDS = (
    *(
        Kind(play, True, share)
        for play, share in (
            (good.one, 220),
            (good.many, 60),
            (good.pipelined, 120),
            (good.starttls, 40),
            (good.implicit, 30),
            (good.resumed, 30),
            (good.lmtp, 70),
            (good.auth, 50),
            (good.refused, 40),
            (good.oversize, 20),
            (good.failing, 20),
        )
    ),
    *(
        Kind(play, False, share)
        for play, share in (
            (bad.reset, 60),
            (bad.fin, 50),
            (bad.gone_in_tls, 10),
            (bad.connect_and_go, 30),
            (bad.garbage, 25),
            (bad.tls_garbage, 20),
            (bad.clear_for_tls, 10),
            (bad.http, 10),
            (bad.smuggling, 30),
            (bad.bare_newlines, 15),
            (bad.endless_line, 8),
            (bad.bad_base64, 10),
            (bad.too_many_recipients, 7),
            (bad.oversized_then_gone, 6),
            (bad.broken_header, 5),
            (bad.silent, 2),
            (bad.dripping, 1.5),
            (bad.never_reading, 0.5),
        )
    ),
)
_SHARES = list(itertools.accumulate(kind.share for kind in KINDS))


class Clients:
    """The threads that play dialogues."""

    def __init__(self, setting: Setting, ledger: Ledger, seed: int, numbers: range) -> None:
        self.failures: list[str] = []
        """What good clients did not expect, and what no bad one may bring about."""
        self._setting = setting
        self._ledger = ledger
        self._seed = seed
        self._numbers = iter(numbers)

    def run(self, threads: int) -> None:
        """Play all dialogues."""
        running = [threading.Thread(target=self._play_all) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            while thread.is_alive():
                thread.join(_PROGRESS_EVERY)
                print(json.dumps({"done": self._ledger.done}), flush=True)

    def _play_all(self) -> None:
        for number in self._numbers:
            if len(self.failures) >= _MOST_FAILURES:
                return
            self._play(number)

    def _play(self, number: int) -> None:
        dice = random.Random(f"{self._seed} {number}")  # noqa: S311 - what is wanted is the same
        (kind,) = dice.choices(KINDS, cum_weights=_SHARES)
        page = Page(number, kind.play.__name__, dice, good=kind.good)
        try:
            kind.play(self._setting, page)
        except Exception:  # noqa: BLE001 - told, and the others go on
            self.failures.append(f"dialogue {number}, {page.kind}: {traceback.format_exc()}")
        self._ledger.add(page)


def main() -> None:
    """Play the plan."""
    plan: dict[str, Any] = json.loads(sys.stdin.readline())
    setting = Setting(addresses(plan["addresses"]))
    with Path(plan["ledger"]).open("w") as file:
        ledger = Ledger(file)
        clients = Clients(setting, ledger, plan["seed"], range(*plan["numbers"]))
        clients.run(plan["threads"])
    print(json.dumps({"dialogues": ledger.dialogues, "failures": clients.failures}), flush=True)


if __name__ == "__main__":
    main()
