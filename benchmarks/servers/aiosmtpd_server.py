"""aiosmtpd with its default options, but for a limit on the size that a message of 200 MB passes.

See `blocksmtp_server` for what all server programs here have in common.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import ssl
import sys
import time
from typing import Any

# Looked up at run time: it is a contender and not a dependency, so it may not be there to check.
SMTP: Any = importlib.import_module("aiosmtpd.smtp").SMTP


class Handler:
    """Throws messages away, after a call that blocks where the settings say so."""

    def __init__(self, seconds: float, in_loop: bool) -> None:
        self._seconds = seconds
        self._in_loop = in_loop

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Accept the message."""
        if self._seconds and self._in_loop:
            time.sleep(self._seconds)
        elif self._seconds:
            await asyncio.to_thread(time.sleep, self._seconds)
        return "250 OK"


async def serve(settings: dict[str, Any]) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings["certificate"], settings["key"])
    handler = Handler(settings["sleep"], settings.get("in_loop", False))
    starttls = None if settings["secure"] else context

    def connection() -> Any:
        return SMTP(
            handler, hostname="mx.example", data_size_limit=2**30, tls_context=starttls, loop=loop
        )

    implicit = context if settings["secure"] else None
    server = await loop.create_server(connection, "127.0.0.1", 0, ssl=implicit)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
