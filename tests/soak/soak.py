"""A soak: many dialogues, good and bad, and afterwards the servers are as they were."""

from __future__ import annotations

import collections
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.certificates import Authority
from tests.client import Client

from .book import Setting, addresses
from .counts import Fate, Figures, Sent, Tally, growth, tally
from .processes import ClientProcess, ServerProcess
from .server import SEEN

PROCESSES = 2
THREADS = 12
"""Of each process of clients."""
MEMORY = 8_000_000
"""Octets by which the servers' resident memory may grow after the warm-up."""
OBJECTS = 2_000
"""The same for what Python's collector knows of."""

_PROGRESS_EVERY = 5.0  # seconds
_IDLE_CLIENTS = ("plain", "plain", "implicit", "unix", "lmtp")
_IDLE = {"mail": 4, "lmtp": 1}
"""The servers that those lead to."""


@dataclass
class Report:
    """What a soak came to."""

    dialogues: collections.Counter[str] = field(default_factory=collections.Counter)
    """By kind."""
    seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)
    before: Figures | None = None
    """After the warm-up, with the idle connections only."""
    after: Figures | None = None
    """At the end, with the idle connections only."""
    closed: Figures | None = None
    """At the end, without any."""
    told: dict[str, Any] = field(default_factory=dict)
    """What the servers told at the end: warnings, errors, certificates replaced."""
    complaints: list[str] = field(default_factory=list)
    """All that is wrong."""

    def as_json(self) -> dict[str, Any]:
        """Without messages' ids."""
        figures = {"before": self.before, "after": self.after, "closed": self.closed}
        return {
            "dialogues": dict(self.dialogues),
            "seconds": round(self.seconds, 1),
            "dialogues_per_second": round(self.dialogues.total() / self.seconds, 1),
            "messages": {fate.value: self.tally.of(fate) for fate in Fate},
            "seen": self.tally.seen,
            "servers": {name: asdict(each) for name, each in figures.items() if each},
            "certificates_replaced": self.told.get("replaced"),
            "warnings": self.told.get("warnings"),
            "complaints": self.complaints,
        }


class Soak:
    """Plays so many dialogues; a tenth of them to warm up."""

    def __init__(
        self,
        dialogues: int,
        seed: int,
        say: Callable[[str], None],
        server: str = "tests.soak.server",
    ) -> None:
        """`say` is called with each line of progress; `server` is the servers' module."""
        self._dialogues = dialogues
        self._seed = seed
        self._say = say
        self._server = server
        self._report = Report()
        self._sent: list[Sent] = []

    def run(self) -> Report:
        """Start the servers, play, count, compare."""
        report = self._report
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for certificate in "ab":
                Authority().issue("mx.example").write(folder, certificate)
            with ServerProcess(self._server, folder) as server, ExitStack() as stack:
                idle = self._idle_clients(server, stack)
                warm_up = max(1, self._dialogues // 10)
                self._play(server, folder, range(warm_up))
                report.before, _ = server.idle(**_IDLE)
                self._play(server, folder, range(warm_up, self._dialogues))
                report.after, report.told = server.idle(**_IDLE)
                self._take_leave(idle)
                report.closed, told = server.idle()
                report.complaints += self._compare(told["connections"], len(idle))
            if server.process.returncode:
                report.complaints.append(f"the servers' exit status: {server.process.returncode}")
            report.tally = tally(self._sent, (folder / SEEN).read_text().splitlines())
        report.complaints += report.tally.complaints
        return report

    # --- the connections that stay -----------------------------------------------------------

    def _idle_clients(self, server: ServerProcess, stack: ExitStack) -> list[Client]:
        """Clients who are there throughout, and say nothing between their greeting and leave."""
        setting = Setting(addresses(server.addresses))
        clients = []
        for name in _IDLE_CLIENTS:
            client = stack.enter_context(setting.connect(name))
            if name == "implicit":
                client.start_tls(setting.tls)
            client.hello("LHLO client.example" if name == "lmtp" else "EHLO client.example")
            clients.append(client)
        return clients

    def _take_leave(self, clients: list[Client]) -> None:
        for client in clients:
            client.expect(250, "NOOP")
            client.expect(221, "QUIT")
            assert client.rest() == b""
            client.close()

    # --- the others --------------------------------------------------------------------------

    def _play(self, server: ServerProcess, folder: Path, numbers: range) -> None:
        began = time.monotonic()
        with ExitStack() as stack:
            clients = []
            for number in range(PROCESSES):
                ledger = folder / f"ledger-{numbers.start}-{number}"
                plan = {
                    "addresses": server.addresses,
                    "ledger": str(ledger),
                    "seed": self._seed,
                    "numbers": (numbers.start + number, numbers.stop, PROCESSES),
                    "threads": THREADS,
                }
                clients.append((stack.enter_context(ClientProcess(plan)), ledger))
            self._follow([client for client, _ in clients], len(numbers))
        self._report.seconds += time.monotonic() - began
        for client, ledger in clients:
            self._note(client, ledger)

    def _follow(self, clients: list[ClientProcess], all_of_them: int) -> None:
        began = time.monotonic()
        while any(client.thread.is_alive() for client in clients):
            due = time.monotonic() + _PROGRESS_EVERY
            for client in clients:
                client.thread.join(max(0.0, due - time.monotonic()))
            done, seconds = sum(each.done for each in clients), time.monotonic() - began
            self._say(
                f"{done} of {all_of_them} dialogues in {seconds:.0f} s, {done / seconds:.0f}/s"
            )

    def _note(self, client: ClientProcess, ledger: Path) -> None:
        if client.result is None:
            self._report.complaints.append("a process of clients ended without a result")
            return
        self._report.complaints += client.result["failures"]
        self._report.dialogues.update(client.result["dialogues"])
        self._sent += read(ledger)

    # --- at the end --------------------------------------------------------------------------

    def _compare(self, connections: int, idle: int) -> Iterator[str]:
        report = self._report
        assert report.before is not None
        assert report.after is not None
        assert report.closed is not None
        yield from growth(report.before, report.after, MEMORY, OBJECTS)
        if connections:
            yield f"{connections} connections are left"
        for name in ("threads", "descriptors"):
            used, left = getattr(report.after, name), getattr(report.closed, name)
            if used - left != idle:
                yield f"{name}: {used} with {idle} idle connections, {left} without"
        for error, times in report.told["errors"].items():
            yield f"{times} times the servers failed: {error}"
        planned = report.dialogues["failing"]
        if report.told["planned"] != planned:
            yield f"{report.told['planned']} defects of the application told, not {planned}"


def read(ledger: Path) -> Iterator[Sent]:
    """The messages in a file that clients wrote: see book.py."""
    for line in ledger.read_text().splitlines():
        id, kind, goodness, fate = line.split()
        yield Sent(id, kind, goodness == "good", Fate(fate))
