"""`blocksmtp` in processes of its own."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..client import Client, connect
from ..running import Running

COMMAND = [sys.executable, "-W", "error", "-m", "blocksmtp"]


def running(*arguments: str, log: bool = False, **options: Any) -> Running:
    """`blocksmtp` on a free port. `log`: standard error is read together with standard output.

    `options` are Popen's.
    """
    return Running([*COMMAND, "--port", "0", *arguments], log=log, **options)


def said_hello(server: Running, command: str = "EHLO client.example") -> Client:
    client = connect(server.address)
    client.hello(command)
    return client


def done(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """`blocksmtp` where it is expected to end by itself."""
    return subprocess.run(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **options,
    )


def assert_refused(outcome: subprocess.CompletedProcess[str], *words: str) -> None:
    """Status 2, nothing on standard output, one line that says why on standard error."""
    assert outcome.returncode == 2, outcome
    assert outcome.stdout == ""
    assert re.fullmatch(r"blocksmtp: error: .*\n", outcome.stderr), outcome.stderr
    for word in words:
        assert word in outcome.stderr


def logs_of(server: Running, *words: str) -> str:
    """What it tells on standard error, up to a line with these words, which must come."""
    assert server.process.stderr is not None
    told = ""
    while True:
        line: str = server.process.stderr.readline()
        assert line, f"ended early, after:\n{told}"
        told += line
        if all(word in line for word in words):
            return told


def children_of(process_id: int) -> list[int]:
    """The processes that it has started and not waited for."""
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    return [int(child) for child in children.split()]


def unmeasured() -> dict[str, str]:
    """The environment for a process that gives up root: it may not write what it has measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, with some of it changed."""
    return {**os.environ, **changes}


# As systemd starts a service: the descriptors from 3 on, and the process's own number.
START = """
import fcntl, os, sys
given = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[1].split(",")]
for number, descriptor in enumerate(given, 3):
    os.dup2(descriptor, number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(given))
os.execv(sys.executable, [sys.executable, "-W", "error", "-m", "blocksmtp", *sys.argv[2:]])
"""


def activated(*sockets: socket.socket) -> list[str]:
    """A command that has these sockets from descriptor 3 on."""
    return [sys.executable, "-c", START, ",".join(str(sock.fileno()) for sock in sockets)]
