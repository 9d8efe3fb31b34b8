"""A private HAProxy in front of a server."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from .logs import Log, in_thread
from .serving import HOST, TIMEOUT


class HAProxy:
    """HAProxy in the foreground, one TCP listener and one server behind it.

    The socket it listens on is made here and handed to it: the port is free for sure, and clients
    can connect at once, since the kernel keeps them until HAProxy is ready.
    """

    def __init__(
        self,
        executable: str,
        folder: Path,
        port: int,
        options: str,
        lines: Sequence[str] = (),
        bind: str = "",
    ) -> None:
        """`port` is the server's, `options` follow it, `lines` stand in the section beside it;
        `bind` follows what clients connect to."""
        self.log = Log()
        with ExitStack() as undo:
            listener = undo.enter_context(socket.create_server((HOST, 0)))
            self.port: int = listener.getsockname()[1]
            config = folder / f"haproxy-{self.port}.cfg"
            config.write_text(
                "global\n"
                "  log stdout format raw daemon\n"
                "defaults\n"
                "  mode tcp\n"
                "  log global\n"
                f"  timeout connect {TIMEOUT:.0f}s\n"
                f"  timeout client {TIMEOUT:.0f}s\n"
                f"  timeout server {TIMEOUT:.0f}s\n"
                # Without it a health check is given up when the next one is due.
                f"  timeout check {TIMEOUT:.0f}s\n"
                "listen mail\n"
                f"  bind fd@{listener.fileno()} {bind}\n"
                + "".join(f"  {line}\n" for line in lines)
                + f"  server blocksmtp {HOST}:{port} {options}\n"
            )
            self._process = subprocess.Popen(
                [executable, "-db", "-f", config],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno()],
                cwd=folder,
            )
        assert self._process.stdout is not None
        self._output: IO[bytes] = self._process.stdout
        self._reader = in_thread("haproxy's log", self._read)

    def _read(self) -> None:
        for line in self._output:
            self.log.add(line.decode("utf-8", "replace").rstrip())

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(TIMEOUT)
        finally:
            self._process.kill()
            self._process.wait(TIMEOUT)
            self._reader.join(TIMEOUT)
            self.log.show()
            self._output.close()
