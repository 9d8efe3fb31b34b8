"""The guestbook on PostgreSQL: no connection stays behind, and a restart loses nothing.

The cluster is the test's own, in a folder and on a Unix socket of its own.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import smtplib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contrib.django.test_guestbook import PROJECT
from tests.contrib.processes import port_of

from .conftest import missing

MESSAGES = 1000
CLIENTS = 10


class Cluster:
    """A database server of the test's own."""

    def __init__(self, folder: Path) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        if not programs:
            missing("PostgreSQL is not installed")
        self._programs = programs[0]
        self.folder = folder
        # It refuses to run as root.
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        self.run("initdb", "-D", "data", "-A", "trust", "-N")
        self.start()
        self.run("createuser", "-h", str(folder), "guestbook")
        self.run("createdb", "-h", str(folder), "-O", "guestbook", "guestbook")

    def run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            cwd=self.folder,
            user=self._user,
            group=self._user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off"
        self.run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    def ask(self, query: str) -> str:
        return self.run(
            "psql", "-h", str(self.folder), "-U", "guestbook", "-Atc", query, "guestbook"
        ).strip()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    # pytest's folders are for one user only, and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="blocksmtp-postgresql-"))
    try:
        running = Cluster(folder)
        yield running
        running.stop()
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def guestbook(cluster: Cluster) -> Iterator[int]:
    """The port of the guestbook's `manage.py runsmtp`."""
    environment = {**os.environ, "GUESTBOOK_POSTGRESQL": str(cluster.folder)}
    manage = [sys.executable, "-W", "error", "manage.py"]
    subprocess.run(
        [*manage, "migrate", "--run-syncdb", "-v0"],
        cwd=PROJECT,
        env=environment,
        timeout=50,
        check=True,
    )
    with subprocess.Popen(
        [*manage, "runsmtp", "0"],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield port_of(process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


def send(port: int, texts: list[str]) -> list[str]:
    """Send one message for each text; those that were acknowledged, the others tried once."""
    acknowledged = []
    with smtplib.SMTP("127.0.0.1", port) as client:
        for text in texts:
            with contextlib.suppress(smtplib.SMTPException):
                client.sendmail(
                    "ann@example.org", ["book@guestbook.example"], f"Subject: Hi\r\n\r\n{text}\r\n"
                )
                acknowledged.append(text)
    return acknowledged


def test_a_thousand_messages_leave_no_connection(cluster: Cluster) -> None:
    texts = [[f"{client}-{number}" for number in range(100)] for client in range(CLIENTS)]
    others = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'guestbook'"
    with guestbook(cluster) as port:
        with ThreadPoolExecutor(CLIENTS) as clients:
            acknowledged = list(clients.map(lambda each: send(port, each), texts))
        assert acknowledged == texts
        assert cluster.ask("SELECT count(DISTINCT text) FROM guestbook_entry") == str(MESSAGES)
        # Its own is one. The answer to QUIT comes before the thread has cleaned up.
        for _ in range(100):
            if cluster.ask(others) == "1":
                break
        assert cluster.ask(others) == "1"


def test_what_is_acknowledged_outlasts_a_restart(cluster: Cluster) -> None:
    """The database goes away under load: 451 meanwhile, and the same connections go on after."""
    half_way, back = threading.Event(), threading.Event()

    refused: list[smtplib.SMTPException] = []

    def client(number: int, port: int) -> list[str]:
        acknowledged = send(port, [f"{number}-before-{each}" for each in range(20)])
        with smtplib.SMTP("127.0.0.1", port) as session:
            count = 0
            while not back.is_set():
                count += 1
                text = f"{number}-during-{count}"
                try:
                    session.sendmail("a@example.org", ["b@guestbook.example"], f"\r\n{text}\r\n")
                    acknowledged.append(text)
                except smtplib.SMTPException as error:
                    refused.append(error)
                half_way.set()
            text = f"{number}-after"
            session.sendmail("a@example.org", ["b@guestbook.example"], f"\r\n{text}\r\n")
            return [*acknowledged, text]

    with guestbook(cluster) as port, ThreadPoolExecutor(CLIENTS) as clients:
        results = [clients.submit(client, number, port) for number in range(CLIENTS)]
        try:
            assert half_way.wait(30)
            cluster.stop()
            cluster.start()
        finally:
            back.set()
        acknowledged = [text for result in results for text in result.result(30)]
        kept = cluster.ask("SELECT text FROM guestbook_entry").split()
    assert refused
    assert sum(text.endswith("-after") for text in acknowledged) == CLIENTS
    assert set(acknowledged) <= set(kept)
    assert len(kept) == len(set(kept))
