"""The processes of a soak, as the one that starts them sees them.

Each talks in lines of JSON; none outlasts the block that it is used in.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from .counts import Figures

_ENDS_WITHIN = 120.0  # seconds


class Child:
    """A Python module in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def tell(self, line: str) -> None:
        """Write a line to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def heard(self) -> dict[str, Any]:
        """The next line that it writes. Raises RuntimeError at its end."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the process ended early")
        told: dict[str, Any] = json.loads(line)
        return told

    def __enter__(self: Any) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if kind is not None:
            self.process.kill()
        with self.process.stdout:
            # There is no more to tell it: it ends by itself.
            self.process.stdin.close()
            self._rest()
            self.process.wait(_ENDS_WITHIN)

    def _rest(self) -> None:
        """Take what it still tells, up to its end."""
        assert self.process.stdout is not None
        self.process.stdout.read()


class ServerProcess(Child):
    """See server.py; `module` is that or one like it."""

    def __init__(self, module: str, folder: Path) -> None:
        super().__init__(module, str(folder))
        self.addresses = self.heard()

    def idle(self, **connections: int) -> tuple[Figures, dict[str, Any]]:
        """What it uses when only so many connections are left, by the server that they lead to;
        and what else it tells."""
        self.tell(json.dumps(connections))
        told = self.heard()
        return Figures(**told["figures"]), told


class ClientProcess(Child):
    """See clients.py. A thread of its own follows what it tells."""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__("tests.soak.clients")
        self.done = 0
        self.result: dict[str, Any] | None = None
        """What it told at its end; None if it ended without."""
        self.tell(json.dumps(plan))
        self.thread = threading.Thread(target=self._follow)
        self.thread.start()

    def _follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            if "done" in told:
                self.done = told["done"]
            else:
                self.result = told

    def _rest(self) -> None:
        self.thread.join()
