"""Several processes that make handshakes at the same time: see `handshaker`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Any

from ..contenders import ROOT
from ..errors import MeasurementError
from ..processes import Server
from .handshaker import Batch
from .usage import Usage


class Fleet:
    """The processes; they have ended when the `with` block has."""

    def __init__(self, size: int, port: int, kind: str, count: int) -> None:
        arguments = ["-m", "benchmarks.load.handshaker", str(port), kind, str(count)]
        self._processes = [
            subprocess.Popen(  # noqa: S603 (the command is ours)
                [sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            for _ in range(size)
        ]

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._processes:
            if error is not None:
                process.kill()
            # Closes the pipes, too, which ends it.
            process.communicate()

    def batch(self, server: Server) -> tuple[Usage, int]:
        """One batch of all; returns what it used and how many were resumed.

        Raises MeasurementError where one of the processes failed.
        """
        self._all("prepare")
        before = server.cpu_seconds()
        batches = [Batch(*made) for made in self._all("make")]
        after = server.cpu_seconds()
        self._all("finish")
        wall = max(batch.end for batch in batches) - min(batch.begin for batch in batches)
        load = sum(batch.cpu for batch in batches)
        return Usage(wall, load, after - before), sum(batch.resumed for batch in batches)

    def _all(self, word: str) -> list[Any]:
        """Have all do the same at the same time; returns their answers."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
        return [_answer(process) for process in self._processes]


def _answer(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise MeasurementError("a load process ended")
    answer = json.loads(line)
    if isinstance(answer, str):
        raise MeasurementError(answer)
    return answer
