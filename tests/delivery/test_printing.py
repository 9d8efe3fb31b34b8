"""PrintDelivery: what it shows of a message, of many at once, and what it does when it fails."""

from __future__ import annotations

import email
import io
import re
import smtplib
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from blocksmtp import SMTPServer
from blocksmtp.auth import Auth
from blocksmtp.delivery import PrintDelivery
from tests.client import Client, connect


@contextmanager
def printing(stream: io.TextIOBase, **options: Any) -> Iterator[SMTPServer]:
    """A server that prints to `stream`."""
    delivery = PrintDelivery(stream, options.pop("on_failure", None))  # type: ignore[arg-type]
    with SMTPServer(auth_optional=True, on_data=delivery, **options) as server:
        yield server.listen(0, "127.0.0.1")


def envelope_and_message(text: str) -> tuple[str, str]:
    """What was printed of the only message, without the lines around it."""
    match = re.fullmatch(
        r"---- (message 1 of session [a-z2-7]{16}) ----\n(.*?\n)\n(.*)"
        r"---- end of (?P=title), \d+ bytes ----\n".replace("(message", "(?P<title>message"),
        text,
        re.DOTALL,
    )
    assert match is not None, text
    return match[2], match[3]


def printed(octets: bytes) -> str:
    """The message `octets`, which end in CRLF, as it is printed."""
    stream = io.StringIO()
    with printing(stream) as server, connect(server) as client:
        client.hello()
        client.envelope()
        assert client.message(octets).code == 250
    return envelope_and_message(stream.getvalue())[1]


# --- the envelope --------------------------------------------------------------------------------


def test_the_envelope_in_tls() -> None:
    stream = io.StringIO()
    with printing(stream) as server, connect(server) as client:
        client.hello()
        tls = client.upgrade(name="mail.example.org")
        client.expect(250, "EHLO client.example")
        client.expect(250, "MAIL FROM:<> RET=HDRS BODY=8BITMIME SMTPUTF8")
        client.expect(250, "RCPT TO:<b\N{LATIN SMALL LETTER U WITH DIAERESIS}@server.example>")
        client.expect(250, "RCPT TO:<c@server.example> NOTIFY=NEVER")
        assert client.message().code == 250
        port = tls.getsockname()[1]
        cipher = tls.cipher()
    assert cipher is not None
    assert envelope_and_message(stream.getvalue())[0] == (
        f"Client: 127.0.0.1 port {port} (localhost), EHLO client.example, ESMTPS\n"
        f"TLS: TLSv1.3, {cipher[0]}, for mail.example.org\n"
        "MAIL FROM:<> RET=HDRS BODY=8BITMIME SMTPUTF8\n"
        "RCPT TO:<b\N{LATIN SMALL LETTER U WITH DIAERESIS}@server.example>\n"
        "RCPT TO:<c@server.example> NOTIFY=NEVER\n"
    )


def test_the_client_of_a_unix_socket(tmp_path: Path) -> None:
    stream = io.StringIO()
    with SMTPServer(auth_optional=True, on_data=PrintDelivery(stream)) as server:
        server.listen(tmp_path / "socket")
        with connect(server) as client:
            client.hello()
            client.envelope()
            assert client.message().code == 250
    assert stream.getvalue().splitlines()[1] == "Client: a Unix socket, EHLO client.example, ESMTP"


def test_a_name_that_was_not_looked_up_is_not_shown() -> None:
    stream = io.StringIO()
    with printing(stream, disable_reverse_lookup=True) as server, connect(server) as client:
        client.hello()
        client.envelope()
        assert client.message().code == 250
        port = client.sock.getsockname()[1]
    first = stream.getvalue().splitlines()[1]
    assert first == f"Client: 127.0.0.1 port {port}, EHLO client.example, ESMTP"


@pytest.mark.parametrize(
    ("user", "shown"), [("alice", "User: alice\n"), ({"token": "s3cret"}, ""), (7, "")]
)
def test_a_user_is_shown_by_name_only(user: object, shown: str) -> None:
    def on_auth(auth: Auth, session: object) -> object:
        return user

    stream = io.StringIO()
    with (
        printing(stream, on_auth=on_auth, allow_insecure_auth=True) as server,
        connect(server) as client,
    ):
        client.hello()
        client.expect(235, "AUTH PLAIN AGEAYg==")
        client.envelope()
        assert client.message().code == 250
    envelope = envelope_and_message(stream.getvalue())[0]
    assert re.findall("User:.*\n", envelope) == ([shown] if shown else [])
    assert "s3cret" not in stream.getvalue()


def test_messages_of_a_connection_are_counted() -> None:
    stream = io.StringIO()
    with printing(stream) as server, connect(server) as client:
        client.hello()
        for _ in range(2):
            client.envelope()
            assert client.message().code == 250
    assert re.findall(r"---- message (\d)", stream.getvalue()) == ["1", "2"]


# --- the message ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"", ""),
        (b"a\r\n\r\nb\r\n", "a\n\nb\n"),
        (b"tab\there\r\n", "tab\there\n"),
        ("\u00e4\u20ac\U0001f600\r\n".encode(), "\u00e4\u20ac\U0001f600\n"),
        # What commands a terminal: ESC, BEL, BS, DEL, and CSI as one character of C1.
        (b"\x1b[2J\x07\x08\x7f\x00\r\n", r"\x1b[2J\x07\x08\x7f\x00" + "\n"),
        ("\x9b31m\x85\r\n".encode(), r"\x9b31m\x85" + "\n"),
        # A lone CR would let the line be written over.
        (b"safe\rgone\r\r\n", r"safe\rgone\r" + "\n"),
        # What makes the text look like another.
        ("a\u202eb\u2066c\u2028d\r\n".encode(), r"a\u202eb\u2066c\u2028d" + "\n"),
        # What is no UTF-8, such as a CSI in 8 bits.
        (b"\x9b2J \xe4 \xff\r\n", r"\x9b2J \xe4 \xff" + "\n"),
        # Joiners and directional marks belong to ordinary text.
        ("\u200d\u200f\u00a0\r\n".encode(), "\u200d\u200f\u00a0\n"),
    ],
)
def test_a_message_is_safe_to_show(octets: bytes, text: str) -> None:
    assert printed(octets) == text


@pytest.mark.parametrize("character", ["\r\n", "\u20ac", "\x1b", "\r"])
def test_characters_across_the_pieces_that_it_is_printed_in(character: str) -> None:
    octets = character.encode()
    shown = {"\r\n": "\n", "\x1b": r"\x1b", "\r": r"\r"}.get(character, character)
    for before in range(65536 - len(octets), 65537):
        assert printed(b"x" * before + octets + b"y\r\n") == "x" * before + shown + "y\n"


def test_a_message_without_a_line_end_gets_one() -> None:
    """No client of a server can send such a message, other code can."""

    class Stream(io.BytesIO):
        size_exceeded = False
        byte_length = 3

    class Session:
        def __getattr__(self, name: str) -> Any:
            return Session() if name == "envelope" else None

        transaction = 0
        rcpt_to = ()

    stream = io.StringIO()
    delivery: Callable[..., None] = PrintDelivery(stream)
    delivery(Stream(b"a\nb\xe2\x82"), Session())
    assert "\n\na\nb\\xe2\\x82\n---- end of message 1" in stream.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_that_lacks_characters(encoding: str) -> None:
    octets = io.BytesIO()
    stream = io.TextIOWrapper(octets, encoding=encoding)
    with printing(stream) as server, connect(server) as client:
        client.hello()
        client.envelope()
        assert client.message("\u20ac and \u00e4\r\n".encode()).code == 250
        text = octets.getvalue().decode(encoding)
    expected = {"ascii": r"\u20ac and \xe4", "latin-1": "\\u20ac and \u00e4"}
    assert envelope_and_message(text)[1] == expected[encoding] + "\n"


# --- many at once, and large ---------------------------------------------------------------------


def test_a_message_is_printed_when_it_is_complete() -> None:
    stream = io.StringIO()
    with printing(stream) as server, connect(server) as slow, connect(server) as fast:
        for client in (slow, fast):
            client.hello()
            client.envelope()
            client.expect(354, "DATA")
        slow.send(b"Subject: slow\r\n")
        fast.send(b"Subject: fast\r\n.\r\n")
        assert fast.reply().code == 250
        slow.send(b"\r\nend\r\n.\r\n")
        assert slow.reply().code == 250
    first, second = re.findall(r"(?s)---- message.*?---- end.*?\n", stream.getvalue())
    assert "Subject: fast\n" in first
    assert "Subject: slow\n\nend\n" in second


class Scrambled(io.StringIO):
    """A stream that mixes what is written to it at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.writers: set[int] = set()
        self.mixed = False

    def write(self, text: str, /) -> int:
        self.writers.add(threading.get_ident())
        for _ in range(1000):
            self.mixed = self.mixed or len(self.writers) > 1
        return super().write(text)

    def flush(self) -> None:
        self.writers.discard(threading.get_ident())


def test_messages_do_not_interleave() -> None:
    stream = Scrambled()
    lines = "line\n" * 2000

    def send(server: SMTPServer) -> None:
        with smtplib.SMTP("127.0.0.1", server.port or 0) as client:
            for _ in range(5):
                client.sendmail("a@example.org", ["b@example.com"], lines)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with printing(stream) as server:
            threads = [threading.Thread(target=send, args=(server,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not stream.mixed
    whole = re.findall(
        r"---- (message \d of session \S+) ----\n.*\n.*\n.*\n.*\n\n((?:line\n)+)---- end of \1,",
        stream.getvalue(),
    )
    assert [len(text) for _, text in whole] == [len(lines)] * 20


class Counting(io.StringIO):
    """A stream that keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def write(self, text: str, /) -> int:
        self.count += len(text)
        return len(text)


def test_a_large_message_is_not_held_in_memory() -> None:
    stream = Counting()
    piece = b"x" * 62 + b"\r\n"
    piece *= 1024
    with printing(stream) as server, connect(server) as client:
        client.hello()
        client.envelope()
        client.expect(354, "DATA")
        tracemalloc.start()
        try:
            for _ in range(256):
                client.send(piece)
            client.send(b".\r\n")
            assert client.reply().code == 250
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert stream.count > 16_000_000 - 300_000
    assert peak < 4_000_000


# --- what is not printed -------------------------------------------------------------------------


def ready(server: SMTPServer) -> Client:
    client = connect(server)
    client.hello()
    client.envelope()
    return client


def test_a_message_beyond_the_size_is_refused_and_not_printed() -> None:
    stream = io.StringIO()
    with printing(stream, size=10) as server, ready(server) as client:
        assert client.message(b"more than ten octets\r\n").startswith("552 5.3.4 ")
    assert stream.getvalue() == ""


def test_a_message_that_breaks_off_is_not_printed() -> None:
    stream = io.StringIO()
    errors: list[Exception] = []
    with printing(stream) as server, ready(server) as client:
        server.on("error", errors.append)
        client.expect(354, "DATA")
        client.send(b"Subject: half\r\n")
        client.reset()
    assert stream.getvalue() == ""
    assert errors == []


class Breaking(io.StringIO):
    """A stream that fails when it is flushed, as a pipe does that nobody reads."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.writes = 0

    def write(self, text: str, /) -> int:
        self.writes += 1
        return super().write(text)

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), ValueError("closed file")])
def test_a_stream_that_fails_has_failed_for_good(error: Exception) -> None:
    stream = Breaking(error)
    failures: list[Exception] = []
    defects: list[Exception] = []
    with printing(stream, on_failure=failures.append) as server, ready(server) as client:
        server.on("error", defects.append)
        assert client.message() == "451 4.3.0 Error: cannot print the message"
        writes = stream.writes
        client.envelope()
        assert client.message() == "451 4.3.0 Error: cannot print the message"
    assert failures == [error]
    assert stream.writes == writes
    assert defects == []


def test_a_closed_stream_refuses() -> None:
    stream = io.StringIO()
    with printing(stream) as server, ready(server) as client:
        stream.close()
        assert client.message().code == 451


def test_no_room_for_a_large_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    stream = io.StringIO()
    defects: list[Exception] = []
    with printing(stream) as server, ready(server) as client:
        server.on("error", defects.append)
        reply = client.message(b"x" * 2_000_000 + b"\r\n")
        assert reply == "452 4.3.1 Error: no room for the message"
        # The next one is smaller, and needs no file.
        client.envelope()
        assert client.message(b"Subject: small\r\n\r\n").code == 250
    assert defects == []
    assert email.message_from_string(envelope_of_second(stream))["Subject"] == "small"


def envelope_of_second(stream: io.StringIO) -> str:
    """The text of the message that was printed, from its header on."""
    return stream.getvalue().partition("\n\n")[2]
