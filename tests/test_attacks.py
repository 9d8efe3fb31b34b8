"""What attacks on the running server have brought to light."""

from __future__ import annotations

import logging
import shutil
import socket
import threading
from pathlib import Path

import pytest

from tests.client import TIMEOUT, connect, serving, wait_until_idle


class _FailingHandler(logging.Handler):
    """A handler of the application's that fails, as none should, from `level` on."""

    def emit(self, record: logging.LogRecord) -> None:
        raise LookupError("the log is gone")


def failing_logger(handler: logging.Handler) -> logging.Logger:
    logger = logging.Logger("failing", logging.INFO)
    logger.addHandler(handler)
    return logger


def test_a_socket_file_that_cannot_be_removed_does_not_stop_the_closing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with serving() as server:
        server.listen(folder / "socket")
        with connect(folder / "socket") as client:
            client.hello()
            shutil.rmtree(folder)
            folder.write_text("in the way")
            server.close()
            assert client.reply().code == 421
        assert server.wait(0)
    assert "socket left behind" in caplog.text


def test_a_listening_socket_that_was_shut_down_does_not_make_it_spin() -> None:
    seen: list[Exception] = []
    told = threading.Event()
    with serving() as server:
        server.on("error", seen.append)
        server.on("error", lambda error: told.set())
        server.listen(sock=(sock := socket.create_server(("127.0.0.1", 0))))
        sock.shutdown(socket.SHUT_RDWR)
        assert told.wait(TIMEOUT)
        listener = server._listeners[-1].thread
        listener.join(TIMEOUT)
        assert not listener.is_alive()
        # The others go on.
        with connect(server) as client:
            client.hello()
    assert len(seen) == 1


def test_a_log_that_fails_does_not_end_the_accept_loop(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = failing_logger(_FailingHandler(logging.WARNING))
    with serving(max_clients=1, logger=logger, on_data=lambda stream, session: None) as server:
        with connect(server) as first:
            first.hello()
            with connect(server) as second:
                assert second.rest() == b""
        wait_until_idle(server)
        with connect(server) as third:
            third.hello()
    assert "the log is gone" in capsys.readouterr().err


def test_a_log_that_fails_does_not_make_the_closing_hang() -> None:
    handler = _FailingHandler(logging.WARNING)
    logger = failing_logger(handler)
    with serving(logger=logger, on_data=lambda stream, session: None) as server:
        handler.setLevel(logging.INFO)
        with pytest.raises(LookupError):
            server.close()
        assert server.wait(TIMEOUT)
