"""The command line, in processes of its own: what each option does, and how it starts and ends."""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from blocksmtp import __version__, cli
from blocksmtp.cli import arguments

from ..certificates import Authority
from ..client import connect
from ..running import Running
from .processes import COMMAND, assert_refused, done, running, said_hello


@pytest.fixture
def taken_port() -> int:
    """A port that is free at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


# --- without arguments ---------------------------------------------------------------------------


def test_the_defaults() -> None:
    chosen = arguments.parse([])
    assert (chosen.host, chosen.port) == ("127.0.0.1", 2525)
    assert (chosen.lmtp, chosen.size, chosen.cert, chosen.key) == (False, None, None, None)


def test_a_message_is_printed_envelope_first() -> None:
    with running() as server:
        assert server.address[0] == "127.0.0.1"
        with smtplib.SMTP(*server.address, local_hostname="client.example") as client:
            client.sendmail("a@example.org", ["b@example.com", "c@example.com"], "Subject: x\n\nhi")
            port = client.sock.getsockname()[1] if client.sock else None
        server.end()
    assert server.errors == ""
    session = re.findall("message 1 of session ([a-z2-7]{16}) ", server.output)[0]
    assert server.output == (
        f"Listening on 127.0.0.1:{server.address[1]} (SMTP); Ctrl-C stops it\n"
        f"---- message 1 of session {session} ----\n"
        f"Client: 127.0.0.1 port {port}, EHLO client.example, ESMTP\n"
        "TLS: none\n"
        "MAIL FROM:<a@example.org> SIZE=16\n"
        "RCPT TO:<b@example.com>\n"
        "RCPT TO:<c@example.com>\n"
        "\n"
        "Subject: x\n"
        "\n"
        "hi\n"
        f"---- end of message 1 of session {session}, 18 bytes ----\n"
    )


def test_a_message_is_printed_before_it_is_acknowledged() -> None:
    with running() as server, said_hello(server) as client:
        client.envelope()
        assert client.message(b"Subject: now\r\n\r\n").code == 250
        # Nothing more is sent, and the server goes on: the text is there all the same.
        while server.readline() != "Subject: now\n":
            pass


def test_tls_is_offered_with_a_certificate_of_its_own() -> None:
    with running() as server:
        with said_hello(server) as client:
            client.upgrade()
            client.expect(250, "EHLO client.example")
            client.envelope()
            assert client.message().code == 250
        server.end()
    assert re.search(r"^TLS: TLSv1\.3, TLS_", server.output, re.MULTILINE)
    assert server.errors == ""


def test_authentication_is_neither_asked_for_nor_offered() -> None:
    with running() as server, connect(server.address) as client:
        client.hello()
        client.upgrade()
        offered = client.expect(250, "EHLO client.example").lines
        assert not [line for line in offered if line.startswith("AUTH")]
        client.envelope()


# --- the options ---------------------------------------------------------------------------------


def test_host() -> None:
    with running("--host", "127.0.0.2") as server:
        # Not all addresses: the same port of another may be somebody else's.
        assert server.address[0] == "127.0.0.2"
        said_hello(server).close()


def test_port(taken_port: int) -> None:
    with Running([*COMMAND, "--port", str(taken_port)]) as server:
        assert server.address == ("127.0.0.1", taken_port)
        said_hello(server).close()


def test_lmtp() -> None:
    with running("--lmtp") as server:
        assert "(LMTP)" in server.output
        with said_hello(server, "LHLO client.example") as client:
            client.envelope("a@client.example", "b@server.example", "c@server.example")
            assert client.message().code == 250
            assert client.reply().code == 250
        server.end()
    assert server.output.count("---- message ") == 1


@pytest.mark.parametrize(
    ("given", "limit"), [("1000", 1000), ("2K", 2048), ("3m", 3 * 1024**2), ("1G", 1024**3)]
)
def test_size(given: str, limit: int) -> None:
    with running("--size", given) as server, connect(server.address) as client:
        assert f"SIZE {limit}" in client.hello().lines
        assert client.command(f"MAIL FROM:<a@client.example> SIZE={limit + 1}").code == 552
        assert client.command(f"MAIL FROM:<a@client.example> SIZE={limit}").code == 250


def test_a_message_beyond_the_size_is_not_printed() -> None:
    with running("--size", "100") as server:
        with said_hello(server) as client:
            client.envelope()
            assert client.message(b"Subject: too much\r\n\r\n" + b"x" * 100 + b"\r\n").code == 552
        server.end()
    assert "too much" not in server.output


@pytest.mark.parametrize("together", [False, True])
def test_cert_and_key(tmp_path: Path, *, together: bool) -> None:
    authority = Authority()
    leaf = authority.issue("mail.example.org")
    cert, key = leaf.write(tmp_path)
    arguments = ["--cert", str(cert), "--key", str(key)]
    if together:
        cert.write_bytes(leaf.combined)
        arguments = ["--cert", str(cert)]
    context = ssl.create_default_context()
    authority.trusted_by(context)
    with running(*arguments) as server, said_hello(server) as client:
        client.upgrade(context, "mail.example.org")
        client.expect(250, "NOOP")


def test_version() -> None:
    outcome = done("--version")
    assert (outcome.returncode, outcome.stdout) == (0, f"blocksmtp {__version__}\n")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_tells_of_every_option(option: str) -> None:
    outcome = done(option)
    assert outcome.returncode == 0
    assert outcome.stderr == ""
    for name in ("--host", "--port", "--lmtp", "--size", "--cert", "--key", "--version", "--help"):
        assert name in outcome.stdout
    assert "default: 127.0.0.1" in outcome.stdout
    assert "default: 2525" in outcome.stdout


# --- what cannot be done -------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nonsense"], ["--nonsense"]),
        (["--siz", "5"], ["--siz"]),
        (["file"], ["file"]),
        (["two\nlines"], ["two lines"]),
        (["--port"], ["--port"]),
        (["--port", "x"], ["--port", "'x'"]),
        (["--port", "65536"], ["--port", "'65536'"]),
        (["--port", "-1"], ["--port"]),
        (["--port", "\u0665"], ["--port"]),
        (["--size", "0"], ["--size", "'0'"]),
        (["--size", "-5"], ["--size"]),
        (["--size", "5T"], ["--size", "'5T'"]),
        (["--host", "a..b"], ["a..b", "no host name"]),
        (["--host", "192.0.2.1"], ["192.0.2.1:2525", "assign"]),
        (["--cert", "/nowhere/x.pem"], ["cert", "/nowhere/x.pem", "No such file"]),
        (["--key", "/nowhere/x.pem"], ["--key", "without --cert"]),
    ],
)
def test_a_bad_argument(arguments: list[str], words: list[str]) -> None:
    assert_refused(done(*arguments), *words)


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "x.pem"
    file.write_text("this is no certificate")
    assert_refused(done("--cert", str(file)), "cert", "PEM")


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    authority = Authority()
    cert, _ = authority.issue("a.example").write(tmp_path, "a")
    _, key = authority.issue("b.example").write(tmp_path, "b")
    assert_refused(done("--cert", str(cert), "--key", str(key)), "key", "does not belong to cert")


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = str(sock.getsockname()[1])
        assert_refused(done("--port", port), f"127.0.0.1:{port}", "in use")


def test_no_permission(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def bind(sock: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Tests may run as root, who is denied nothing.
    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(SystemExit) as raised:
        cli.main(["--host", "::1", "--port", "25"])
    assert raised.value.code == 2
    assert capsys.readouterr().err == (
        "blocksmtp: error: cannot listen on [::1]:25: Permission denied (see blocksmtp --help)\n"
    )


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_gracefully(number: int) -> None:
    with running() as server, said_hello(server) as idle, said_hello(server) as busy:
        busy.envelope()
        busy.expect(354, "DATA")
        server.process.send_signal(number)
        assert idle.reply().code == 421
        busy.send("Subject: to the end\r\n\r\n.\r\n")
        assert busy.reply().code == 250
        assert busy.reply().code == 421
        assert server.end(0) == 0
    assert "Subject: to the end\n" in server.output
    assert server.errors == ""


def test_broken_output_ends_it() -> None:
    with running() as server:
        assert server.process.stdout is not None
        with said_hello(server) as client, said_hello(server) as idle:
            server.process.stdout.close()
            client.envelope()
            assert client.message().startswith("451 4.3.0 ")
            assert client.reply().code == 421
            assert idle.reply().code == 421
        assert server.process.stderr is not None
        with server.process.stderr:
            assert server.process.stderr.read() == "blocksmtp: standard output: Broken pipe\n"
        assert server.process.wait(30) == 1


def ended_at_once(redirection: str) -> subprocess.CompletedProcess[str]:
    """`blocksmtp` with its standard output redirected by a shell."""
    script = f'exec "$@" --port 0 {redirection}'
    return subprocess.run(
        ["sh", "-c", script, "sh", *COMMAND],
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )


def test_output_that_is_broken_from_the_beginning() -> None:
    outcome = ended_at_once("> /dev/full")
    assert outcome.stderr == f"blocksmtp: standard output: {os.strerror(28)}\n"
    assert outcome.returncode == 1


def test_output_that_is_closed_from_the_beginning() -> None:
    outcome = ended_at_once(">&-")
    assert "standard output is closed" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert outcome.returncode == 2


# --- as a program and as a module ----------------------------------------------------------------


def test_the_script_is_the_command_line() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="blocksmtp")
    assert script.load() is cli.main


def test_importing_the_package_leaves_the_command_line_out() -> None:
    outcome = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; before = set(sys.modules); import blocksmtp;"
            "print(*sorted(set(sys.modules) - before))",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    loaded = outcome.stdout.split()
    assert "blocksmtp" in loaded
    assert {"blocksmtp.cli", "blocksmtp.delivery", "argparse"} & set(loaded) == set()
