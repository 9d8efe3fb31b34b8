"""--metrics, and the figures themselves."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from blocksmtp import AuthResponse, SMTPError, SMTPServer
from blocksmtp.cli import main
from blocksmtp.cli.metrics import MetricsPage, _HTTPServer
from blocksmtp.cli.privileges import Identity
from blocksmtp.contrib.prometheus import Metrics
from blocksmtp.password_file import PasswordFile, StoredUser, shown_users

from ..client import Client
from ..scram_client import ScramClient
from .processes import assert_refused, children_of, done, logs_of, running, said_hello

pytestmark = pytest.mark.processes


def figures(page: str) -> dict[str, float]:
    lines = [line for line in page.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def ask(port: int, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("workers", ["1", "3"])
def test_over_http(tmp_path: Path, workers: str) -> None:
    port = free_port()
    with running(
        "--metrics", str(port), "--workers", workers, "--maildir", str(tmp_path / "Mail")
    ) as server:
        for _ in range(5):
            with said_hello(server) as client:
                client.envelope()
                assert client.message().code == 250
                client.expect(221, "QUIT")
        with said_hello(server):
            now = figures(ask(port))
        with pytest.raises(urllib.error.HTTPError, match="404"):
            ask(port, "/")
        server.end()
    assert now["blocksmtp_connections_total"] == 6
    assert now['blocksmtp_messages_total{code="250"}'] == 5
    assert now["blocksmtp_on_data_seconds_count"] == 5
    assert now["blocksmtp_message_bytes_total"] == 5 * len(b"Subject: test\r\n\r\ntext\r\n")
    # One is open, and others may just be ending.
    assert now["blocksmtp_connections_open"] >= 1
    assert "Traceback" not in server.errors


def test_a_worker_that_was_killed_leaves_no_open_connections(tmp_path: Path) -> None:
    port = free_port()
    with running(
        "--metrics", str(port), "--workers", "2", "--maildir", str(tmp_path / "Mail")
    ) as server:
        with said_hello(server), said_hello(server):
            pages = figures(ask(port))
            assert pages["blocksmtp_connections_open"] == 2
            for process_id in children_of(server.process.pid)[:2]:
                os.kill(process_id, signal.SIGKILL)
            for _ in range(2):
                logs_of(server, "starting another")
        with said_hello(server):
            pages = figures(ask(port))
    assert pages["blocksmtp_connections_open"] == 1
    assert pages["blocksmtp_connections_total"] == 3


def test_over_ipv6() -> None:
    page = MetricsPage(("::1", 0), processes=False)
    try:
        page.prepare(Identity(None, None, None))
        with (
            page.shown(),
            urllib.request.urlopen(f"http://[::1]:{page.port}/metrics", timeout=20) as answer,
        ):
            assert answer.status == 200
    finally:
        page.close()


@pytest.mark.parametrize("ending", ["reset", "idle"])
def test_clients_that_do_not_ask(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], ending: str
) -> None:
    monkeypatch.setattr("blocksmtp.cli.metrics._Handler.timeout", 0.1 if ending == "idle" else 10)
    seen = threading.Event()
    handle_error = _HTTPServer.handle_error

    def seeing(*arguments: Any) -> None:
        handle_error(*arguments)
        seen.set()

    monkeypatch.setattr(_HTTPServer, "handle_error", seeing)
    page = MetricsPage(("127.0.0.1", 0), processes=False)
    try:
        with page.shown(), Client(socket.create_connection(("127.0.0.1", page.port))) as client:
            if ending == "reset":
                client.send("GET /metrics")
                client.reset()
            assert seen.wait(20)
    finally:
        page.close()
    assert capfd.readouterr().err == ""


def test_the_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        outcome = done("--port", "0", "--metrics", str(port))
    assert_refused(outcome, f"--metrics 127.0.0.1:{port}", "in use")


def test_without_the_library(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(SystemExit):
        main(["--port", "0", "--metrics", "0"])
    assert re.search(r"pip install 'blocksmtp\[metrics\]'", capsys.readouterr().err)


def test_all_that_is_counted() -> None:
    registry = CollectorRegistry()

    def on_data(stream: object, session: object) -> None:
        assert session is not None
        raise SMTPError("no", 452)

    def on_auth(auth: object, session: object) -> str | AuthResponse | None:
        name = getattr(auth, "username", "")
        if name == "broken":
            raise RuntimeError
        if name == "busy":
            raise SMTPError("later", 454)
        if name == "expired":
            return AuthResponse(message="expired")
        if name == "locked":
            raise SMTPError("locked")
        return name if name == "alice" else None

    calls: list[str] = []
    server = SMTPServer(
        auth_optional=True,
        on_data=on_data,
        on_auth=on_auth,
        on_connect=lambda session: calls.append("connect"),
        on_close=lambda session: calls.append("close"),
        allow_insecure_auth=True,
    )
    Metrics(registry).observe(server)
    for name, code in (
        *(("bob", 535), ("expired", 535), ("locked", 535)),
        *(("broken", 451), ("busy", 454), ("alice", 235)),
    ):
        with server.test_client() as client:
            assert client.login(name, "x").code == code
    with server.test_client() as client:
        client.command("EHLO me")
        for _ in range(2):
            client.pipeline("MAIL FROM:<a@b.c>", "RCPT TO:<a@b.c>")
            assert client.data(b"Subject: x\r\n\r\n").code == 452

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"blocksmtp_{name}", labels)

    assert calls == ["connect", "close"] * 7
    assert value("connections_total") == 7
    assert value("connections_open") == 0
    assert value("messages_total", code="452") == 2
    assert value("on_data_seconds_count") == 2
    assert value("authentications_total", outcome="accepted") == 1
    assert value("authentications_total", outcome="refused") == 3
    assert value("authentications_total", outcome="failed") == 2
    assert value("errors_total") == 1


def test_logins_without_a_password_that_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.write_text(shown_users({"alice": StoredUser.from_password("wonderland")}))
    passwords = PasswordFile(file)
    server = SMTPServer(
        auth_methods=passwords.auth_methods,
        on_auth=passwords.on_auth,
        scram_verifier=passwords.scram_verifier,
        allow_insecure_auth=True,
    )
    registry = CollectorRegistry()
    Metrics(registry).observe(server)
    with server.test_client() as client:
        client.command("EHLO me")
        for name, password, code in (
            *(("alice", "wrong", 535), ("nobody", "wonderland", 535)),
            ("alice", "wonderland", 334),
        ):
            scram = ScramClient(name, password)
            first = client.command(b"AUTH SCRAM-SHA-256 " + base64.b64encode(scram.first))
            final = scram.final(base64.b64decode(first.lines[0]))
            assert client.command(base64.b64encode(final)).code == code
        assert client.command("").code == 235
        assert client.session.auth_failures == 2

    def logins(outcome: str) -> float | None:
        labels = {"outcome": outcome}
        return registry.get_sample_value("blocksmtp_authentications_total", labels)

    assert (logins("accepted"), logins("refused"), logins("failed")) == (1, 2, None)
