"""The commands of frameworks, in processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.client import connect


@contextmanager
def running(
    arguments: Sequence[str], folder: Path, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Python with `arguments`; killed at the end, unless it has ended."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
        # The reloader's child is stopped with it.
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def port_of(process: subprocess.Popen[str]) -> int:
    """The port where it says that it receives mail."""
    assert process.stdout is not None
    for line in process.stdout:
        found = re.search(r"Receiving mail by SMTP on 127\.0\.0\.1:(\d+)[.,] ", line)
        if found:
            return int(found[1])
    raise AssertionError("it ended")


def assert_messages_are_finished(process: subprocess.Popen[str], stop: int, to: str) -> None:
    """A message in progress is taken when the whole group is told to end."""
    address = ("127.0.0.1", port_of(process))
    with connect(address) as client, connect(address) as idle:
        for each in (client, idle):
            each.hello()
        client.envelope("ann@example.org", to)
        client.expect(354, "DATA")
        os.killpg(process.pid, stop)
        assert idle.reply().code == 421
        client.send(b"Subject: Hi\r\n\r\n.\r\n")
        assert client.reply().code == 250
        assert client.reply().code == 421
    assert process.wait(30) == 0


def assert_it_starts_again_after_a_mistake(process: subprocess.Popen[str], code: Path) -> None:
    """Code that does not even load is no end."""
    assert process.stdout is not None
    right = code.read_text()
    for _ in range(2):
        code.write_text(right)
        port_of(process)
        with changed(code, right, right + "def mistake(:\n"):
            for line in process.stdout:
                if line == "Waiting for a change of code.\n":
                    break
    process.terminate()
    assert process.wait(30) == 1


@contextmanager
def changed(code: Path, old: str, new: str) -> Iterator[None]:
    """Change a file that a reloader watches; the block waits for it to notice.

    A reloader that is only about to look at the files for the first time misses a change, so it is
    made again, but not before it must have been noticed.
    """
    code.write_text(code.read_text().replace(old, new))
    noticed = threading.Event()

    def make_newer() -> None:
        while not noticed.is_set():
            os.utime(code, (code.stat().st_mtime + 10,) * 2)
            noticed.wait(10)

    thread = threading.Thread(target=make_newer)
    thread.start()
    try:
        yield
    finally:
        noticed.set()
        thread.join()
