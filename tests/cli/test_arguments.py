"""What the command line and the file of --config say, and which of them comes first."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest

from blocksmtp.cli import main
from blocksmtp.cli.arguments import DEFAULTS, command_line, parse
from blocksmtp.cli.errors import CannotStart


def chosen(*arguments: str) -> dict[str, Any]:
    """What differs from the defaults."""
    options = vars(parse(arguments))
    return {name: value for name, value in options.items() if value != DEFAULTS[name]}


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mail.toml"
    file.write_text(text)
    return str(file)


FLAGS = {
    "--host": ("::1", "host", "::1"),
    "--port": ("25", "port", 25),
    "--unix": ("/run/x", "unix", "/run/x"),
    "--name": ("mx.example", "name", "mx.example"),
    "--size": ("10M", "size", 10_485_760),
    "--max-clients": ("5", "max_clients", 5),
    "--proxy-from": ("10.1.2.3/8", "proxy_from", ["10.0.0.0/8"]),
    "--cert": ("c.pem", "cert", Path("c.pem")),
    "--auth-file": ("users", "auth_file", Path("users")),
    "--maildir": ("Mail", "maildir", "Mail"),
    "--mbox": ("mbox", "mbox", "mbox"),
    "--forward": ("[::1]:25", "forward", ("::1", 25)),
    "--exec": ("cat -n", "exec", "cat -n"),
    "--forward-tls": ("required", "forward_tls", "required"),
    "--forward-login": ("login", "forward_login", Path("login")),
    "--exec-timeout": ("2.5", "exec_timeout", 2.5),
    "--workers": ("4", "workers", 4),
    "--user": ("mail", "user", "mail"),
    "--group": ("mail", "group", "mail"),
    "--log-format": ("json", "log_format", "json"),
    "--metrics": ("9090", "metrics", ("127.0.0.1", 9090)),
}
SWITCHES = ("--lmtp", "--implicit-tls", "--allow-insecure-auth", "--print", "--verbose")
# They need another beside them, and are tried below.
TOGETHER = {"--unix-mode": "unix", "--key": "cert"}


def test_every_flag_is_known_here() -> None:
    flags = {action.option_strings[-1] for action in command_line()._actions}
    assert flags - set(FLAGS) - set(SWITCHES) - set(TOGETHER) == {"--help", "--version", "--config"}
    assert {name.replace("_", "-") for name in DEFAULTS} == {
        flag.removeprefix("--") for flag in flags - {"--help", "--version"}
    }


@pytest.mark.parametrize("flag", FLAGS)
def test_each_flag(flag: str) -> None:
    text, name, value = FLAGS[flag]
    assert chosen(flag, text) == {name: value}


@pytest.mark.parametrize("flag", FLAGS)
def test_none_may_be_empty(tmp_path: Path, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, f"{flag.removeprefix('--')} = ''")
    with pytest.raises(SystemExit):
        parse([flag, ""])
    assert flag in capsys.readouterr().err
    with pytest.raises(CannotStart, match=f": {flag.removeprefix('--')} must "):
        parse(["--config", file])


@pytest.mark.parametrize("flag", FLAGS)
def test_each_flag_in_the_file(tmp_path: Path, flag: str) -> None:
    text, name, value = FLAGS[flag]
    shown = text if text.isdigit() else repr(text)
    file = written(tmp_path, f"{flag.removeprefix('--')} = {shown}")
    assert chosen("--config", file) == {name: value, "config": Path(file)}


@pytest.mark.parametrize("flag", SWITCHES)
def test_each_switch(tmp_path: Path, flag: str) -> None:
    name = flag.removeprefix("--").replace("-", "_")
    assert chosen(flag) == {name: True}
    file = written(tmp_path, f"{name} = true")
    assert chosen("--config", file) == {name: True, "config": Path(file)}
    file = written(tmp_path, f"{name} = false")
    assert chosen("--config", file) == {"config": Path(file)}


def test_those_that_need_another() -> None:
    assert chosen("--unix", "x", "--unix-mode", "660")["unix_mode"] == 0o660
    assert chosen("--cert", "c", "--key", "k")["key"] == Path("k")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--port", "x"),
        ("--port", "65536"),
        ("--port", "-1"),
        ("--port", "\u0665"),
        ("--size", "0"),
        ("--size", "5T"),
        ("--max-clients", "0"),
        ("--workers", "0"),
        ("--workers", "two"),
        ("--unix-mode", "9"),
        ("--proxy-from", "everybody"),
        ("--forward", "host"),
        ("--forward", ":25"),
        ("--forward", "::1:25"),
        ("--forward", "host:x"),
        ("--forward-tls", "maybe"),
        ("--exec-timeout", "0"),
        ("--exec-timeout", "1e9"),
        ("--log-format", "xml"),
        ("--metrics", "x"),
        ("--nonsense", "1"),
    ],
)
def test_bad_values(
    tmp_path: Path, flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main([flag, value])
    assert raised.value.code == 2
    assert re.fullmatch(rf"blocksmtp: error: .*{flag}.*\n", capsys.readouterr().err)
    file = written(tmp_path, f"{flag.removeprefix('--')} = {value!r}")
    with pytest.raises(SystemExit) as raised:
        main(["--config", file])
    assert raised.value.code == 2
    said = capsys.readouterr().err
    assert re.fullmatch(rf"blocksmtp: error: {re.escape(file)}: .*\n", said)
    assert flag.removeprefix("--") in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = true", "port must be a text or a number"),
        ("port = [1]", "port must be a text or a number"),
        ('lmtp = "yes"', "lmtp must be true or false"),
        ("proxy-from = [1.5]", "proxy-from must be an address"),
        ("prot = 1", "there is no 'prot'; did you mean 'port'?"),
        ("config = 'x'", "there is no 'config'"),
        ("maildir = 'a'\nmbox = 'b'", "maildir and mail.toml: mbox do not go together"),
        ("port = 1\nunix = 'x'", "do not go together"),
        ("unix = 'x'\nunix-mode = 0o660", "unix-mode must be octal digits in quotes"),
        ("port", "is no TOML"),
        ("\xff", "is no TOML"),
    ],
)
def test_files_that_cannot_be(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mail.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(CannotStart) as raised:
        parse(["--config", str(file)])
    assert said in str(raised.value).replace(f"{tmp_path}/", "")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(CannotStart, match="/nowhere/x: No such file"):
        parse(["--config", "/nowhere/x"])


def test_without_a_reader_of_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 10, 0))
    monkeypatch.setitem(__import__("sys").modules, "tomli", None)
    with pytest.raises(CannotStart, match=r"pip install 'blocksmtp\[config\]'"):
        parse(["--config", written(tmp_path, "port = 1")])


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("port = 25\nsize = '1M'", ["--port", "26"], {"port": 26, "size": 1_048_576}),
        ("maildir = 'a'", ["--mbox", "b"], {"mbox": "b"}),
        ("maildir = 'a'", ["--print"], {"print": True}),
        ("maildir = 'a'\nprint = false", [], {"maildir": "a"}),
        ("cert = 'a'\nkey = 'b'", ["--cert", "c"], {"cert": Path("c")}),
        ("cert = 'a'", ["--key", "b"], {"cert": Path("a"), "key": Path("b")}),
        ("key = 'b'", ["--cert", "a"], {"cert": Path("a"), "key": Path("b")}),
        ("host = '::'\nport = 25", ["--unix", "x"], {"unix": "x"}),
        ("unix = 'x'\nunix-mode = '660'", ["--port", "26"], {"port": 26}),
        ("proxy-from = ['::1', '10.0.0.0/8']", [], {"proxy_from": ["::1/128", "10.0.0.0/8"]}),
        ("proxy-from = '::1'", ["--proxy-from", "::2"], {"proxy_from": ["::2/128"]}),
    ],
)
def test_flags_win(
    tmp_path: Path, text: str, arguments: list[str], expected: dict[str, Any]
) -> None:
    file = written(tmp_path, text)
    assert chosen("--config", file, *arguments) == {**expected, "config": Path(file)}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--print", "--maildir", "x"],
        ["--maildir", "x", "--forward", "a:25"],
        ["--unix", "x", "--port", "25"],
        ["--unix-mode", "600", "--host", "::"],
    ],
)
def test_what_does_not_go_together(arguments: list[str]) -> None:
    with pytest.raises(CannotStart, match="do not go together"):
        parse(arguments)


def test_a_mode_without_a_unix_socket() -> None:
    with pytest.raises(CannotStart, match="--unix-mode without --unix"):
        parse(["--unix-mode", "600"])


def test_the_help_tells_of_every_option() -> None:
    text = command_line().format_help()
    for flag in (*FLAGS, *SWITCHES, *TOGETHER, "--config", "--version"):
        assert re.search(rf"^  (-\w, )?{flag}\b", text, re.MULTILINE), flag
    for action in command_line()._actions:
        assert action.help not in (None, argparse.SUPPRESS)
    assert max(len(line) for line in text.splitlines()) <= 100
