"""How soon a test has its first message: `python -m benchmarks.fixtures`.

From the request for a mail server to the moment when the first message that was sent to it can be
looked at: the first time in a process, once pytest has collected its tests, and then as the median
of many, in turns. Beside MailCatcher stands what else is used in tests, as its documentation shows
it; what is not installed (`pip install aiosmtpd smtpdfix`) is left out.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import smtplib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

MESSAGE = "Subject: Hello\r\n\r\nHi!\r\n"
REPETITIONS = 200


def send(host: str, port: int) -> None:
    """Send one message."""
    with smtplib.SMTP(host, port) as client:
        client.sendmail("ann@example.org", ["bob@example.com"], MESSAGE)


def blocksmtp() -> None:
    """MailCatcher, which the fixture is."""
    from blocksmtp.testing import MailCatcher

    with MailCatcher() as catcher:
        send(catcher.host, catcher.port)
        assert len(catcher.messages) == 1


def aiosmtpd() -> None:
    """A Controller, which wants a port that is known."""
    import socket

    from aiosmtpd.controller import Controller

    class Handler:
        def __init__(self) -> None:
            self.messages: list[bytes] = []

        async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
            self.messages.append(envelope.content)  # type: ignore[attr-defined]
            return "250 OK"

    handler = Handler()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        send("127.0.0.1", port)
        assert len(handler.messages) == 1
    finally:
        controller.stop()


def smtpdfix() -> None:
    """The controller of its fixture."""
    import socket

    from smtpdfix import AuthController

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = AuthController(hostname="127.0.0.1", port=port)
    controller.start()
    try:
        send("127.0.0.1", port)
        assert len(controller.messages) == 1
    finally:
        controller.stop()


# What is imported before a test runs: by pytest, as a plugin, or by the test's module.
IMPORTED_BEFORE = {
    "blocksmtp": "blocksmtp.pytest_plugin",
    "aiosmtpd": "aiosmtpd.controller",
    "smtpdfix": "smtpdfix",
}

CONTENDERS: dict[str, Callable[[], None]] = {
    "blocksmtp": blocksmtp,
    "aiosmtpd": aiosmtpd,
    "smtpdfix": smtpdfix,
}


def milliseconds(run: Callable[[], None]) -> float:
    """How long `run` takes."""
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1000


def in_a_new_process(name: str) -> float:
    """The first time."""
    command = [sys.executable, "-m", "benchmarks.fixtures", "--once", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    return float(done.stdout)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", choices=CONTENDERS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.once:
        importlib.import_module(IMPORTED_BEFORE[chosen.once])
        print(milliseconds(CONTENDERS[chosen.once]))
        return
    names = [name for name in CONTENDERS if importlib.util.find_spec(name)]
    first = {name: statistics.median(in_a_new_process(name) for _ in range(9)) for name in names}
    later: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(REPETITIONS):
        for name in names:
            later[name].append(milliseconds(CONTENDERS[name]))
    medians = {name: statistics.median(times) for name, times in later.items()}
    print("| | first in a process | later, median | later, slowest | ratio of medians |")
    print("|---|---|---|---|---|")
    for name in names:
        ratio = medians[name] / medians["blocksmtp"]
        figures = f"{first[name]:.0f} ms | {medians[name]:.1f} ms | {max(later[name]):.0f} ms"
        print(f"| {name} | {figures} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
