"""A server, killed at random moments while messages come in at full speed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..cli.processes import COMMAND, activated, children_of
from ..running import Running
from .senders import Senders
from .store import assert_nothing_is_lost

_SENDERS = 6
# As short as what is done for one message: each of its steps is hit.
_LONGEST_PAUSE = 0.02


def kill_workers(maildir: Path, kills: int, seed: int) -> int:
    """Kill one worker after the other; the number of messages that were acknowledged."""
    chance = random.Random(seed)  # noqa: S311
    command = [*COMMAND, "--port", "0", "--workers", "3", "--maildir", str(maildir)]
    with _quiet(command) as server:
        with Senders(server.address, _SENDERS, seed) as senders:
            for _ in range(kills):
                senders.wait_for(chance.randrange(1, 20))
                _pause(chance)
                os.kill(chance.choice(children_of(server.process.pid)), signal.SIGKILL)
            senders.wait_for(20)
        assert server.process.poll() is None
    assert_nothing_is_lost(maildir, senders.acknowledged)
    return len(senders.acknowledged)


def kill_servers(maildir: Path, kills: int, seed: int) -> int:
    """Kill the whole server and start it again; the number of acknowledged messages."""
    chance = random.Random(seed)  # noqa: S311
    # It listens while no server is there: clients wait, and nobody else can get the port.
    with socket.create_server(("127.0.0.1", 0), backlog=100) as sock:
        command = [*activated(sock), "--maildir", str(maildir)]
        with Senders(sock.getsockname(), _SENDERS, seed) as senders:
            for _ in range(kills):
                with _quiet(command, pass_fds=[sock.fileno()]) as server:
                    senders.wait_for(chance.randrange(1, 200))
                    _pause(chance)
                    server.process.kill()
                    server.process.wait()
            with _quiet(command, pass_fds=[sock.fileno()]):
                senders.wait_for(20)
                senders.stop()
    assert_nothing_is_lost(maildir, senders.acknowledged)
    return len(senders.acknowledged)


@contextlib.contextmanager
def _quiet(command: list[str], **options: Any) -> Iterator[Running]:
    """A server whose log is thrown away, so that nobody need read it."""
    with open(os.devnull, "wb") as nowhere:
        server = Running(command, stderr=nowhere, **options)
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.end()
            else:
                server.kill()


def _pause(chance: random.Random) -> None:
    threading.Event().wait(chance.uniform(0, _LONGEST_PAUSE))


WAYS: dict[str, Callable[[Path, int, int], int]] = {
    "workers": kill_workers,
    "servers": kill_servers,
}
