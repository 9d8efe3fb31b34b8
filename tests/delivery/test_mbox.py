"""MboxDelivery: what is in the file, the lock, and what failures leave behind."""

from __future__ import annotations

import errno
import gc
import mailbox
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from blocksmtp.delivery import MboxDelivery
from blocksmtp.delivery import mbox as module

from .senders import MESSAGE, deliver, ready, server_with

HOLD_THE_LOCK = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""

IS_IT_LOCKED = """
import fcntl, sys
try:
    fcntl.lockf(open(sys.argv[1], "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except (BlockingIOError, PermissionError):
    sys.exit("locked")
"""


def messages_in(mbox: Path) -> list[mailbox.mboxMessage]:
    """As Python's own reader of the format finds them."""
    reader = mailbox.mbox(mbox, create=False)
    try:
        return list(reader)
    finally:
        reader.close()


@pytest.fixture
def mbox(tmp_path: Path) -> Path:
    return tmp_path / "mbox"


def test_a_message_with_its_trace(mbox: Path) -> None:
    assert deliver(MboxDelivery(mbox)).code == 250
    assert re.fullmatch(
        rb"From a@client\.example \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\n"
        rb"Return-Path: <a@client\.example>\nReceived: from me\n(\t.+\n)+"
        rb"Subject: x\n\nbody\n\n",
        mbox.read_bytes(),
    )


def test_the_null_sender(mbox: Path) -> None:
    deliver(MboxDelivery(mbox), sender="")
    assert mbox.read_bytes().startswith(b"From MAILER-DAEMON ")


def test_a_sender_with_a_space(mbox: Path) -> None:
    deliver(MboxDelivery(mbox), sender='"a b"@client.example')
    assert mbox.read_bytes().startswith(b'From "a?b"@client.example ')


def test_programs_find_all_of_them(mbox: Path) -> None:
    delivery = MboxDelivery(mbox)
    for number in range(3):
        deliver(delivery, b"Subject: %d\r\n\r\nFrom here\r\nto there" % number)
    messages = messages_in(mbox)
    assert [message["Subject"] for message in messages] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"From x\r\n", b">From x\n"),
        (b">>From x\r\n", b">>>From x\n"),
        (b"From: x\r\nFromage\r\n From \r\n", b"From: x\nFromage\n From \n"),
        ([b"a\r\nFr", b"om b\r", b"\nFrom c\r\n"], b"a\n>From b\n>From c\n"),
        (b"x" * 70_000 + b"From y\r\nFrom z\r\n", b"x" * 70_000 + b"From y\n>From z\n"),
        (b">" * 200_000 + b"\r\n", b">" * 200_000 + b"\n"),
        (b"", b""),
    ],
)
def test_lines_that_look_like_a_beginning(
    mbox: Path, sent: bytes | list[bytes], kept: bytes
) -> None:
    deliver(MboxDelivery(mbox), [b"\r\n", sent] if isinstance(sent, bytes) else [b"\r\n", *sent])
    assert mbox.read_bytes().endswith(b"\n\n" + kept + b"\n")


@pytest.mark.parametrize(
    "there", [b"From x\n\nolder\n\n", b"From x\n\nolder\n", b"From x\n\nolder"]
)
def test_what_is_there_stays_and_is_ended(mbox: Path, there: bytes) -> None:
    mbox.write_bytes(there)
    deliver(MboxDelivery(mbox))
    assert mbox.read_bytes().startswith(b"From x\n\nolder\n\nFrom a@client.example ")


def test_it_is_made_for_its_owner_alone(mbox: Path) -> None:
    MboxDelivery(mbox)
    assert mbox.stat().st_mode & 0o777 == 0o600


def test_binary_messages_are_refused(mbox: Path) -> None:
    with server_with(MboxDelivery(mbox)) as server:
        client = ready(server, parameters="BODY=BINARYMIME")
        assert client.pipeline(b"BDAT 3 LAST\r\na\nb")[-1].code == 554
        client.close()
    assert mbox.read_bytes() == b""


def test_a_message_beyond_the_size_leaves_nothing(mbox: Path) -> None:
    assert deliver(MboxDelivery(mbox), b"x" * 2000 + b"\r\n", size=1000).code == 552
    assert mbox.read_bytes() == b""


# --- the lock ------------------------------------------------------------------------------------


def test_a_lock_of_another_program_is_waited_for(mbox: Path) -> None:
    delivery = MboxDelivery(mbox)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(mbox)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        codes: list[int] = []
        sender = threading.Thread(target=lambda: codes.append(deliver(delivery).code))
        sender.start()
        sender.join(0.2)
        assert mbox.read_bytes() == b""
        holder.communicate(b"")
        sender.join()
    assert codes == [250]


def test_a_lock_that_stays_is_told(mbox: Path) -> None:
    delivery = MboxDelivery(mbox, lock_timeout=0.1)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(mbox)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        assert str(deliver(delivery)) == "451 4.2.0 Error: the mailbox is locked"
        holder.communicate(b"")
    assert mbox.read_bytes() == b""


def test_many_at_once(mbox: Path) -> None:
    delivery = MboxDelivery(mbox)
    content = b"Subject: x\r\n\r\n" + b"line\r\n" * 20_000
    threads = [threading.Thread(target=deliver, args=(delivery, content)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = messages_in(mbox)
    assert [str(message.get_payload()).count("line\n") for message in messages] == [20_000] * 8


@contextmanager
def appending(delivery: MboxDelivery) -> Iterator[None]:
    """While a message is in the file, and not on the disk yet."""
    reached, released = threading.Event(), threading.Event()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if not reached.is_set():
            reached.set()
            assert released.wait(30)
        real(descriptor)

    codes: list[int] = []
    sender = threading.Thread(target=lambda: codes.append(deliver(delivery).code))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        sender.start()
        try:
            assert reached.wait(30)
            yield
        finally:
            released.set()
            sender.join()
    assert codes == [250]


@pytest.mark.parametrize("name", ["mbox", "link", "folder/../mbox", "linked-folder/mbox"])
def test_two_deliveries_to_one_file_exclude_each_other(mbox: Path, name: str) -> None:
    (mbox.parent / "folder").mkdir()
    (mbox.parent / "linked-folder").symlink_to(mbox.parent)
    (mbox.parent / "link").symlink_to(mbox)
    other = MboxDelivery(f"{mbox.parent}/{name}", lock_timeout=0.1)
    with appending(MboxDelivery(mbox)):
        assert str(deliver(other)) == "451 4.2.0 Error: the mailbox is locked"
    assert deliver(other).code == 250
    assert len(messages_in(mbox)) == 2


def test_another_file_is_another_lock(mbox: Path) -> None:
    with appending(MboxDelivery(mbox)):
        assert deliver(MboxDelivery(mbox.with_name("other"))).code == 250


def test_to_make_a_delivery_does_not_give_the_lock_of_another_back(mbox: Path) -> None:
    maker = threading.Thread(target=MboxDelivery, args=(mbox,))
    with appending(MboxDelivery(mbox)):
        maker.start()
        maker.join(0.2)
        asked = subprocess.run(
            [sys.executable, "-c", IS_IT_LOCKED, mbox], check=False, capture_output=True
        )
    maker.join()
    assert asked.stderr == b"locked\n"


def test_no_lock_is_kept_that_nobody_uses(mbox: Path) -> None:
    with appending(MboxDelivery(mbox)):
        assert str(mbox) in module._locks
    gc.collect()
    assert str(mbox) not in module._locks


def test_a_file_that_was_moved_away(mbox: Path) -> None:
    delivery = MboxDelivery(mbox)
    mbox.rename(mbox.with_name("archive"))
    assert deliver(delivery).code == 250
    assert len(messages_in(mbox)) == 1


# --- what fails ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 452), (errno.EIO, 451)])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_what_fails_is_cut_off_again(
    mbox: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, code: int
) -> None:
    delivery = MboxDelivery(mbox)
    deliver(delivery)
    before = mbox.read_bytes()
    real = getattr(os, call)
    calls: list[int] = []

    def fails(descriptor: int, *rest: Any) -> Any:
        # The second write: half is written then.
        if not calls or (call == "write" and len(calls) < 2):
            calls.append(descriptor)
            if call == "write" and len(calls) == 1:
                return real(descriptor, *rest)
            raise OSError(number, os.strerror(number))
        return real(descriptor, *rest)

    content = MESSAGE + b"x\r\n" * 100_000
    with ready(server_with(delivery)) as client, monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        assert client.data(content).code == code
    assert mbox.read_bytes() == before
    assert deliver(delivery).code == 250


def test_a_folder_that_vanishes(tmp_path: Path) -> None:
    (tmp_path / "mail").mkdir()
    delivery = MboxDelivery(tmp_path / "mail" / "mbox")
    (tmp_path / "mail").rename(tmp_path / "elsewhere")
    assert deliver(delivery).code == 451


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="no regular file"):
        MboxDelivery(tmp_path / "fifo")
    with pytest.raises(IsADirectoryError):
        MboxDelivery(tmp_path)
