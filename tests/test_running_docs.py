"""docs/running.md and the README's section on the command line: what they say can be said."""

from __future__ import annotations

import re
import shlex
import smtplib
import subprocess
import sys
from pathlib import Path

import pytest

from blocksmtp.cli.arguments import command_line, parse
from blocksmtp.delivery.maildir import make_maildir

from .cli.processes import COMMAND, running
from .documents import Document, run

DOCUMENT = Document("docs/running.md")
README = Document("README.md")


def words(line: str) -> list[str]:
    program, *arguments = shlex.split(line, comments=True)
    assert program == "blocksmtp"
    return arguments


def every_line() -> list[str]:
    blocks = [
        block
        for document in (DOCUMENT, README)
        for heading in document.sections
        for block in document.blocks(heading, "sh")
    ]
    return [line for block in blocks for line in block.splitlines() if line.startswith("blocksmtp")]


def test_what_is_shown_can_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("blocksmtp.toml").write_text("")
    lines = every_line()
    assert len(lines) >= 6
    for line in lines:
        if words(line)[0] != "passwd":
            parse(words(line))


def test_the_readme_in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = README.blocks("From the command line", "sh")
    maildir, passwd, config = map(words, block.splitlines())
    monkeypatch.chdir(tmp_path)
    with running(*maildir) as server, smtplib.SMTP(*server.address) as client:
        client.sendmail("a@example.org", ["b@example.com"], "Subject: x\r\n\r\n")
    assert len(list(Path("Mail/new").iterdir())) == 1
    subprocess.run([*COMMAND, *passwd], input=b"secret\n", check=True, timeout=30)
    assert Path("passwords").read_text().startswith("alice:$argon2id$")
    Path("blocksmtp.toml").write_text("auth-file = 'passwords'\nallow-insecure-auth = true\n")
    # The port for Prometheus may be somebody's.
    config[config.index("9090")] = "0"
    with running(*config) as server, smtplib.SMTP(*server.address) as client:
        client.login("alice", "secret")


def test_every_flag_that_is_named_exists() -> None:
    flags = {flag for action in command_line()._actions for flag in action.option_strings}
    flags |= {"--delete", "--list", "--no-scram"}
    named = set(re.findall(r"`(--[a-z-]+)", DOCUMENT.text))
    assert named <= flags
    assert len(named) > 25


def test_every_key_of_the_file(tmp_path: Path) -> None:
    (block,) = DOCUMENT.blocks("A configuration file", "toml")
    file = tmp_path / "mail.toml"
    file.write_text(block)
    chosen = parse(["--config", str(file)])
    assert (chosen.port, chosen.size, chosen.workers) == (25, 26_214_400, 4)
    assert chosen.metrics == ("127.0.0.1", 9090)


def test_deliveries_in_a_server_of_ones_own(tmp_path: Path) -> None:
    maildir, combined = DOCUMENT.blocks("In your own server")
    make_maildir(str(tmp_path / "example.com" / "bob"))
    server = run(maildir, {"/var/mail": str(tmp_path)})["server"]
    with server.test_client() as client:
        client.command("EHLO me")
        client.command("MAIL FROM:<a@b.c>")
        assert client.command("RCPT TO:<eve@example.com>").code == 550
        assert client.command("RCPT TO:<bob@example.com>").code == 250
        assert client.data(b"Subject: x\r\n\r\n").code == 250
    inbox = tmp_path / "inbox"
    server = run(combined, {"/var/mail/inbox": str(inbox)})["server"]
    with server.test_client() as client:
        client.command("EHLO me")
        client.command("MAIL FROM:<a@b.c>")
        client.command("RCPT TO:<bob@example.com>")
        assert client.data(b"Subject: x\r\n\r\n").code == 250
    assert b"Subject: x" in inbox.read_bytes()


def test_users_in_a_server_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    subprocess.run(
        [*COMMAND, "passwd", str(file), "alice"], input=b"secret\n", check=True, timeout=30
    )
    (block,) = DOCUMENT.blocks("Users and passwords")
    server = run(block, {"/etc/blocksmtp/passwords": str(file)})["server"]
    with server.test_client(secure=True) as client:
        assert client.login("alice", "secret").code == 235


def test_figures_of_a_server_of_ones_own() -> None:
    (block,) = DOCUMENT.blocks("As a service")
    # Its thread would outlast the test: it is a process of its own that shows the page.
    script = block + (
        "\nimport prometheus_client\n"
        "with server.test_client() as client:\n"
        "    client.send_message(from_addr='a@b.c', to_addrs=['a@b.c'], message=b'x\\r\\n')\n"
        "print(prometheus_client.generate_latest(registry).decode())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 'blocksmtp_messages_total{code="250"} 1.0' in done.stdout, done.stderr
