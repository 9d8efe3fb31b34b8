"""The Flask extension; a small project with its own tests; `flask smtp`."""

from __future__ import annotations

import os
import shutil
import signal
import smtplib
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app

from blocksmtp.contrib.flask import BlockSMTP
from blocksmtp.message import IncomingMessage
from tests.documents import Document

from .processes import (
    assert_it_starts_again_after_a_mistake,
    assert_messages_are_finished,
    changed,
    port_of,
    running,
)

PROJECT = Path(__file__).parents[1] / "projects" / "flask_notes"
MESSAGE = "Subject: Hello\r\n\r\nHi!\r\n"


def flask_app(**config: Any) -> Flask:
    app = Flask("app")
    app.config["BLOCKSMTP"] = config
    return app


def test_the_suite_of_a_project(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout


@pytest.mark.thorough
def test_the_document(pytester: pytest.Pytester) -> None:
    document = Document("docs/flask.md")
    blocks = [block for heading in document.sections for block in document.blocks(heading)]
    pytester.makepyfile("\n".join(blocks))
    # A test in a document leaves its database in memory to the garbage.
    pytester.run(sys.executable, "-m", "pytest", "-q").assert_outcomes(passed=1)


# --- the extension -------------------------------------------------------------------------


def test_in_the_context_of_the_application() -> None:
    app = flask_app(RECIPIENT_DOMAINS=["example.com"])
    smtp = BlockSMTP(app)
    seen: list[Any] = []

    @smtp.receiver
    def receive(message: IncomingMessage) -> None:
        seen.append((current_app.name, message.subject))

    with smtp.make_server().test_client() as client:
        assert client.send_message("Subject: Hi\n\n", "a@b.example", "x@example.com").code == 250
    assert seen == [("app", "Hi")]


def test_of_the_current_application() -> None:
    smtp = BlockSMTP()
    with pytest.raises(RuntimeError, match="application context"):
        smtp.make_server()
    app = flask_app(RECEIVER="json.loads")
    app.debug = True
    smtp.init_app(app)
    with pytest.raises(RuntimeError, match="already"):
        BlockSMTP(app)
    with app.app_context(), smtp.make_server().test_client() as client:
        assert client.send_message(b"x", "a@b.example", "x@anywhere.example").code == 451
        assert isinstance(client.errors[0], TypeError)  # A message is no JSON.


def test_without_a_receiver() -> None:
    smtp = BlockSMTP(flask_app(RECIPIENT_DOMAINS=["*"]))
    with smtp.make_server().test_client() as client:
        reply = client.send_message(b"x", "a@b.example", "x@example.com")
    assert (reply.code, reply.enhanced_code) == (451, "4.3.5")


def test_named_recipients_only() -> None:
    app = flask_app()
    app.debug = True
    smtp = BlockSMTP(app)
    smtp.receiver("Help@example.com")(lambda message: message.envelope.rcpt_to[0].address)
    with smtp.make_server().test_client() as client:
        reply = client.send_message(b"x", "a@b.example", "HELP@example.com")
        assert str(reply) == "250 2.6.0 HELP@example.com"
        reply = client.send_message(b"x", "a@b.example", "other@example.com")
        assert str(reply) == "550 5.1.1 No such mailbox"


def test_whole_messages_only() -> None:
    smtp = BlockSMTP(flask_app(RECIPIENT_DOMAINS=["*"]))
    received: list[bytes] = []
    smtp.receiver("a@[192.0.2.1]")(lambda message: received.append(b"a"))
    smtp.receiver(lambda message: received.append(message.stream.read()))

    def pieces() -> Iterator[bytes]:
        yield b"beginning"
        raise OSError

    with smtp.make_server(size=10).test_client() as client:
        for to in ("a@[192.0.2.1]", "b@example.com"):
            assert client.send_message([b"x" * 100], "", to).code == 552
        assert client.send_message([b"whole"], "", "b@example.com").code == 250
        assert client.send_message([b"whole"], "", "a@[192.0.2.1]").code == 250
        with pytest.raises(OSError):
            client.send_message(pieces(), "", "a@[192.0.2.1]")
    assert received == [b"whole\r\n", b"a"]


def test_without_on_auth_nobody_needs_to_log_in() -> None:
    smtp = BlockSMTP(flask_app(RECIPIENT_DOMAINS=["*"], RECEIVER=lambda message: None))
    cases: list[tuple[dict[str, Any], int]] = [({}, 250), ({"onAuth": lambda *args: None}, 530)]
    for options, code in cases:
        with smtp.make_server(**options).test_client() as client:
            assert client.send_message(b"x", "a@b.example", "x@example.com").code == code


def test_on_data_of_one_s_own() -> None:
    smtp = BlockSMTP(flask_app(RECIPIENT_DOMAINS=["*"]))
    server = smtp.make_server(on_data=lambda stream, session: "mine")
    with server.test_client() as client:
        assert str(client.send_message(b"x", "a@b.example", "x@example.com")) == "250 2.6.0 mine"


@pytest.mark.parametrize(
    ("config", "error", "text"),
    [
        ({"RECIEVER": print}, ValueError, "unknown key 'RECIEVER'; did you mean 'RECEIVER'"),
        ({"ATOMIC": True}, ValueError, "unknown key 'ATOMIC'"),
        ({"PORT": "25"}, TypeError, "BLOCKSMTP: PORT must be a number"),
        ({"RECEIVER": "no.such"}, ImportError, "no"),
        ({"OPTIONS": {"sise": 1}}, TypeError, "did you mean 'size'"),
    ],
)
def test_settings_that_are_wrong(config: Any, error: type[Exception], text: str) -> None:
    smtp = BlockSMTP(flask_app(**config))
    with pytest.raises(error, match=text):
        smtp.make_server()


def test_a_pattern_that_is_none() -> None:
    with pytest.raises(TypeError, match="pattern"):
        BlockSMTP().receiver("a@b.example", 1)  # type: ignore[call-overload]


# --- flask smtp ----------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy, whose files the test may change."""
    return shutil.copytree(PROJECT, tmp_path / "project")


def flask(project: Path, *arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return running(["-m", "flask", "--app", "notes", *arguments], project)


def send(port: int, to: str = "me@notes.example") -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail("ann@example.org", [to], MESSAGE)


@pytest.mark.parametrize(
    "stop", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.thorough)]
)
def test_it_receives_until_it_is_stopped(project: Path, stop: signal.Signals) -> None:
    with flask(project, "smtp", "--port", "0") as process:
        port = port_of(process)
        send(port)
        with closing(sqlite3.connect(project / "instance" / "notes.sqlite3")) as database:
            assert database.execute("SELECT sender FROM note").fetchall() == [("ann@example.org",)]
        process.send_signal(stop)
        assert process.wait(30) == 0


@pytest.mark.thorough
def test_it_starts_anew_when_code_changes(project: Path) -> None:
    with flask(project, "--debug", "smtp", "--port", "0") as process:
        send(port_of(process))
        with changed(project / "notes.py", "notes.example", "new.example"):
            port = port_of(process)
        send(port, "me@new.example")
        os.killpg(process.pid, signal.SIGTERM)
        assert process.stdout is not None
        assert "<ann@example.org> to <me@new.example>: 250" in process.stdout.read()


@pytest.mark.thorough
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_messages_are_finished_under_the_reloader(project: Path, stop: signal.Signals) -> None:
    with flask(project, "--debug", "smtp", "--port", "0") as process:
        assert_messages_are_finished(process, stop, "me@notes.example")


@pytest.mark.thorough
def test_code_with_a_mistake_is_waited_for(project: Path) -> None:
    with flask(project, "--debug", "smtp", "--port", "0") as process:
        assert_it_starts_again_after_a_mistake(process, project / "notes.py")


def test_a_port_in_use(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with flask(project, "smtp", "--port", port, "--host", "127.0.0.1") as process:
            assert process.stdout is not None
            assert "Error: That port is already in use." in process.stdout.read()
            assert process.wait(30) == 1
