"""`blocksmtp` among real programs: what they send ends where it should, or they learn of it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocksmtp.delivery.maildir import make_maildir
from blocksmtp.password_file import StoredUser, shown_users
from tests.certificates import Leaf
from tests.cli.processes import COMMAND, logs_of, running
from tests.durability.senders import Senders
from tests.durability.store import assert_nothing_is_lost
from tests.running import Running

from .conftest import StartPostfix, find_program, missing
from .postfix import SMTPD_HOST, Postfix
from .serving import HOST, TIMEOUT, Run, Serve

FROM = "alice@example.com"
TO = "bob@example.net"
MESSAGE = "Subject: x\r\n\r\nhi\r\n"


def new(maildir: Path) -> list[bytes]:
    return [file.read_bytes() for file in (maildir / "new").iterdir()]


# --- swaks ---------------------------------------------------------------------------------------


def test_swaks_logs_in_over_tls(run: Run, leaf: Leaf, ca_file: Path, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text(shown_users({"alice": StoredUser.from_password("correct horse")}))
    cert, key = leaf.write(tmp_path)
    maildir = tmp_path / "Mail"
    with running(
        *("--auth-file", str(passwords), "--cert", str(cert), "--key", str(key)),
        *("--maildir", str(maildir), "--verbose"),
    ) as server:
        where = ("--server", HOST, "--port", server.address[1], "--from", FROM, "--to", TO)
        tls = ("--tls", "--tls-ca-path", ca_file, "--tls-verify")
        for mechanism in ("PLAIN", "LOGIN"):
            user = ("--auth", mechanism, "--auth-user", "alice", "--auth-password")
            run("swaks", *where, *tls, *user, "correct horse")
            run("swaks", *where, *tls, *user, "wrong", status=28)
        # Without a login nobody may send.
        run("swaks", *where, *tls, status=23)
        told = ""
        for _ in range(5):
            told += logs_of(server, "connection closed")
    assert len(new(maildir)) == 2
    assert b"with ESMTPSA id" in new(maildir)[0]
    assert "correct horse" not in told


def test_swaks_is_told_what_the_program_says(run: Run) -> None:
    with running("--exec", "sh -c 'grep -q spam && exit 65; exit 0'") as server:
        where = ("--server", HOST, "--port", server.address[1], "--from", FROM, "--to", TO)
        run("swaks", *where, "--body", "ham")
        refused = run("swaks", *where, "--body", "spam", status=26)
        assert "554 5.6.0 Error: the message is not acceptable" in refused


def test_msmtp_uses_scram_from_the_password_file(
    run: Run, leaf: Leaf, ca_file: Path, tmp_path: Path
) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text(shown_users({"alice": StoredUser.from_password("correct horse")}))
    cert, key = leaf.write(tmp_path)
    with running(
        *("--auth-file", str(passwords), "--cert", str(cert), "--key", str(key)),
        *("--mbox", str(tmp_path / "mbox"), "--verbose"),
    ) as server:
        run(
            "msmtp",
            *("--host=localhost", f"--port={server.address[1]}", "--tls", "--tls-starttls"),
            *(f"--tls-trust-file={ca_file}", "--auth=scram-sha-256", "--user=alice"),
            *("--passwordeval=echo 'correct horse'", f"--from={FROM}", TO),
            stdin=b"Subject: x\n\nFrom me to you\n",
        )
        assert "AUTH SCRAM-SHA-256" in logs_of(server, "connection closed")
    assert b"\n>From me to you\n" in (tmp_path / "mbox").read_bytes()


# --- smtp-source ---------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_smtp_source_at_full_speed(run: Run, tmp_path: Path, protocol: str) -> None:
    maildir, count = tmp_path / "Mail", 1000
    options = ["--lmtp"] if protocol == "lmtp" else []
    command = [*COMMAND, "--port", "0", "--maildir", str(maildir), "--workers", "2", *options]
    # Nobody reads its log, which is long.
    with Running(command, stderr=subprocess.DEVNULL) as server:
        flags = ["-L"] if protocol == "lmtp" else []
        sizes = ("-s", 10, "-m", count, "-l", 5000)
        run("smtp-source", *flags, *sizes, "-f", FROM, "-t", TO, f"{HOST}:{server.address[1]}")
    messages = new(maildir)
    assert len(messages) == count
    assert os.listdir(maildir / "tmp") == []
    assert all(len(message) > 4900 for message in messages)


# --- Postfix -------------------------------------------------------------------------------------


def submit(postfix: Postfix, *recipients: str) -> None:
    with smtplib.SMTP(SMTPD_HOST, postfix.port, "submitter.example", timeout=TIMEOUT) as client:
        client.sendmail(FROM, recipients, MESSAGE)


def test_postfix_delivers_by_lmtp_to_a_maildir_a_recipient(
    postfix: StartPostfix, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    folder = tmp_path_factory.mktemp("postfix")
    (folder / "queue").mkdir()
    for user in ("bob", "carol"):
        make_maildir(str(tmp_path / user))
    path = folder / "queue" / "lmtp.sock"
    command = [*COMMAND, "--lmtp", "--unix", str(path), "--unix-mode", "666"]
    with Running(
        [*command, "--maildir", str(tmp_path / "{user}")], listens="Listening on ", log=True
    ):
        relay = postfix({"*": "lmtp:unix:lmtp.sock"}, folder)
        submit(relay, "bob@example.net", "carol@example.net", "dave@example.net")
        relay.log.wait_for("status=sent", count=2)
        relay.log.wait_for("to=<dave@example.net>", "dsn=5.1.1", "status=bounced")
        # A mailbox that cannot be written to now is tried again later, and for itself.
        (tmp_path / "carol" / "tmp").rename(tmp_path / "away")
        submit(relay, "bob@example.net", "carol@example.net")
        relay.log.wait_for("to=<carol@example.net>", "dsn=4.3.0", "status=deferred")
        relay.log.wait_for("to=<bob@example.net>", "status=sent", count=2)
        (tmp_path / "away").rename(tmp_path / "carol" / "tmp")
        relay.flush()
        relay.log.wait_for("to=<carol@example.net>", "status=sent", count=2)
    for user in ("bob", "carol"):
        messages = new(tmp_path / user)
        assert len(messages) == 2
        for message in messages:
            assert message.startswith(f"Return-Path: <{FROM}>\n".encode())
            assert f"\nDelivered-To: {user}@example.net\n".encode() in message
            assert message.endswith(b"\nSubject: x\n\nhi\n")


def test_a_postfix_smarthost(postfix: StartPostfix, serve: Serve) -> None:
    served = serve()
    relay = postfix(
        {"example.net": f"smtp:[{HOST}]:{served.port}"},
        smtpd_recipient_restrictions="check_recipient_access inline:{ eve@example.net=REJECT }",
        smtpd_peername_lookup="no",
    )
    with running("--forward", f"{SMTPD_HOST}:{relay.port}") as server:
        with smtplib.SMTP(*server.address, "submitter.example", timeout=TIMEOUT) as client:
            # The one that Postfix refuses is refused for itself.
            refused = client.sendmail(FROM, [TO, "eve@example.net"], MESSAGE)
            assert set(refused) == {"eve@example.net"}
            assert refused["eve@example.net"][0] == 554
        (message,) = served.mailbox.wait_for(1)
        assert message.recipients == [TO]
        assert message.content.endswith(MESSAGE.encode())
        assert message.content.count(b"\r\nReceived: ") == 1


# --- a full disk ---------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(run: Run, folder: Path) -> Iterator[Path]:
    """A file system with room for 2 MB."""
    if os.geteuid() != 0:
        missing("only root may mount a file system")
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "none", folder)
    try:
        yield folder
    finally:
        run("umount", folder)


def save(folder: Path, to: Path) -> None:
    """Move all files to another file system."""
    for file in list(folder.iterdir()):
        shutil.move(file, to)


def test_a_full_disk(run: Run, tmp_path: Path) -> None:
    with small_disk(run, tmp_path / "disk") as disk:
        maildir, saved = disk / "Mail", tmp_path / "saved" / "new"
        saved.mkdir(parents=True)
        command = [*COMMAND, "--port", "0", "--workers", "2", "--maildir", str(maildir)]
        with (
            Running(command, stderr=subprocess.DEVNULL) as server,
            Senders(server.address, 4, seed=5) as senders,
        ):
            # Until nothing fits any more, and beyond.
            senders.wait_for_refusals(50)
            assert set(senders.refused.values()) == {452}
            acknowledged = set(senders.acknowledged)
            # Somebody makes room: it goes on.
            save(maildir / "new", saved)
            senders.wait_for(20, len(acknowledged))
        assert os.listdir(maildir / "tmp") == []
        save(maildir / "new", saved)
    assert len(acknowledged) > 10
    assert_nothing_is_lost(saved.parent, senders.acknowledged)


def test_an_mbox_on_a_full_disk(run: Run, tmp_path: Path) -> None:
    with small_disk(run, tmp_path / "disk") as disk:
        mbox = disk / "mbox"
        with running("--mbox", str(mbox)) as server:
            codes = []
            with smtplib.SMTP(*server.address, timeout=TIMEOUT) as client:
                for number in range(40):
                    text = f"Subject: {number}\r\n\r\n" + "x" * 70 + "\r\n" * 100_000
                    try:
                        client.sendmail(FROM, [TO], text)
                        codes.append(250)
                    except smtplib.SMTPDataError as error:
                        codes.append(error.smtp_code)
        content = mbox.read_bytes()
    assert set(codes) == {250, 452}
    accepted = [number for number, code in enumerate(codes) if code == 250]
    assert [int(found) for found in re.findall(rb"\nSubject: (\d+)\n", content)] == accepted
    assert content.endswith(b"\n" * 100_001)


# --- systemd -------------------------------------------------------------------------------------


def test_a_socket_of_systemd(run: Run, tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as sock:
        port = sock.getsockname()[1]
    activate = find_program("systemd-socket-activate")
    # It starts the server when the first client comes.
    with subprocess.Popen(
        [activate, f"--listen={HOST}:{port}", *COMMAND, "--maildir", str(tmp_path / "Mail")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert "Listening on" in process.stderr.readline()
            run("swaks", "--server", HOST, "--port", port, "--from", FROM, "--to", TO)
            assert len(new(tmp_path / "Mail")) == 1
        finally:
            process.terminate()
            process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
