"""What one node carries: `python -m benchmarks.node`, for docs/running.md.

`blocksmtp --maildir` in a process of its own, under smtp-source (Debian: postfix), on this machine:
messages a second for connections that bring one message each and for such that bring many, beside
what the disk takes in a plain loop; and the memory and the threads of connections that only wait.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

OCTETS = 5_000
MESSAGES = 3_000
LOOP_MESSAGES = 300
SESSIONS = 20
RUNS = 3
WORKERS = (1, 2, 4)
IDLE = (0, 100, 500, 1000)


def plain_loop(folder: Path) -> float:
    """Files a second that one thread writes as a Maildir wants it, and does nothing else."""
    for name in ("tmp", "new"):
        (folder / name).mkdir()
    content = b"x" * OCTETS
    new = os.open(folder / "new", os.O_RDONLY)
    began = time.perf_counter()
    for number in range(LOOP_MESSAGES):
        with open(folder / "tmp" / str(number), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(folder / "tmp" / str(number), folder / "new" / str(number))
        os.fsync(new)
    elapsed = time.perf_counter() - began
    os.close(new)
    return LOOP_MESSAGES / elapsed


@contextlib.contextmanager
def node(folder: Path, *options: str) -> Iterator[tuple[int, int]]:
    """The server; its port and its process."""
    command = [sys.executable, "-m", "blocksmtp", "--port", "0", *options]
    with subprocess.Popen(  # noqa: S603 - ourselves
        [*command, "--maildir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r":(\d+) ", process.stdout.readline())
            assert found is not None
            yield int(found[1]), process.pid
        finally:
            process.terminate()
            process.wait()


def messages_a_second(workers: int, *, many: bool) -> float:
    """Of a node with so many workers; see `load`."""
    rates = []
    for _ in range(RUNS):
        with (
            tempfile.TemporaryDirectory() as folder,
            node(Path(folder), "--workers", str(workers)) as (port, _),
        ):
            rates.append(load(port, many=many))
            stored = len(os.listdir(Path(folder) / "new"))
            assert stored == MESSAGES, f"{stored} of {MESSAGES}"
    return statistics.median(rates)


def queued_a_second() -> float:
    """The same for examples/cluster, all of it on this machine, its worker left out."""
    start = Path(__file__).parents[1] / "examples" / "cluster" / "start.py"
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, start, "--port", str(port), "--folder", folder, "--without-worker"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as cluster,
    ):
        try:
            assert cluster.stdout is not None
            well = 0
            while well < 3:
                line = cluster.stdout.readline()
                well += ") : Health check for server" in line and " succeeded, " in line
            drain = threading.Thread(target=cluster.stdout.read)
            drain.start()
            return load(port, many=True)
        finally:
            cluster.terminate()
            cluster.wait()
            drain.join()


def load(port: int, *, many: bool) -> float:
    """Messages a second. `many`: each connection brings message after message; else one."""
    source = shutil.which("smtp-source", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if source is None:
        raise SystemExit("smtp-source is not installed")
    sizes = ["-s", str(SESSIONS), "-m", str(MESSAGES), "-l", str(OCTETS)]
    command = [source, *(["-d"] if many else []), *sizes, f"127.0.0.1:{port}"]
    began = time.perf_counter()
    subprocess.run(command, check=True)  # noqa: S603 - found above
    return MESSAGES / (time.perf_counter() - began)


def waiting(count: int) -> tuple[float, int]:
    """Memory (MB, what belongs to the process alone) and threads with so many idle clients."""
    with (
        tempfile.TemporaryDirectory() as folder,
        node(Path(folder), "--max-clients", "2000") as (port, process_id),
        contextlib.ExitStack() as clients,
    ):
        for _ in range(count):
            sock = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            sock.recv(1000)
            sock.sendall(b"EHLO client.example\r\n")
            sock.recv(1000)
        rollup = Path(f"/proc/{process_id}/smaps_rollup").read_text()
        private = sum(map(int, re.findall(r"Private_(?:Clean|Dirty): +(\d+)", rollup)))
        threads = len(os.listdir(f"/proc/{process_id}/task"))
    return private / 1024, threads


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """In Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main() -> int:
    """Measure all of it and print it."""
    print(f"CPython {platform.python_version()}, {os.cpu_count()} cores, load included\n")
    with tempfile.TemporaryDirectory() as folder:
        print(f"The disk alone, one thread: {plain_loop(Path(folder)):.0f} messages a second\n")
    rates = []
    for workers in WORKERS:
        one, many = (messages_a_second(workers, many=each) for each in (False, True))
        rates.append((workers, f"{one:.0f}", f"{many:.0f}"))
    print(table(("workers", "one message a connection", "many"), rates), "\n")
    if importlib.util.find_spec("celery") is not None:
        print(f"examples/cluster, three nodes: {queued_a_second():.0f} messages a second\n")
    waits = [(count, *waiting(count)) for count in IDLE]
    rows = [(count, f"{memory:.0f} MB", threads) for count, memory, threads in waits]
    print(table(("clients that wait", "memory", "threads"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
