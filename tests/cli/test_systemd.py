"""Sockets from systemd, and what it is told."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocksmtp.cli import systemd

from ..client import connect
from ..running import Running
from .processes import COMMAND, activated, assert_refused, environment

pytestmark = pytest.mark.processes


@contextlib.contextmanager
def listening(tmp_path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP and a Unix socket, as systemd opens them."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        unix.listen()
        yield tcp, unix


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sockets_of_systemd(tmp_path: Path, workers: str) -> None:
    with listening(tmp_path) as sockets:
        arguments = [*activated(*sockets), "--workers", workers]
        fds = [sock.fileno() for sock in sockets]
        with Running(arguments, pass_fds=fds) as server:
            assert server.address == sockets[0].getsockname()
            connect(server.address).close()
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(tmp_path / "socket"))
                assert sock.recv(1000).startswith(b"220 ")
            assert f" and {tmp_path}/socket (SMTP)" in server.output
        # Its file is not ours to remove.
        assert (tmp_path / "socket").exists()


def test_what_is_no_listening_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        outcome = subprocess.run(
            activated(sock),
            pass_fds=[sock.fileno()],
            capture_output=True,
            text=True,
            check=False,
        )
    assert_refused(outcome, "a socket from systemd")


def test_sockets_for_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert systemd.take_sockets() == []
    # None that is started from here shall think that they are for it.
    assert "LISTEN_FDS" not in os.environ


@contextlib.contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.settimeout(20)
        yield sock


@pytest.mark.parametrize("workers", ["1", "2"])
def test_readiness_reload_and_stop(tmp_path: Path, workers: str) -> None:
    address = str(tmp_path / "notify")
    with (
        manager(address) as told,
        Running(
            [*COMMAND, "--port", "0", "--workers", workers],
            env=environment(NOTIFY_SOCKET=address),
        ) as server,
    ):
        assert told.recv(100) == b"READY=1"
        server.process.send_signal(signal.SIGHUP)
        assert told.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert told.recv(100) == b"READY=1"
        server.process.send_signal(signal.SIGTERM)
        assert told.recv(100) == b"STOPPING=1"
        assert server.end(0) == 0


def test_an_abstract_address(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"blocksmtp-test-{os.getpid()}"
    with manager("\0" + name) as told:
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        systemd.Notifier().ready()
        assert told.recv(100) == b"READY=1"


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.Notifier().ready()
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    systemd.Notifier().ready()
