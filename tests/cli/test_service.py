"""What a running `blocksmtp` does with messages, users, signals and files, tried from outside."""

from __future__ import annotations

import grp
import os
import pwd
import re
import signal
import smtplib
import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocksmtp.cli import main
from blocksmtp.password_file import StoredUser, shown_users
from blocksmtp.testing import MailCatcher

from ..certificates import Authority
from ..client import Client, trusting
from ..running import Running
from .processes import (
    COMMAND,
    assert_refused,
    children_of,
    done,
    logs_of,
    running,
    said_hello,
    unmeasured,
)

pytestmark = pytest.mark.processes

MESSAGE = "Subject: x\r\n\r\nhi\r\n"


def send(server: Running, *recipients: str) -> None:
    with smtplib.SMTP(*server.address, local_hostname="client.example") as client:
        client.sendmail("a@example.org", recipients or ["b@example.com"], MESSAGE)


# --- deliveries ----------------------------------------------------------------------------------


def test_maildir(tmp_path: Path) -> None:
    with running("--maildir", str(tmp_path / "Mail"), "--name", "mx.example") as server:
        send(server)
        (file,) = (tmp_path / "Mail" / "new").iterdir()
        server.end()
    assert re.fullmatch(
        rb"Return-Path: <a@example\.org>\nReceived: from client\.example\n\t\(\[127\.0\.0\.1\]\)\n"
        rb"\tby mx\.example\n\twith ESMTP id .+\n\tfor <b@example\.com>;\n\t.+\n"
        rb"Subject: x\n\nhi\n",
        file.read_bytes(),
    )
    # Each message has a line in the log.
    assert "message of 18 octets: 250" in server.errors


def test_a_maildir_a_recipient(tmp_path: Path) -> None:
    for folder in ("new", "cur", "tmp"):
        (tmp_path / "b" / folder).mkdir(parents=True)
    with running("--maildir", str(tmp_path / "{user}")) as server:
        send(server)
        with pytest.raises(smtplib.SMTPRecipientsRefused, match="no such mailbox"):
            send(server, "c@example.com")
    assert len(list((tmp_path / "b" / "new").iterdir())) == 1


def test_mbox(tmp_path: Path) -> None:
    with running("--mbox", str(tmp_path / "mbox")) as server:
        send(server)
    assert (tmp_path / "mbox").read_bytes().startswith(b"From a@example.org ")


def test_forward() -> None:
    with MailCatcher() as smarthost:
        smarthost.fail("RCPT", 551, to="c@example.com")
        with running("--forward", f"127.0.0.1:{smarthost.port}") as server:
            send(server)
            with pytest.raises(smtplib.SMTPRecipientsRefused, match="551"):
                send(server, "c@example.com")
        (message,) = smarthost.messages
        assert message.email["Subject"] == "x"
        assert message.session.secure


def test_forward_with_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login = tmp_path / "login"
    login.write_text("me:s3cret\n")
    with MailCatcher() as smarthost:
        smarthost.users = {"me": "s3cret"}
        monkeypatch.setenv("SSL_CERT_FILE", smarthost.ca_file)
        place = f"localhost:{smarthost.port}"
        options = ("--forward-tls", "required", "--forward-login", str(login), "--verbose")
        with running("--forward", place, *options) as server:
            send(server)
            server.end()
        assert smarthost.messages[0].session.user == "me"
    assert "s3cret" not in server.errors


def test_exec(tmp_path: Path) -> None:
    command = f"sh -c 'cat > {tmp_path}/message; test \"$RECIPIENT\" = b@example.com || exit 67'"
    with running("--exec", command) as server:
        send(server)
        assert (tmp_path / "message").read_bytes().endswith(b"\nhi\n")
        with pytest.raises(smtplib.SMTPDataError, match="no such recipient"):
            send(server, "c@example.com")


def test_exec_timeout() -> None:
    with (
        running("--exec", "sleep 600", "--exec-timeout", "0.2") as server,
        pytest.raises(smtplib.SMTPDataError, match="451"),
    ):
        send(server)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--maildir", "/proc/x"], ["--maildir"]),
        (["--maildir", "/x/{nobody}"], ["--maildir", "pattern"]),
        (["--mbox", "/nowhere/mbox"], ["--mbox", "/nowhere/mbox", "No such file"]),
        (["--exec", "nothing-of-this-name"], ["--exec", "nothing-of-this-name", "No such program"]),
        (["--exec", "'"], ["--exec", "quotation"]),
        (["--forward", "a:25", "--forward-login", "/nowhere/x"], ["--forward-login", "No such"]),
        (["--forward", "a:25", "--forward-login", "/dev/null"], ["NAME:PASSWORD"]),
        (["--auth-file", "/nowhere/x"], ["--auth-file", "/nowhere/x", "No such file"]),
        (["--auth-file", "/proc/version"], ["--auth-file", "line 1"]),
        (["--user", "nobody-of-this-name"], ["--user", "nobody-of-this-name"]),
        (["--group", "nobody-of-this-name"], ["--group", "nobody-of-this-name"]),
        (["--user", "\u00b2"], ["--user", "there is no"]),
        (["--group", "9" * 5000], ["--group", "there is no"]),
        (["--metrics", "192.0.2.1:9090"], ["--metrics", "192.0.2.1:9090", "assign"]),
        (["--unix", "/nowhere/socket"], ["/nowhere/socket", "No such file"]),
        (["--name", "a b"], ["name", "host name"]),
    ],
)
@pytest.mark.thorough
def test_what_cannot_be(arguments: list[str], words: list[str]) -> None:
    place = [] if "--unix" in arguments else ["--port", "0"]
    assert_refused(done(*place, *arguments), *words)


# --- places --------------------------------------------------------------------------------------


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "lmtp.sock"
    command = [*COMMAND, "--lmtp", "--unix", str(path), "--unix-mode", "660"]
    with Running(command, listens=f"Listening on {path} "):
        assert path.stat().st_mode & 0o777 == 0o660
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            assert sock.recv(1000).startswith(b"220 ")
    assert not path.exists()


def test_implicit_tls() -> None:
    with running("--implicit-tls") as server:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with smtplib.SMTP_SSL(*server.address, context=context) as client:
            assert client.noop()[0] == 250


def test_a_proxy_tells_of_the_client(tmp_path: Path) -> None:
    maildir = tmp_path / "Mail"
    with running("--proxy-from", "127.0.0.0/8", "--maildir", str(maildir)) as server:
        sock = socket.create_connection(server.address, 20)
        sock.sendall(b"PROXY TCP4 198.51.100.7 192.0.2.1 1234 25\r\n")
        with Client(sock) as client:
            client.hello()
            client.envelope()
            assert client.message().code == 250
        (file,) = (maildir / "new").iterdir()
    assert b"([198.51.100.7])" in file.read_bytes()


# --- users ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alice() -> str:
    return shown_users({"alice": StoredUser.from_password("wonderland")})


def test_only_users_may_send(tmp_path: Path, alice: str) -> None:
    file = tmp_path / "passwords"
    file.write_text(alice)
    with running("--auth-file", str(file)) as server:
        with said_hello(server) as client:
            assert client.command("MAIL FROM:<a@client.example>").code == 530
            assert client.command("AUTH PLAIN x").code == 538
            client.upgrade()
            offered = client.expect(250, "EHLO client.example").lines
            assert any("SCRAM-SHA-256-PLUS" in line and "PLAIN" in line for line in offered)
            assert client.command("AUTH PLAIN AGFsaWNlAHdyb25n").code == 535
            assert client.command("AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=").code == 235
            client.envelope()
        server.end()
    assert "wonderland" not in server.output + server.errors


def test_passwords_in_clear_where_that_is_allowed(tmp_path: Path, alice: str) -> None:
    file = tmp_path / "passwords"
    file.write_text(alice)
    with (
        running("--auth-file", str(file), "--allow-insecure-auth") as server,
        smtplib.SMTP(*server.address) as client,
    ):
        client.login("alice", "wonderland")


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_reads_certificates_and_passwords_again(
    tmp_path: Path, alice: str, workers: int
) -> None:
    authority = Authority()
    cert, key = authority.issue("first.example").write(tmp_path, "mail")
    file = tmp_path / "passwords"
    file.write_text(shown_users({"bob": StoredUser.from_password("builder")}))
    context = ssl.create_default_context()
    authority.trusted_by(context)
    files = ("--cert", str(cert), "--key", str(key), "--auth-file", str(file))
    with running(*files, "--verbose", "--workers", str(workers)) as server:
        with said_hello(server) as client:
            client.upgrade(context, "first.example")
        authority.issue("second.example").write(tmp_path, "mail")
        file.write_text(alice)
        server.process.send_signal(signal.SIGHUP)
        # Whoever serves the clients below has done it.
        for _ in range(1 if workers == 1 else workers + 1):
            logs_of(server, "certificates and passwords reloaded")
        with said_hello(server) as client:
            client.upgrade(context, "second.example")
            client.expect(250, "EHLO client.example")
            assert client.command("AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=").code == 235
        # What cannot be read changes nothing.
        cert.write_text("nonsense")
        file.write_text(shown_users({"bob": StoredUser.from_password("builder")}))
        server.process.send_signal(signal.SIGHUP)
        for _ in range(1 if workers == 1 else workers + 1):
            logs_of(server, "not reloaded: cert")
        with said_hello(server) as client:
            client.upgrade(context, "second.example")
            client.expect(250, "EHLO client.example")
            assert client.command("AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=").code == 235


def test_sighup_keeps_tls_sessions_where_the_certificate_is_the_same(tmp_path: Path) -> None:
    cert = tmp_path / "cert.pem"
    cert.write_bytes(Authority().issue("mail.example").combined)
    context = trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with running("--cert", str(cert), "--verbose", "--workers", "2") as server:
        with said_hello(server) as client:
            session = client.upgrade(context).session
        server.process.send_signal(signal.SIGHUP)
        for _ in range(3):
            logs_of(server, "certificates and passwords reloaded")
        for _ in range(5):
            with said_hello(server) as client:
                client.expect(220, "STARTTLS")
                client.sock = context.wrap_socket(client.sock, session=session)
                assert client.sock.session_reused


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_wait_for_clients(number: int) -> None:
    with running() as server, said_hello(server) as busy, said_hello(server) as idle:
        busy.envelope()
        busy.expect(354, "DATA")
        server.process.send_signal(number)
        # It has been heard.
        assert idle.reply().code == 421
        server.process.send_signal(number)
        assert server.end(0) == 0


# --- privileges ----------------------------------------------------------------------------------

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")


def identity_of(process_id: int) -> dict[str, set[int]]:
    """The real, effective, saved and file-system ids, and the groups, of a process."""
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    fields = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    return {name: {int(number) for number in fields[name]} for name in ("Uid", "Gid", "Groups")}


@pytest.fixture
def maildir() -> Iterator[Path]:
    """In a folder that others may enter: pytest's own it keeps closing, at each start beside us."""
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)
        maildir = Path(home, "Mail")
        maildir.mkdir()
        yield maildir


@as_root
@pytest.mark.parametrize(("workers", "group"), [(1, None), (1, "daemon"), (2, None)])
def test_root_is_given_up(
    tmp_path: Path, maildir: Path, alice: str, workers: int, group: str | None
) -> None:
    nobody = pwd.getpwnam("nobody")
    gid = grp.getgrnam(group).gr_gid if group else nobody.pw_gid
    os.chown(maildir, nobody.pw_uid, gid)
    # They are for root alone, and read before.
    cert = tmp_path / "cert.pem"
    cert.write_bytes(Authority().issue("mail.example").combined)
    passwords = tmp_path / "passwords"
    passwords.write_text(alice)
    for secret in (cert, passwords):
        secret.chmod(0o600)
    arguments = ["--user", "nobody", *(["--group", group] if group else [])]
    arguments += ["--cert", str(cert), "--auth-file", str(passwords), "--maildir", str(maildir)]
    arguments += ["--workers", str(workers), "--allow-insecure-auth"]
    with running(*arguments, env=unmeasured()) as server:
        processes = [server.process.pid, *children_of(server.process.pid)]
        assert len(processes) == (1 if workers == 1 else 1 + workers)
        for process_id in processes:
            assert identity_of(process_id) == {
                "Uid": {nobody.pw_uid},
                "Gid": {gid},
                "Groups": {gid},
            }
        with smtplib.SMTP(*server.address) as client:
            client.login("alice", "wonderland")
            client.sendmail("a@example.org", ["b@example.com"], MESSAGE)
    (file,) = (maildir / "new").iterdir()
    assert file.stat().st_uid == nobody.pw_uid


@as_root
def test_a_unix_socket_belongs_to_the_user(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    path = tmp_path / "lmtp.sock"
    command = [*COMMAND, "--unix", str(path), "--user", "nobody"]
    with Running(command, listens=f"Listening on {path} ", env=unmeasured()):
        assert (path.stat().st_uid, path.stat().st_gid) == (nobody.pw_uid, nobody.pw_gid)


@as_root
def test_a_maildir_that_the_user_may_not_write(tmp_path: Path) -> None:
    (tmp_path / "Mail").mkdir(mode=0o700)
    arguments = ["--port", "0", "--user", "nobody", "--maildir", str(tmp_path / "Mail")]
    assert_refused(done(*arguments, env=unmeasured()), "--maildir", "Permission denied")


def test_who_is_not_root_cannot_become_somebody_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "initgroups", denied)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(SystemExit):
        main(["--port", "0", "--user", "nobody"])
    assert "--user: Operation not permitted; only root may" in capsys.readouterr().err
