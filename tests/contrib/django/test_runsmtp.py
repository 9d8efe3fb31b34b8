"""`manage.py runsmtp`, in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import smtplib
import socket
import sqlite3
import subprocess
import sys
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest

from tests.contrib.processes import (
    assert_it_starts_again_after_a_mistake,
    assert_messages_are_finished,
    changed,
    port_of,
    running,
)

from .test_guestbook import PROJECT

MESSAGE = "Subject: Hello\r\n\r\nHi!\r\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the guestbook, whose files the test may change, with its tables."""
    folder = shutil.copytree(PROJECT, tmp_path / "project")
    done = manage(folder, "migrate", "--run-syncdb", "-v0")
    assert done.returncode == 0, done.stderr
    return folder


def manage(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "manage.py", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def runsmtp(
    project: Path, *arguments: str, **environment: str
) -> AbstractContextManager[subprocess.Popen[str]]:
    return running(["manage.py", "runsmtp", *arguments], project, **environment)


def send(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail("ann@example.org", ["book@guestbook.example"], MESSAGE)


def entries(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "guestbook" / "guestbook.sqlite3")) as database:
        return int(database.execute("SELECT count(*) FROM guestbook_entry").fetchone()[0])


@pytest.mark.parametrize(
    "stop", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.thorough)]
)
def test_it_receives_until_it_is_stopped(project: Path, stop: signal.Signals) -> None:
    with runsmtp(project, "0") as process:
        port = port_of(process)
        send(port)
        assert entries(project) == 1
        with socket.create_connection(("127.0.0.1", port)) as idle:
            idle.recv(1000)
            process.send_signal(stop)
            assert idle.recv(1000).startswith(b"421 4.3.2 ")
        assert process.stdout is not None
        assert "Stopped." in process.stdout.read()
        assert process.wait(30) == 0


@pytest.mark.thorough
def test_it_starts_anew_when_code_changes(project: Path) -> None:
    with runsmtp(project, "127.0.0.1:0", GUESTBOOK_DEBUG="1") as process:
        port = port_of(process)
        send(port)
        receivers = project / "guestbook" / "receivers.py"
        with changed(receivers, '"Not today", 552', '"Never", 554'):
            port = port_of(process)
        with smtplib.SMTP("127.0.0.1", port) as client:
            with pytest.raises(smtplib.SMTPDataError) as refused:
                client.sendmail(
                    "ann@example.org", ["a@guestbook.example"], "Subject: refuse\r\n\r\n"
                )
            assert refused.value.args == (554, b"5.7.1 Never")
        os.killpg(process.pid, signal.SIGTERM)
        assert process.stdout is not None
        output = process.stdout.read()
        assert "<ann@example.org> to <a@guestbook.example>: 554" in output
        assert process.wait(30) in (0, -signal.SIGTERM)


@pytest.mark.thorough
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_messages_are_finished_under_the_reloader(project: Path, stop: signal.Signals) -> None:
    with runsmtp(project, "127.0.0.1:0", GUESTBOOK_DEBUG="1") as process:
        assert_messages_are_finished(process, stop, "book@guestbook.example")


@pytest.mark.thorough
def test_code_with_a_mistake_is_waited_for(project: Path) -> None:
    with runsmtp(project, "127.0.0.1:0", GUESTBOOK_DEBUG="1") as process:
        assert_it_starts_again_after_a_mistake(process, project / "guestbook" / "receivers.py")


def test_a_port_in_use(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = manage(project, "runsmtp", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert done.stderr == "CommandError: That port is already in use.\n"


def test_an_address_that_is_none(project: Path) -> None:
    done = manage(project, "runsmtp", "127.0.0.1")
    assert done.returncode == 1
    assert "is not a valid port number or address:port pair." in done.stderr


def test_settings_that_are_wrong(project: Path) -> None:
    with (project / "guestbook" / "settings.py").open("a") as settings:
        settings.write('BLOCKSMTP["RECEIVER"] = "guestbook.receivers.nothing"\n')
    done = manage(project, "runsmtp", "0")
    assert done.returncode == 1
    assert "(blocksmtp.E003)" in done.stderr
