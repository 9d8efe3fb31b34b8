"""--workers: processes that serve one port together."""

from __future__ import annotations

import os
import re
import select
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blocksmtp.cli.workers import CLOSING, Workers

from ..client import connect
from ..running import Running
from .processes import (
    COMMAND,
    children_of,
    logs_of,
    running,
    said_hello,
)

pytestmark = pytest.mark.processes


def ended(process_id: int) -> bool:
    """Whether the process is no more, or only waits to be waited for."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until_ended(process_ids: list[int]) -> None:
    for process_id in process_ids:
        try:
            descriptor = os.pidfd_open(process_id)
        except ProcessLookupError:
            continue
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(20_000), f"process {process_id} goes on"
        os.close(descriptor)


@pytest.fixture
def server() -> Running:
    return running("--workers", "2", "--verbose")


def test_there_are_as_many_as_asked_for_and_all_end(server: Running) -> None:
    with server:
        workers = children_of(server.process.pid)
        assert len(workers) == 2
        with said_hello(server) as idle:
            server.process.send_signal(signal.SIGTERM)
            assert idle.reply().code == 421
        assert server.end(0) == 0
    assert all(map(ended, workers))
    assert server.output.startswith("Listening on 127.0.0.1:")
    assert server.output.count("\n") == 1


def test_messages_in_progress_are_finished(server: Running) -> None:
    with server, said_hello(server) as busy:
        busy.envelope()
        busy.expect(354, "DATA")
        server.process.send_signal(signal.SIGTERM)
        busy.send("Subject: to the end\r\n\r\n.\r\n")
        assert busy.reply().code == 250
        assert server.end(0) == 0
    assert "Subject: to the end\n" in server.output


def test_ctrl_c_goes_to_all_and_is_one_signal() -> None:
    """A terminal sends SIGINT to the whole group, and nobody takes it for a second one."""
    process = Running([*COMMAND, "--port", "0", "--workers", "2"], start_new_session=True)
    with process as server, said_hello(server) as busy:
        busy.envelope()
        busy.expect(354, "DATA")
        os.killpg(server.process.pid, signal.SIGINT)
        busy.send("Subject: to the end\r\n\r\n.\r\n")
        assert busy.reply().code == 250
        assert server.end(0) == 0


def test_what_workers_are_told_is_never_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two signals of one number, a process that has not yet heard the first gets only one."""
    workers = Workers(
        ready=lambda: None,
        stopping=lambda: None,
        reload=lambda: None,
        died=lambda process_id: None,
    )
    told: list[int] = []
    monkeypatch.setattr(workers, "_send", told.append)
    for _ in range(3):
        workers._stop()
    workers._alive.close()
    workers._life.close()
    assert told == [*CLOSING, signal.SIGKILL]
    assert len(set(told)) == 3


def test_a_second_signal_does_not_wait_for_clients(server: Running) -> None:
    with server, said_hello(server) as busy, said_hello(server) as idle:
        busy.envelope()
        busy.expect(354, "DATA")
        server.process.send_signal(signal.SIGTERM)
        assert idle.reply().code == 421
        server.process.send_signal(signal.SIGTERM)
        assert server.end(0) == 0


def test_one_that_dies_is_started_again(server: Running) -> None:
    with server:
        before = children_of(server.process.pid)
        for number in (signal.SIGKILL, signal.SIGTERM):
            os.kill(children_of(server.process.pid)[0], number)
            told = logs_of(server, "a worker has ended", "starting another")
            logs_of(server, "listening on")
            assert ("signal 9" in told) == (number == signal.SIGKILL)
        now = children_of(server.process.pid)
        assert len(now) == 2
        assert set(before).isdisjoint(now)
        for _ in range(4):
            connect(server.address).close()


def test_their_certificate_is_the_same() -> None:
    with running("--workers", "3", "--implicit-tls") as server:
        certificates = {ssl.get_server_certificate(server.address) for _ in range(6)}
    assert len(certificates) == 1


def test_when_the_first_process_is_killed_they_end_gracefully(server: Running) -> None:
    with said_hello(server) as idle:
        workers = children_of(server.process.pid)
        server.process.kill()
        assert idle.reply().code == 421
    wait_until_ended(workers)
    server.kill()


def test_what_cannot_serve_is_not_started_for_ever(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from blocksmtp import SMTPServer\n"
        "def listen(self, *args, **options):\n"
        "    raise OSError('no')\n"
        "SMTPServer.listen = listen\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-m", "blocksmtp", "--port", "0", "--workers", "2"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert outcome.returncode == 1
    assert outcome.stdout == ""
    assert 1 <= outcome.stderr.count("OSError: no") <= 2


def test_broken_output_ends_all() -> None:
    with running("--workers", "2") as server:
        assert server.process.stdout is not None
        with said_hello(server) as client:
            server.process.stdout.close()
            client.envelope()
            assert client.message().code == 451
        assert server.process.stderr is not None
        with server.process.stderr:
            assert server.process.stderr.read() == "blocksmtp: standard output: Broken pipe\n"
        assert server.process.wait(30) == 1


def test_what_they_print_is_not_mixed() -> None:
    """Each message is larger than what a pipe takes at once."""
    body = b"Subject: %d\r\n\r\n" + b"%d" * 100_000 + b"\r\n"
    with running("--workers", "3") as server:
        clients = [said_hello(server) for _ in range(6)]
        for number, client in enumerate(clients):
            client.envelope()
            client.expect(354, "DATA")
            client.send(body.replace(b"%d", b"%d" % number) + b".\r\n")
        texts = ""
        while texts.count("---- end of message") < len(clients):
            texts += server.readline()
        for client in clients:
            assert client.reply().code == 250
            client.close()
    for number in range(len(clients)):
        assert re.search(
            rf"\n\nSubject: {number}\n\n{number}{{100000}}\n---- end of message", texts
        )


def test_they_share_the_work(tmp_path: Path) -> None:
    with running("--workers", "2", "--maildir", str(tmp_path)) as server:
        deadline = time.monotonic() + 20
        taken_by: set[str] = set()
        while len(taken_by) < 2 and time.monotonic() < deadline:
            with said_hello(server) as one, said_hello(server) as two:
                for client in (one, two):
                    client.envelope()
                    assert client.message().code == 250
            taken_by = {
                str(re.search(r"P(\d+)Q", file.name)[1])  # type: ignore[index]
                for file in (tmp_path / "new").iterdir()
            }
    assert len(taken_by) == 2
