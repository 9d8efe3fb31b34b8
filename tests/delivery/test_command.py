"""ExecDelivery: what the program gets, and what its end means."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from blocksmtp.delivery import ExecDelivery

from .senders import MESSAGE, deliver, no_file_beyond, ready, server_with

KEEP = """
import json, os, sys
from pathlib import Path
from typing import Any
about = {name: value for name, value in os.environ.items() if name.isupper()}
file = Path(os.environ["KEEP"], os.environ["RECIPIENT"])
file.with_suffix(".json").write_text(json.dumps(about))
file.write_bytes(sys.stdin.buffer.read())
"""


def program(code: str, **options: Any) -> ExecDelivery:
    return ExecDelivery([sys.executable, "-c", code], **options)


def shell(script: str, **options: Any) -> ExecDelivery:
    return ExecDelivery(["sh", "-c", script], **options)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KEEP", str(tmp_path))
    return tmp_path


def test_the_message_is_on_standard_input(kept: Path) -> None:
    delivery = program(KEEP)
    reply = deliver(delivery, to=["b@server.example", "c@server.example"])
    assert reply.code == 250
    content = (kept / "b@server.example").read_bytes()
    assert content.startswith(b"Return-Path: <a@client.example>\nReceived: from me\n")
    assert content.endswith(b"\nSubject: x\n\nbody\n")
    # Once for all.
    assert not (kept / "c@server.example").exists()


def test_what_is_known_is_in_the_environment(kept: Path) -> None:
    server = server_with(program(KEEP))
    with ready(server, "a@client.example", "b@server.example", "-x@server.example") as client:
        assert client.data(MESSAGE).code == 250
        session_id = client.session.id
    about = json.loads((kept / "b@server.example").with_suffix(".json").read_text())
    expected = {
        "SENDER": "a@client.example",
        "RECIPIENT": "b@server.example",
        "RECIPIENTS": "b@server.example\n-x@server.example",
        "CLIENT_ADDRESS": "127.0.0.1",
        "CLIENT_HOSTNAME": "client.example",
        "CLIENT_HELO": "me",
        "CLIENT_PROTOCOL": "ESMTP",
        "SESSION_ID": session_id,
    }
    assert expected.items() <= about.items()


def test_addresses_are_as_they_were_given(kept: Path) -> None:
    address = "b\N{LATIN SMALL LETTER U WITH DIAERESIS}@server.example"
    server = server_with(program(KEEP))
    with ready(server, "\u00e4@client.example", address, parameters="SMTPUTF8") as client:
        assert client.data(MESSAGE).code == 250
    about = json.loads((kept / address).with_suffix(".json").read_text())
    assert (about["SENDER"], about["RECIPIENT"]) == ("\u00e4@client.example", address)


def test_once_for_each_recipient_in_lmtp(kept: Path) -> None:
    delivery = program(KEEP + "\nsys.exit(67 if 'c@' in file.name else 0)")
    to = ["b@server.example", "c@server.example"]
    reply = deliver(delivery, to=to, lmtp=True)
    assert [str(each)[:9] for each in reply.recipients.values()] == ["250 2.6.0", "550 5.1.1"]
    content = (kept / "c@server.example").read_bytes()
    assert b"\nDelivered-To: c@server.example\n" in content


@pytest.mark.parametrize(
    ("status", "reply"),
    [
        (os.EX_USAGE, "451 4.3.0"),
        (os.EX_DATAERR, "554 5.6.0"),
        (os.EX_NOINPUT, "451 4.3.0"),
        (os.EX_NOUSER, "550 5.1.1"),
        (os.EX_NOHOST, "550 5.1.2"),
        (os.EX_UNAVAILABLE, "550 5.3.0"),
        (os.EX_SOFTWARE, "451 4.3.0"),
        (os.EX_OSERR, "451 4.3.0"),
        (os.EX_OSFILE, "451 4.3.0"),
        (os.EX_CANTCREAT, "451 4.3.0"),
        (os.EX_IOERR, "451 4.3.0"),
        (os.EX_TEMPFAIL, "451 4.3.0"),
        (os.EX_PROTOCOL, "554 5.5.0"),
        (os.EX_NOPERM, "550 5.7.1"),
        (os.EX_CONFIG, "451 4.3.0"),
        (1, "451 4.3.0"),
        (255, "451 4.3.0"),
    ],
)
def test_exit_statuses(status: int, reply: str) -> None:
    assert str(deliver(shell(f"cat >/dev/null; exit {status}"))).startswith(reply)


def test_a_program_that_reads_nothing_may_accept() -> None:
    assert deliver(shell("exit 0"), b"x\r\n" * 200_000).code == 250


def test_what_it_says_is_logged_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    assert deliver(shell("echo out; printf 'err\\033[2J' >&2; exit 75")).code == 451
    (record,) = caplog.records
    said = record.getMessage()
    assert said.endswith(r"sh: exit status 75, saying: out\nerr\x1b[2J")


def test_a_signal(caplog: pytest.LogCaptureFixture) -> None:
    assert deliver(shell("kill -KILL $$")).code == 451
    assert f"ended by signal {int(signal.SIGKILL)}, saying: nothing" in caplog.text


def test_the_time_limit_ends_all_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / "alive")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    try:
        script = f"exec 3>{tmp_path}/alive; sleep 600 & echo x >&3; wait"
        assert deliver(shell(script, timeout=0.5)).code == 451
        assert "not done after 0.5 seconds" in caplog.text
        # The end of the file comes when no process has it open any more.
        os.set_blocking(alive, True)
        assert os.read(alive, 100) == b"x\n"
        assert os.read(alive, 100) == b""
    finally:
        os.close(alive)


def test_a_program_that_vanishes(tmp_path: Path) -> None:
    file = tmp_path / "program"
    file.write_text("#!/bin/sh\nexit 0\n")
    file.chmod(0o755)
    delivery = ExecDelivery([str(file)])
    assert deliver(delivery).code == 250
    file.unlink()
    assert deliver(delivery).code == 451


def test_commands_that_are_none() -> None:
    with pytest.raises(ValueError, match="no program"):
        ExecDelivery(" ")
    with pytest.raises(ValueError, match="quotation"):
        ExecDelivery("a 'b")
    with pytest.raises(FileNotFoundError, match="nothing-of-this-name"):
        ExecDelivery("nothing-of-this-name --x")


def test_a_string_is_split_and_no_shell_sees_it(kept: Path) -> None:
    delivery = ExecDelivery(f"{sys.executable} -c \"{KEEP.replace(chr(34), chr(39))}\" '$(x)' ';'")
    assert deliver(delivery).code == 250
    assert (kept / "b@server.example").exists()


def test_its_own_environment() -> None:
    delivery = ExecDelivery(
        ["/bin/sh", "-c", 'test "$A" = 1 && test -z "$PYTHONHASHSEED$HOME"'], environment={"A": "1"}
    )
    assert deliver(delivery).code == 250


@pytest.mark.parametrize("missing", [1, 100, 5000, 50_000])
def test_no_room_for_the_message(tmp_path: Path, missing: int) -> None:
    delivery = shell(f"touch {tmp_path}/run")
    with no_file_beyond(100_000):
        reply = deliver(delivery, b"x" * (100_000 + missing) + b"\r\n")
    assert str(reply) == "452 4.3.1 Error: no room for the message"
    assert not (tmp_path / "run").exists()


def test_the_place_of_the_metrics_of_the_server_is_not_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/of/the/server")
    script = 'test "${PROMETHEUS_MULTIPROC_DIR-none}" = '
    assert deliver(shell(script + "none")).code == 250
    # It is the program's own where it is named for it.
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": "/own"}
    assert deliver(shell(script + "/own", environment=environment)).code == 250


def test_as_many_recipients_as_an_environment_holds(kept: Path) -> None:
    to = [f"{number:064}@{'d' * 60}.{'e' * 60}.example" for number in range(671)]
    octets = len("\n".join(to))
    assert 131_000 - 200 < octets <= 131_000
    assert deliver(program(KEEP), to=to).code == 250
    about = json.loads((kept / to[0]).with_suffix(".json").read_text())
    assert about["RECIPIENTS"].split("\n") == to
    reply = deliver(program(KEEP), to=[*to, "x" * 64 + to[0][64:]])
    assert str(reply) == "554 5.5.3 Error: too many recipients at a time"


def test_nothing_is_run_for_a_message_beyond_the_size(tmp_path: Path) -> None:
    delivery = shell(f"touch {tmp_path}/run")
    assert deliver(delivery, b"x" * 2000 + b"\r\n", size=1000).code == 552
    assert not (tmp_path / "run").exists()
