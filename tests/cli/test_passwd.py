"""`blocksmtp passwd`: the file that it keeps."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from blocksmtp.cli import main
from blocksmtp.cli import passwd as passwd_module
from blocksmtp.password_file import PasswordFile

from .processes import COMMAND


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "passwords"


def passwd(monkeypatch: pytest.MonkeyPatch, password: str, *arguments: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(password + "\n"))
    return main(["passwd", *arguments])


def test_users_are_set_changed_and_removed(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert passwd(monkeypatch, "one", str(file), "alice") == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert passwd(monkeypatch, "two", str(file), "bob") == 0
    assert passwd(monkeypatch, "three", str(file), "alice") == 0
    passwords = PasswordFile(file)
    assert passwords.check("alice", "three")
    assert passwords.check("bob", "two")
    assert not passwords.check("alice", "one")
    assert passwd(monkeypatch, "", str(file), "--list") == 0
    assert capsys.readouterr().out == "alice\nbob\n"
    assert passwd(monkeypatch, "", str(file), "bob", "--delete") == 0
    assert not PasswordFile(file).check("bob", "two")
    assert os.listdir(file.parent) == ["passwords"]


def test_without_a_verifier(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert passwd(monkeypatch, "one", str(file), "alice", "--no-scram") == 0
    assert "SCRAM" not in file.read_text()
    assert passwd(monkeypatch, "one", str(file), "alice") == 0
    assert "SCRAM" in file.read_text()


def test_its_mode_and_the_link_to_it_stay(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passwd(monkeypatch, "one", str(file), "alice")
    file.chmod(0o640)
    link = file.with_name("link")
    link.symlink_to(file)
    assert passwd(monkeypatch, "two", str(link), "alice") == 0
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert PasswordFile(file).check("alice", "two")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{file}"], "either a USER or --list"),
        (["{file}", "alice", "--list"], "either a USER or --list"),
        (["{file}", "--list"], "No such file"),
        (["{file}", "alice", "--delete"], "has no user 'alice'"),
        (["{file}", "a:b"], "must not be empty, hold ':'"),
        (["/nowhere/x", "alice"], "No such file"),
        (["/proc/version", "alice"], "line 1"),
        ([], "FILE"),
    ],
)
def test_what_cannot_be(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    with pytest.raises(SystemExit) as raised:
        passwd(monkeypatch, "one", *(each.replace("{file}", str(file)) for each in arguments))
    assert raised.value.code == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"blocksmtp( passwd)?: error: .*\n", error)
    assert said in error
    assert not file.exists()


def test_an_empty_password(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        passwd(monkeypatch, "", str(file), "alice")
    assert "the password must not be empty" in capsys.readouterr().err
    assert not file.exists()


def test_without_argon2(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "argon2", None)
    with pytest.raises(SystemExit):
        passwd(monkeypatch, "one", str(file), "alice")
    assert "pip install 'blocksmtp[passwords]'" in capsys.readouterr().err


def test_a_closed_standard_input(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SystemExit):
        main(["passwd", str(file), "alice"])
    assert re.fullmatch(
        r"blocksmtp: error: standard input.* is closed .*\n", capsys.readouterr().err
    )
    assert not file.exists()


def test_ctrl_c(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(passwd_module, "_password", interrupted)
    with pytest.raises(SystemExit):
        main(["passwd", str(file), "alice"])
    assert re.fullmatch(r"\nblocksmtp: error: broken off .*\n", capsys.readouterr().err)
    assert not file.exists()


def test_many_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"user{number}" for number in range(4)]
    processes = [
        subprocess.Popen([*COMMAND, "passwd", str(file), name], stdin=subprocess.PIPE)
        for name in names
    ]
    for process in processes:
        process.communicate(b"secret\n", timeout=30)
        assert process.returncode == 0
    assert sorted(line.split(":")[0] for line in file.read_text().splitlines()) == names


@pytest.mark.parametrize(
    ("typed", "status"),
    [
        ([b"s3cret\n", b"s3cret\n"], 0),
        ([b"s3cret\n", b"other\n"], 2),
        ([b"s3cret\n", b"\x04"], 2),  # Ctrl-D
    ],
)
def test_on_a_terminal_it_asks_twice(file: Path, typed: list[bytes], status: int) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "passwd", str(file), "alice"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        seen = b""
        for prompt, line in zip((b"New password: ", b"Once more: "), typed, strict=False):
            while prompt not in seen:
                seen += os.read(ours, 1000)
            os.write(ours, line)
        reader = threading.Thread(target=process.wait)
        reader.start()
        reader.join(30)
        assert process.returncode == status
    with contextlib.suppress(OSError):  # the end, as Linux tells it
        while octets := os.read(ours, 1000):
            seen += octets
    os.close(ours)
    # What is typed is not shown.
    assert b"s3cret" not in seen
    assert b"Traceback" not in seen
    assert (b"error: " in seen) == bool(status)
    assert file.exists() == (status == 0)
