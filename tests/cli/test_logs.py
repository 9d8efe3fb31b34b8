"""What is told on standard error, and how."""

from __future__ import annotations

import io
import json
import logging
import re

import pytest

from blocksmtp.cli.logs import JSONFormatter, TextFormatter, has_colours, set_up
from blocksmtp.logs import SessionLogger

from .processes import logs_of, running, said_hello


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("changes", "colours"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_colours_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], *, colours: bool
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    assert has_colours(Terminal()) is colours
    assert not has_colours(io.StringIO())


def record(level: int, message: str, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "blocksmtp", "levelno": level, "msg": message, **extra})
    made.levelname = logging.getLevelName(level)
    return made


def test_text_in_colour() -> None:
    formatter = TextFormatter("%(message)s", colours=True)
    assert formatter.format(record(logging.ERROR, "bad")) == "\x1b[31mbad\x1b[0m"
    assert formatter.format(record(logging.INFO, "fine")) == "fine"
    plain = TextFormatter("%(message)s", colours=False)
    assert plain.format(record(logging.ERROR, "bad")) == "bad"


def test_json() -> None:
    told = json.loads(JSONFormatter().format(record(logging.INFO, "a\nb\x1b\u2028", created=0.5)))
    assert told["time"] == "1970-01-01T00:00:00.500Z"
    assert told["level"] == "info"
    assert told["message"] == r"a\nb\x1b\u2028"
    assert "session" not in told


def test_json_of_a_session_and_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    logger = SessionLogger(logging.getLogger("blocksmtp"), "abc")
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        logger.failure("%s failed", "on_data", error)
    line = JSONFormatter().format(caplog.records[0])
    assert "\n" not in line
    told = json.loads(line)
    assert (told["session"], told["message"]) == ("abc", "on_data failed")
    assert told["traceback"].endswith(r"ValueError: two\nlines")


@pytest.mark.parametrize(
    ("level", "journal", "form"),
    [
        (logging.INFO, False, r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} blocksmtp: x\n"),
        (logging.INFO, True, r"blocksmtp: x\n"),
        (logging.ERROR, False, r""),
    ],
)
def test_lines_have_the_time_unless_somebody_adds_it(
    monkeypatch: pytest.MonkeyPatch, level: int, form: str, *, journal: bool
) -> None:
    told = io.StringIO()
    monkeypatch.setattr("sys.stderr", told)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if journal:
        monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    set_up(level, "text")
    logging.getLogger("blocksmtp").info("x")
    assert re.fullmatch(form, told.getvalue())


def test_verbose_shows_the_dialogue_and_no_secret() -> None:
    with running("--verbose") as server:
        with said_hello(server) as client:
            client.envelope()
            client.message(b"Subject: confidential\r\n\r\n")
            client.command("AUTH PLAIN AHVzZXIAczNjcmV0")
        told = logs_of(server, "connection closed")
    assert re.search(r"\[[a-z2-7]{16}\] C: MAIL FROM:<a@client.example>\n", told)
    assert "S: 354 " in told
    assert "C: AUTH PLAIN ***" in told
    assert "confidential" not in told
    assert "AHVz" not in told


def test_json_log_of_a_server() -> None:
    with running("--log-format", "json", log=True) as server:
        with said_hello(server) as client:
            client.envelope()
            client.message()
        server.end()
    lines = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
    messages = [line["message"] for line in lines]
    assert any(re.fullmatch(r"Listening on 127\.0\.0\.1:\d+ \(SMTP\)", each) for each in messages)
    (told,) = [line for line in lines if line["message"].startswith("message of ")]
    assert re.fullmatch("[a-z2-7]{16}", told["session"])
    assert set(told) == {"time", "level", "logger", "process", "message", "session"}
