"""The processes of the contenders: how they start and end, their processor time and memory."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from .certificates import Certificate
from .contenders import Contender, Program, free_port
from .errors import MeasurementError

HOST = "127.0.0.1"
_START = 30.0
_END = 3.0
_TICK = 1 / os.sysconf("SC_CLK_TCK")


class Settings(NamedTuple):
    """What every server program is told."""

    secure: bool = False
    """TLS from the first octet on."""
    sleep: float = 0.0
    """Seconds for which the callback of each message blocks."""


class Server:
    """A contender that listens."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.port = port
        self._process = process

    def _family(self) -> list[Path]:
        """The folders in /proc of the process and all that descend from it."""
        found = []
        waiting = [self._process.pid]
        while waiting:
            number = waiting.pop()
            found.append(Path(f"/proc/{number}"))
            children = Path(f"/proc/{number}/task/{number}/children")
            with contextlib.suppress(FileNotFoundError):
                waiting += map(int, children.read_text().split())
        return found

    def cpu_seconds(self) -> float:
        """Processor time so far, in user and system mode; its resolution is 10 ms."""
        total = 0.0
        for folder in self._family():
            # The name of the program, in brackets, may hold anything.
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, after_name[11:13])) * _TICK
        return total

    def memory_kib(self) -> int:
        """What the system counts as the server's own (Pss: shared pages in parts)."""
        return sum(_field(folder / "smaps_rollup", "Pss") for folder in self._family())

    def reset_peak(self) -> int:
        """Begin a new peak of memory, and return what is in memory now, in KiB.

        Raises MeasurementError where the system does not let us.
        """
        for folder in self._family():
            try:
                (folder / "clear_refs").write_text("5")
            except OSError as error:
                message = f"the peak cannot be reset through /proc/PID/clear_refs: {error.strerror}"
                raise MeasurementError(message) from error
        return sum(_field(folder / "status", "VmRSS") for folder in self._family())

    def peak_kib(self) -> int:
        """The most that was in memory since `reset_peak`."""
        return sum(_field(folder / "status", "VmHWM") for folder in self._family())


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise MeasurementError(f"no {name} in {path}")


@contextlib.contextmanager
def running(
    contender: Contender, program: Program, settings: Settings, certificate: Certificate
) -> Iterator[Server]:
    """The contender, started; it has ended when the block has. Raises MeasurementError."""
    environment = {**os.environ, **program.environment}
    port = 0
    if program.takes_settings:
        told: dict[str, Any] = {
            **settings._asdict(),
            **{name: str(path) for name, path in certificate._asdict().items()},
            **contender.settings,
        }
        command = [*program.command, json.dumps(told)]
    else:
        port = free_port()
        command = [*program.command, f"{HOST}:{port}", "1024"]
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(  # noqa: S603 (the commands are ours)
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            env=environment,
        )
        try:
            if port:
                _wait_for_port(process, port)
            else:
                port = _told_port(process)
            if not port:
                complaints.seek(0)
                last = " ".join(complaints.read().splitlines()[-3:])[-300:]
                raise MeasurementError(f"{contender.label} did not start: {last}")
            yield Server(process, port)
        finally:
            _end(process)


def _told_port(process: subprocess.Popen[str]) -> int:
    """The port that the process prints, 0 where it does not."""
    output = _pipe(process.stdout)
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        line = output.readline().strip() if selector.select(_START) else ""
    return int(line) if line.isdecimal() else 0


def _wait_for_port(process: subprocess.Popen[str], port: int) -> None:
    """Wait until the port is open, or the process has ended."""
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((HOST, port), 1.0).close()
        except ConnectionRefusedError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        else:
            return
    raise MeasurementError("the port was not opened")


def _end(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        _pipe(pipe).close()
    process.terminate()
    try:
        process.wait(_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
