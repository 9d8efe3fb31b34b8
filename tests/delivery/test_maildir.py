"""MaildirDelivery: what is in the files, when it is there, and what failures leave behind."""

from __future__ import annotations

import errno
import itertools
import logging
import mailbox
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from blocksmtp.delivery import MaildirDelivery
from blocksmtp.delivery import maildir as module

from .senders import MESSAGE, deliver, ready, server_with


def stored(maildir: Path) -> list[bytes]:
    """The messages in `new`; there must be nothing else."""
    assert os.listdir(maildir / "tmp") == []
    assert os.listdir(maildir / "cur") == []
    return [file.read_bytes() for file in (maildir / "new").iterdir()]


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    return tmp_path / "Maildir"


@pytest.fixture
def domain(tmp_path: Path) -> Path:
    """Two mailboxes, of users b and c."""
    for user in ("b", "c"):
        module.make_maildir(str(tmp_path / user))
    return tmp_path


# --- what is stored ------------------------------------------------------------------------------


def test_a_message_with_its_trace(maildir: Path) -> None:
    assert deliver(MaildirDelivery(maildir)).code == 250
    (content,) = stored(maildir)
    assert re.fullmatch(
        rb"Return-Path: <a@client\.example>\n"
        rb"Received: from me\n\t\(client\.example \[127\.0\.0\.1\]\)\n\tby mx\.example\n"
        rb"\twith ESMTP id [a-z2-7]{16}-1\n\tfor <b@server\.example>;\n\t.+\n"
        rb"Subject: x\n\nbody\n",
        content,
    )


def test_the_null_sender(maildir: Path) -> None:
    deliver(MaildirDelivery(maildir), sender="")
    assert stored(maildir)[0].startswith(b"Return-Path: <>\n")


def test_an_address_that_is_not_ascii(maildir: Path) -> None:
    sender = "b\N{LATIN SMALL LETTER U WITH DIAERESIS}@client.example"
    deliver(MaildirDelivery(maildir), sender=sender, parameters="SMTPUTF8")
    assert stored(maildir)[0].startswith(f"Return-Path: <{sender}>\n".encode())


def test_programs_find_it(maildir: Path) -> None:
    deliver(MaildirDelivery(maildir))
    (message,) = mailbox.Maildir(maildir, create=False)
    assert message["Subject"] == "x"


def test_it_is_for_its_owner_alone(maildir: Path) -> None:
    deliver(MaildirDelivery(maildir))
    (file,) = (maildir / "new").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((maildir / "new").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ([b"Subject: x\r", b"\n\r\nbody\r", b"\n"], b"Subject: x\n\nbody\n"),
        (b"..\r\n.\r\n", b"..\n.\n"),
        (b"a" * 200_000 + b"\r\n", b"a" * 200_000 + b"\n"),
        (b"", b""),
    ],
)
def test_line_ends(maildir: Path, sent: bytes | list[bytes], kept: bytes) -> None:
    delivery = MaildirDelivery(maildir)
    assert deliver(delivery, sent).code == 250
    header, _, rest = stored(maildir)[0].partition(b"+0000\n")
    assert (header + rest).endswith(kept)


def test_binary_is_kept_as_it_is(maildir: Path) -> None:
    content = b"Subject: x\r\n\r\n\x00\r\n\r\r\n\n"
    with server_with(MaildirDelivery(maildir), bare_newline="keep") as server:
        client = ready(server, parameters="BODY=BINARYMIME")
        replies = client.pipeline(b"BDAT %d LAST\r\n%s" % (len(content), content))
        assert replies[-1].code == 250
        client.close()
    assert stored(maildir)[0].endswith(content)


def test_one_copy_for_all_recipients_of_one_maildir(maildir: Path) -> None:
    deliver(MaildirDelivery(maildir), to=["b@server.example", "c@server.example"])
    (content,) = stored(maildir)
    # To name one would tell each of the other (RFC 5321, section 7.6).
    assert b"server.example" not in content


def test_every_name_is_another(maildir: Path) -> None:
    delivery = MaildirDelivery(maildir)
    with server_with(delivery) as server:
        client = server.test_client()
        client.command("EHLO me")
        for _ in range(20):
            client.pipeline("MAIL FROM:<a@client.example>", "RCPT TO:<b@server.example>")
            assert client.data(MESSAGE).code == 250
        client.close()
    assert len(stored(maildir)) == 20


def test_what_is_abandoned_goes_and_what_is_fresh_stays(maildir: Path) -> None:
    module.make_maildir(str(maildir))
    for name, age in (("old", 37), ("fresh", 35)):
        (maildir / "tmp" / name).touch()
        then = (maildir / "tmp" / name).stat().st_mtime - age * 3600
        os.utime(maildir / "tmp" / name, (then, then))
    MaildirDelivery(maildir)
    assert os.listdir(maildir / "tmp") == ["fresh"]


# --- a Maildir a recipient -----------------------------------------------------------------------


def test_each_recipient_has_a_copy(domain: Path) -> None:
    delivery = MaildirDelivery(domain / "{user}")
    to = ["B@server.example", "c@server.example", "b@server.example"]
    assert deliver(delivery, to=to).code == 250
    for user, address in (("b", "b@server.example"), ("c", "c@server.example")):
        (content,) = stored(domain / user)
        assert f"\nDelivered-To: {address}\nReceived: ".encode() in content
        assert f"for <{address}>".encode() in content
        assert content.endswith(b"\nSubject: x\n\nbody\n")


@pytest.mark.parametrize("pattern", ["{domain}/{user}", "{recipient}"])
def test_patterns(tmp_path: Path, pattern: str) -> None:
    place = tmp_path / pattern.format(
        user="b", domain="server.example", recipient="b@server.example"
    )
    module.make_maildir(str(place))
    assert deliver(MaildirDelivery(tmp_path / pattern)).code == 250
    assert len(stored(place)) == 1


@pytest.mark.parametrize(
    "address",
    [
        *("nobody@server.example", "../b@server.example", '"../b"@server.example'),
        *("b/../../x@server.example", '".."@server.example', ".b@server.example", "postmaster"),
    ],
)
def test_a_recipient_without_a_maildir_is_refused(domain: Path, address: str) -> None:
    server = server_with(MaildirDelivery(domain / "{user}"), lenient_address_parsing=True)
    with server.test_client() as client:
        client.command("EHLO me")
        client.command("MAIL FROM:<a@client.example>")
        assert client.command(f"RCPT TO:<{address}>").code in (550, 553)
        assert client.command("RCPT TO:<b@server.example>").code == 250


@pytest.mark.parametrize("pattern", ["{user}", "{domain}/{user}", "x-{user}"])
@pytest.mark.parametrize("in_its_place", ["nothing", "file"])
def test_a_base_that_vanishes_bounces_nothing(
    tmp_path: Path, pattern: str, in_its_place: str, caplog: pytest.LogCaptureFixture
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    with server_with(MaildirDelivery(base / pattern)).test_client() as client:
        client.pipeline("EHLO me", "MAIL FROM:<a@client.example>")
        assert client.command("RCPT TO:<b@server.example>").code == 550
        assert caplog.records == []
        base.rmdir()
        if in_its_place == "file":
            base.touch()
        reply = client.command("RCPT TO:<b@server.example>")
    assert str(reply) == "451 4.3.0 Error: cannot store the message now"
    assert f"{base}/" in caplog.text


def test_a_base_that_vanishes_while_the_message_comes(domain: Path) -> None:
    with ready(server_with(MaildirDelivery(domain / "{user}"))) as client:
        domain.rename(domain.with_name("elsewhere"))
        assert client.data(MESSAGE).code == 451
    domain.with_name("elsewhere").rename(domain)


def test_a_pattern_in_the_working_directory(domain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(domain)
    with server_with(MaildirDelivery("{user}")).test_client() as client:
        client.pipeline("EHLO me", "MAIL FROM:<a@client.example>")
        assert client.command("RCPT TO:<nobody@server.example>").code == 550
        assert client.command("RCPT TO:<b@server.example>").code == 250


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), 451),
        (OSError(errno.EIO, "Input/output error"), 451),
        (OSError(errno.ESTALE, "Stale file handle"), 451),
        (OSError(errno.EINVAL, "Invalid argument"), 550),
        (OSError(errno.ENAMETOOLONG, "File name too long"), 550),
        (UnicodeEncodeError("latin-1", "\u20ac", 0, 1, "ordinal not in range"), 550),
    ],
)
def test_what_cannot_be_looked_at_bounces_nothing(
    domain: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    real = os.stat

    def stat_of(path: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(str(domain / "b")):
            raise error
        return real(path, **options)

    with server_with(MaildirDelivery(domain / "{user}")).test_client() as client:
        client.pipeline("EHLO me", "MAIL FROM:<a@client.example>")
        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", stat_of)
            assert client.command("RCPT TO:<b@server.example>").code == code
        assert client.command("RCPT TO:<b@server.example>").code == 250


def test_a_name_that_is_too_long(domain: Path) -> None:
    with server_with(MaildirDelivery(domain / ("x" * 250 + "{user}"))).test_client() as client:
        client.pipeline("EHLO me", "MAIL FROM:<a@client.example>")
        assert client.command("RCPT TO:<bb-bb-bb@server.example>").code == 550


@pytest.mark.parametrize("pattern", ["/x/{users}", "/x/{user", "/x/{0}", "/x/{user.x}"])
def test_a_pattern_that_is_none(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        MaildirDelivery(pattern)


def test_all_or_none_in_smtp(domain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = MaildirDelivery(domain / "{user}")
    real = os.rename

    def rename(source: str, target: str) -> None:
        if "/c/" in target:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    assert deliver(delivery, to=["b@server.example", "c@server.example"]).code == 452
    assert stored(domain / "b") == stored(domain / "c") == []


def test_each_for_itself_in_lmtp(domain: Path) -> None:
    server = server_with(MaildirDelivery(domain / "{user}"), lmtp=True)
    with ready(server, "a@client.example", "b@server.example", "c@server.example") as client:
        os.rmdir(domain / "b" / "tmp")
        reply = client.data(MESSAGE)
    assert [each.code for each in reply.recipients.values()] == [451, 250]
    assert len(stored(domain / "c")) == 1


# --- when it is there ----------------------------------------------------------------------------


def test_it_is_on_the_disk_before_the_reply(maildir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What survives a loss of power cannot be tried here; the order of the calls can."""
    delivery = MaildirDelivery(maildir)
    calls: list[str] = []
    real_fsync, real_rename, real_write = os.fsync, os.rename, os.write

    def path_of(descriptor: int) -> str:
        return os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), maildir).split("/")[0]

    def fsync(descriptor: int) -> None:
        calls.append(f"fsync {path_of(descriptor)}")
        real_fsync(descriptor)

    def rename(source: str, target: str) -> None:
        calls.append("rename")
        real_rename(source, target)

    def write(descriptor: int, octets: Any) -> int:
        if path_of(descriptor) == "tmp":
            calls.append("write")
        return real_write(descriptor, octets)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(os, "write", write)
    assert deliver(delivery).code == 250
    assert [call for call, _ in itertools.groupby(calls)] == [
        "write",
        "fsync tmp",
        "rename",
        "fsync new",
    ]


def test_a_maildir_that_is_made_is_on_the_disk_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[str, list[str]] = {}
    real = os.fsync

    def fsync(descriptor: int) -> None:
        folder = os.readlink(f"/proc/self/fd/{descriptor}")
        synced[os.path.relpath(folder, tmp_path)] = sorted(os.listdir(folder))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.chdir(tmp_path)
    MaildirDelivery("a/b")
    assert synced == {".": ["a"], "a": ["b"], "a/b": ["cur", "new", "tmp"]}
    synced.clear()
    MaildirDelivery(tmp_path / "a" / "b")
    assert synced == {}
    (tmp_path / "a" / "b" / "new").rmdir()
    MaildirDelivery(tmp_path / "a" / "b")
    assert synced == {"a/b": ["cur", "new", "tmp"]}


def test_a_message_that_breaks_off_leaves_nothing(maildir: Path) -> None:
    delivery = MaildirDelivery(maildir)
    with server_with(delivery) as server:
        client = ready(server)
        assert client.pipeline(b"BDAT 5\r\nhello", "RSET")[-1].code == 250
        client.close()
    assert stored(maildir) == []


def test_a_message_beyond_the_size_leaves_nothing(maildir: Path, domain: Path) -> None:
    for delivery in (MaildirDelivery(maildir), MaildirDelivery(domain / "{user}")):
        assert deliver(delivery, b"x" * 2000 + b"\r\n", size=1000).code == 552
    assert stored(maildir) == stored(domain / "b") == []


# --- what fails ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, 452),
        (errno.EDQUOT, 452),
        (errno.EFBIG, 452),
        (errno.EIO, 451),
        (errno.EACCES, 451),
    ],
)
@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
def test_failures_of_the_system(
    maildir: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
    number: int,
    code: int,
) -> None:
    delivery = MaildirDelivery(maildir)

    def fails(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with ready(server_with(delivery)) as client, monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        reply = client.data(MESSAGE)
    assert reply.code == code
    assert str(maildir) not in str(reply)
    assert stored(maildir) == []
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert os.strerror(number) in record.getMessage()
    assert record.name == "blocksmtp.delivery"


def test_a_failure_after_the_move_takes_it_back(
    maildir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = MaildirDelivery(maildir)

    def fails(folder: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module, "bring_to_disk", fails)
    assert deliver(delivery).code == 451
    assert stored(maildir) == []


@pytest.mark.parametrize("folder", ["tmp", "new", "."])
def test_a_folder_that_vanishes(maildir: Path, folder: str) -> None:
    delivery = MaildirDelivery(maildir)
    (maildir / folder).rename(maildir.with_name("elsewhere"))
    assert deliver(delivery).code == 451
    # It may be a disk that is not mounted: nothing is put in its place.
    assert not (maildir / folder).exists()


def test_it_is_made_at_start_or_that_fails(tmp_path: Path) -> None:
    MaildirDelivery(tmp_path / "a" / "b")
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["cur", "new", "tmp"]
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        MaildirDelivery(tmp_path / "file")
