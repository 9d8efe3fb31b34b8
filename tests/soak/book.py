"""What a client process keeps: the addresses, the TLS contexts, and what became of each message."""

from __future__ import annotations

import collections
import random
import ssl
import threading
from dataclasses import dataclass, field
from typing import IO, Any

from tests.client import Address, Client, connect, trusting
from tests.test_proxied import V1
from tests.wire.scripted import dot_stuffed

from .counts import Fate

Addresses = dict[str, Address]


def addresses(told: dict[str, Any]) -> Addresses:
    """Addresses that came as JSON, which has no tuples."""
    return {
        name: tuple(address) if isinstance(address, list) else address
        for name, address in told.items()
    }


@dataclass
class Setting:
    """What all dialogues of a process share."""

    addresses: Addresses
    tls: ssl.SSLContext = field(default_factory=trusting)
    sessions: collections.deque[ssl.SSLSession] = field(
        default_factory=lambda: collections.deque(maxlen=16)
    )
    """TLS sessions to resume."""

    def connect(self, name: str) -> Client:
        """A connection to one of the listeners, in clear still; behind a proxy where it expects
        one."""
        client = connect(self.addresses[name])
        if name == "proxied":
            client.send(V1)
        return client


class Ledger:
    """The messages of a process in a file, one a line: id, kind, good or bad, fate."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.dialogues: collections.Counter[str] = collections.Counter()
        """By kind."""
        self.done = 0

    def add(self, page: Page) -> None:
        """A dialogue is over."""
        goodness = "good" if page.good else "bad"
        lines = [f"{id} {page.kind} {goodness} {fate.value}\n" for id, fate in page.fates.items()]
        with self._lock:
            self._file.writelines(lines)
            self.dialogues[page.kind] += 1
            self.done += 1


class Page:
    """One dialogue's part of the ledger, and its dice."""

    def __init__(self, number: int, kind: str, dice: random.Random, *, good: bool) -> None:
        self.kind = kind
        self.good = good
        self.dice = dice
        self.fates: dict[str, Fate] = {}
        self._number = number

    def begin(self) -> str:
        """The id of a message that is to be sent."""
        id = f"m{self._number}-{len(self.fates)}"
        self.fates[id] = Fate.INCOMPLETE
        return id

    def forget(self, id: str) -> None:
        """The message is not sent: its envelope was refused, as planned."""
        del self.fates[id]

    def ended(self, id: str) -> None:
        """The message is sent to its end, from now on."""
        self.fates[id] = Fate.UNHEARD

    def heard(self, id: str, *codes: int) -> None:
        """The reply to the message, in LMTP one for each recipient."""
        accepted = any(code < 300 for code in codes)
        self.fates[id] = Fate.ACKNOWLEDGED if accepted else Fate.REFUSED


def message(id: str, dice: random.Random, octets: int | None = None) -> bytes:
    """What is sent after DATA: the id, some lines, dots among them, and the end mark."""
    wanted = octets or (dice.randrange(5_000) if dice.random() < 0.1 else dice.randrange(300))
    line = dice.choice((b"Hello!\r\n", b".\r\n", b"..\r\n", b".dot\r\n", b"x" * 70 + b"\r\n"))
    text = line * (wanted // len(line) + 1)
    return dot_stuffed(f"{id} {len(text)}\r\n".encode() + text)
