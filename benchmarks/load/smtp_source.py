"""Loads with Postfix's smtp-source, in C: one process, which does not pipeline."""

from __future__ import annotations

import subprocess

from .. import installing
from ..errors import MeasurementError
from .client import HOST

OCTETS = 1024
"""The size of a message, without its few header fields."""

_TIMEOUT = 60.0


def path() -> str:
    """Where the program is. Raises Unavailable."""
    return installing.program("smtp-source", "postfix")


def send(port: int, messages: int, sessions: int, *, reconnect: bool = False) -> None:
    """Send so many messages in all, over so many sessions at a time.

    `reconnect` takes a new connection for each message. Raises MeasurementError.
    """
    command = [path(), "-4", "-M", "client.example", "-l", str(OCTETS)]
    command += ["-s", str(sessions), "-m", str(messages), *(() if reconnect else ("-d",))]
    command += ["-f", "sender@client.example", "-t", "recipient@mx.example", f"{HOST}:{port}"]
    try:
        done = subprocess.run(  # noqa: S603 (the command is ours)
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MeasurementError(f"smtp-source took more than {_TIMEOUT:.0f} s") from error
    if done.returncode:
        raise MeasurementError(f"smtp-source: {done.stdout.strip()[-200:]}")
