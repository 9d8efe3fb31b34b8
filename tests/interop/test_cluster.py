"""examples/cluster under load: a node killed, the broker killed, a node taken out and put back."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.durability.senders import Senders, message

from .conftest import find_program
from .logs import Log, in_thread
from .serving import HOST, TIMEOUT

EXAMPLE = Path(__file__).parents[2] / "examples" / "cluster"
NODES = ("node1", "node2", "node3")


# HAProxy says it twice, the first time to its terminal.
_WELL = ") : Health check for server mail/{} succeeded,"


class Cluster:
    """The example, started as its reader starts it, its worker apart."""

    def __init__(self, folder: Path) -> None:
        find_program("haproxy")
        find_program("redis-server")
        with socket.create_server((HOST, 0)) as sock:
            self.port: int = sock.getsockname()[1]
        self.store = folder / "messages"
        self._folder = folder
        self.log = Log()
        arguments = ["--port", str(self.port), "--folder", str(folder), "--without-worker"]
        self._process = subprocess.Popen(
            # Not unbuffered: lines would come in pieces, among those of the others.
            [sys.executable, str(EXAMPLE / "start.py"), *arguments],
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = in_thread("the cluster's log", self._read)
        for node in NODES:
            self.wait_until_well(node, 0)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.log.add(line.decode("utf-8", "replace").rstrip())

    def kill(self, part: str, number: int = signal.SIGKILL) -> None:
        """Send its process a signal; it is started again when it has ended."""
        started = self.log.lines(f"{part} is process")
        process_id = re.search(r"process (\d+)", started[-1])
        assert process_id is not None
        os.kill(int(process_id[1]), number)
        self.log.wait_for(f"{part} is process", count=len(started) + 1)

    def wait_until_well(self, node: str, before: int) -> None:
        """Wait until HAProxy has found the node well once more than `before`: at first, or after
        it was not. (It says that one "is UP" only after two checks that failed.)"""
        self.log.wait_for(_WELL.format(node), count=before + 1)

    def times_well(self, node: str) -> int:
        return len(self.log.lines(_WELL.format(node)))

    def admin(self, command: str) -> str:
        """What HAProxy answers to a command."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(str(self._folder / "haproxy.sock"))
            sock.sendall(command.encode() + b"\n")
            with sock.makefile("r") as answer:
                return answer.read()

    def connections_of(self, node: str) -> int:
        """How many connections HAProxy has ever given to the node."""
        lines = self.admin("show stat").splitlines()
        names = lines[0].removeprefix("# ").split(",")
        rows = (dict(zip(names, line.split(","), strict=False)) for line in lines[1:])
        return next(int(row["stot"]) for row in rows if row.get("svname") == node)

    def work_off(self, wanted: set[str]) -> None:
        """Run a worker of Celery until all these messages are stored."""
        (line,) = self.log.lines("The broker is ")
        broker = re.search(r"redis://\S+/0", line)
        assert broker is not None
        command = ["-m", "celery", "--quiet", "--workdir", str(EXAMPLE), "--app", "tasks", "worker"]
        with subprocess.Popen(
            [sys.executable, *command, "--pool", "threads", "--concurrency", "4"],
            env={**os.environ, "BROKER": broker[0], "STORE": str(self.store)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as worker:
            try:
                done = threading.Event()
                for _ in range(int(TIMEOUT / 0.1) * 2):
                    if len(list(self.store.glob("*.eml"))) >= len(wanted) and (
                        wanted <= stored(self.store).keys()
                    ):
                        break
                    assert worker.poll() is None, "the worker has ended"
                    done.wait(0.1)
            finally:
                worker.terminate()
                worker.wait(TIMEOUT)

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)
        try:
            assert self._process.wait(2 * TIMEOUT) == 0
        finally:
            self._process.kill()
            self._process.wait(TIMEOUT)
            self._reader.join(TIMEOUT)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self.log.show()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    started = Cluster(tmp_path)
    try:
        yield started
    finally:
        started.stop()


def stored(folder: Path) -> dict[str, bytes]:
    """The messages that were dealt with; each must be whole."""
    found = {}
    for file in folder.glob("*.eml"):
        content = file.read_bytes()
        match = re.search(rb"\r\nSubject: (.+)\r\nX-Lines: (\d+)\r\n", content)
        assert match is not None
        assert content.endswith(b"\r\n" + message(match[1].decode(), int(match[2])))
        found[match[1].decode()] = content
    return found


@pytest.mark.timeout(180)
def test_nothing_acknowledged_is_lost(cluster: Cluster) -> None:
    with Senders((HOST, cluster.port), 6, seed=7) as senders:
        senders.wait_for(100)

        # A node dies under load: the others go on, and it comes back.
        before = cluster.times_well("node1")
        cluster.kill("node1")
        senders.wait_for(100)
        cluster.wait_until_well("node1", before)

        # The broker dies: what cannot be queued is refused for now, and nothing else happens.
        refused = set(senders.refused)
        cluster.kill("redis")
        senders.wait_for(100)
        assert senders.refused.keys() - refused
        assert set(senders.refused.values()) == {451}

        # A node is taken out: its clients are told, and new ones go elsewhere.
        cluster.admin("set server mail/node2 state drain")
        cluster.kill("node2", signal.SIGTERM)
        there = cluster.connections_of("node2")
        senders.wait_for(100)
        assert cluster.connections_of("node2") == there
        cluster.admin("set server mail/node2 state ready")
        senders.wait_for(100)
    cluster.work_off(senders.acknowledged)
    found = stored(cluster.store)
    lost = senders.acknowledged - found.keys()
    assert lost == set(), f"{len(lost)} of {len(senders.acknowledged)}"
    # HAProxy tells the nodes who the client is.
    assert all(b"([127.0.0.1])" in content for content in found.values())


def test_the_example_node_is_a_plain_server() -> None:
    """Its other parts are above; without a broker all it says is 451."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import node; server = node.make_server()\n"
        "client = server.test_client(); client.command('EHLO me')\n"
        "client.command('MAIL FROM:<a@b.c>'); client.command('RCPT TO:<a@b.c>')\n"
        "print(client.data(b'x\\r\\n'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(EXAMPLE)],
        env={**os.environ, "BROKER": "redis://127.0.0.1:1/0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "451 4.3.2 Error: cannot queue the message now\n"
