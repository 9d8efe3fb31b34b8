"""All of the cluster on this machine: HAProxy, three nodes, Redis, and a worker of Celery.

    python examples/cluster/start.py [--port 2525] [--folder DIR]

What dies is started again, as systemd would do it on your machines. Ctrl-C ends all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
NODES = 3
PAUSE = 0.5  # seconds before something is started again


class Part:
    """A program that is started again whenever it ends."""

    def __init__(self, name: str, command: Sequence[object], environment: dict[str, str]) -> None:
        self.name = name
        self._command = [str(word) for word in command]
        self._environment = {**os.environ, **environment}
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._process = self._start()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 - our own parts
            self._command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            # Ctrl-C is for us, who end the parts in their order.
            start_new_session=True,
        )
        print(f"{self.name} is process {process.pid}", flush=True)
        return process

    def _watch(self) -> None:
        while True:
            self._process.wait()
            if self._ending.wait(PAUSE):
                return
            with self._lock:
                if self._ending.is_set():
                    return
                self._process = self._start()

    def end(self) -> None:
        """End it gracefully, and wait."""
        with self._lock:
            self._ending.set()
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        self._watcher.join()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [sock.getsockname()[1] for sock in sockets]


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        sys.exit(f"{name} is not installed: apt install haproxy redis-server")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=2525, help="where HAProxy takes mail in")
    parser.add_argument("--folder", type=Path, default=Path("cluster"), help="for all files")
    parser.add_argument("--without-worker", action="store_true", help="leave all in the queue")
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    store = folder / "messages"
    store.mkdir(parents=True, exist_ok=True)
    haproxy, redis = program("haproxy"), program("redis-server")
    broker_port, *node_ports = free_ports(1 + NODES)
    settings = {
        "BROKER": f"redis://127.0.0.1:{broker_port}/0",
        "STORE": str(store),
        "PORT": str(chosen.port),
        "ADMIN_SOCKET": str(folder / "haproxy.sock"),
        **{f"NODE{number}": str(port) for number, port in enumerate(node_ports, 1)},
    }
    commands: dict[str, Sequence[object]] = {
        "redis": [redis, HERE / "redis.conf", "--port", broker_port, "--dir", folder],
    }
    if not chosen.without_worker:
        # Threads: what waits for a disk or another service does not need a process.
        worker = ["-m", "celery", "--quiet", "--workdir", HERE, "--app", "tasks", "worker"]
        commands["worker"] = [sys.executable, *worker, "--pool", "threads", "--loglevel", "WARNING"]
    for number, port in enumerate(node_ports, 1):
        commands[f"node{number}"] = [sys.executable, HERE / "node.py", port]
    commands["haproxy"] = [haproxy, "-db", "-f", HERE / "haproxy.cfg"]

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    parts = [Part(name, command, settings) for name, command in commands.items()]
    print(f"Mail to 127.0.0.1:{chosen.port} ends in {store}", flush=True)
    print(f"The broker is {settings['BROKER']}, HAProxy's {settings['ADMIN_SOCKET']}", flush=True)
    while not stop.wait(0.2):
        pass
    # First those who take mail in, last what keeps it.
    for part in reversed(parts):
        part.end()


if __name__ == "__main__":
    main()
