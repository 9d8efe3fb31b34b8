"""What attacks on the running server have brought to light."""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import threading
from pathlib import Path

import pytest

from blocksmtp import DataStream, SMTPError, SMTPSession
from blocksmtp.wire.transport import PlainTransport
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


def test_a_log_that_fails_does_not_take_on_close_away() -> None:
    handler = _FailingHandler(logging.WARNING)
    closed = threading.Event()
    with serving(
        logger=failing_logger(handler),
        on_data=lambda stream, session: None,
        on_close=lambda session: closed.set(),
    ) as server:
        with connect(server) as client:
            client.hello()
            handler.setLevel(logging.INFO)
        assert closed.wait(TIMEOUT)
        wait_until_idle(server)
        handler.setLevel(logging.CRITICAL)


def test_a_log_that_fails_does_not_take_an_error_from_its_listeners() -> None:
    told: list[Exception] = []

    def on_mail_from(address: object, session: object) -> None:
        raise ZeroDivisionError

    with serving(
        logger=failing_logger(_FailingHandler(logging.ERROR)),
        on_mail_from=on_mail_from,
        on_data=lambda stream, session: None,
    ) as server:
        server.on("error", told.append)
        with connect(server) as client:
            client.hello()
            client.expect(451, "MAIL FROM:<a@client.example>")
    assert [type(error) for error in told] == [ZeroDivisionError]


def test_replies_that_nobody_takes_do_not_pile_up() -> None:
    """A client may have 64 KiB of commands in the buffer behind a message, and read nothing."""
    sent: list[int] = []

    class Noting(PlainTransport):
        def send(self, octets: bytes, seconds: float, total_seconds: float) -> None:
            sent.append(len(octets))
            super().send(octets, seconds, total_seconds)

    with serving(on_data=lambda stream, session: None) as server:
        server.on("error", lambda error: sent.append(-1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("blocksmtp.connection.PlainTransport", Noting)
            with connect(server) as client:
                client.hello()
                client.envelope()
                client.expect(354, "DATA")
                client.send(b"text\r\n.\r\n" + b"HELP\r\n" * 10_000)
                client.replies(10_001)
    assert 0 < max(sent) < 20_000


def test_what_on_connect_found_out_survives_starttls() -> None:
    names: list[str] = []

    def on_connect(session: SMTPSession) -> None:
        session.client_hostname = "known.example"

    def on_mail_from(address: object, session: SMTPSession) -> None:
        names.append(session.client_hostname)

    with (
        serving(on_connect=on_connect, on_mail_from=on_mail_from, disabled_commands=()) as server,
        connect(server) as client,
    ):
        client.hello()
        client.upgrade()
        client.expect(250, "EHLO client.example")
        client.expect(250, "MAIL FROM:<a@client.example>")
    assert names == ["known.example"]


class _EqualToAll(Exception):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = Exception.__hash__


def test_a_defect_that_is_equal_to_all_is_a_defect() -> None:
    told: list[Exception] = []

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        with contextlib.suppress(SMTPError):
            stream.read()
        raise _EqualToAll

    with serving(on_data=on_data, bare_newline="reject") as server:
        server.on("error", told.append)
        with connect(server) as client:
            client.hello()
            client.envelope()
            client.expect(354, "DATA")
            client.send(b"bare\nnewline\r\n.\r\n")
            assert client.reply().code == 550
    assert [type(error) for error in told] == [_EqualToAll]
