"""What the clients sent, against what the application saw: pure counting.

Each message has an id of its own. The clients note what became of it as far as they know; the
application notes the ids of the messages that it took to be complete.
"""

from __future__ import annotations

import collections
import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

DAMAGED = "damaged"
"""Stands before the id of a message that the application did not get as it was sent."""

_SHOWN = 5  # ids in one complaint


class Fate(enum.Enum):
    """What became of a message, as its client knows it."""

    ACKNOWLEDGED = "acknowledged"
    """The reply to its end mark was positive; in LMTP, for one recipient at least."""
    REFUSED = "refused"
    """The reply was negative."""
    UNHEARD = "unheard"
    """It was sent whole, and no reply came."""
    INCOMPLETE = "incomplete"
    """It was broken off before its end mark."""


@dataclass(frozen=True)
class Sent:
    """A message of a client's."""

    id: str
    kind: str
    """The kind of dialogue that it was part of."""
    good: bool
    """Whether its client does nothing wrong, so that it has to hear a reply."""
    fate: Fate


@dataclass
class Tally:
    """The counts, and what is wrong with them."""

    fates: dict[str, collections.Counter[Fate]] = field(default_factory=dict)
    """By the kind of dialogue."""
    seen: int = 0
    complaints: list[str] = field(default_factory=list)

    def of(self, fate: Fate) -> int:
        """How many messages had this fate."""
        return sum(fates[fate] for fates in self.fates.values())


def tally(sent: Iterable[Sent], seen: Iterable[str]) -> Tally:
    """Count, and complain of each message that was lost, doubled, made up or taken for whole."""
    result = Tally()
    found = collections.Counter(seen)
    result.seen = found.total()
    wrong: dict[str, list[str]] = {}
    known: set[str] = set()
    for message in sent:
        result.fates.setdefault(message.kind, collections.Counter())[message.fate] += 1
        times = found[message.id]
        for complaint in _complaints(message, times, known):
            wrong.setdefault(complaint, []).append(f"{message.id} ({message.kind})")
        known.add(message.id)
    invented = [id for id in found if id not in known]
    if invented:
        wrong["seen, but never sent, or not like this"] = invented
    for complaint, ids in wrong.items():
        shown = ", ".join(ids[:_SHOWN]) + (" …" if len(ids) > _SHOWN else "")
        result.complaints.append(f"{len(ids)} messages {complaint}: {shown}")
    return result


def _complaints(message: Sent, times: int, known: set[str]) -> Iterable[str]:
    if message.id in known:
        yield "sent twice under one id"
    if times > 1:
        yield "seen more than once"
    if message.fate is Fate.ACKNOWLEDGED and not times:
        yield "lost: acknowledged, but not seen"
    if message.fate is Fate.REFUSED and times:
        yield "refused, but seen"
    if message.fate is Fate.INCOMPLETE and times:
        yield "incomplete, but taken for whole"
    if message.good and message.fate in (Fate.UNHEARD, Fate.INCOMPLETE):
        yield f"of good clients {message.fate.value}"


@dataclass(frozen=True)
class Figures:
    """What a process uses."""

    threads: int
    descriptors: int
    memory: int
    """Resident octets."""
    objects: int
    """What Python's collector knows of."""


def growth(before: Figures, after: Figures, memory: int, objects: int) -> list[str]:
    """Complain of more threads or descriptors, and of what grew by more than so much."""
    complaints = []
    for name, allowed in (
        ("threads", 0),
        ("descriptors", 0),
        ("memory", memory),
        ("objects", objects),
    ):
        first, last = getattr(before, name), getattr(after, name)
        # Fewer threads or descriptors would mean that the first count was not of an idle server.
        if last - first > allowed or (not allowed and last != first):
            complaints.append(f"{name}: {first} before, {last} after")
    return complaints
