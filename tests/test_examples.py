"""The examples: each does what it claims, and runs as a program of its own."""

from __future__ import annotations

import base64
import email
import hashlib
import hmac
import importlib
import logging
import os
import re
import signal
import smtplib
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from blocksmtp import SMTPServer
from tests.scram_client import ScramClient

from .client import TIMEOUT, Client, connect, trusting, wait_until_idle
from .running import Running

FOLDER = Path(__file__).parents[1] / "examples"
NAMES = {path.stem for path in FOLDER.glob("*.py")}
HELPERS = {"make_certificates"}
# What ends by itself.
SCRIPTS = {"in_a_script", "in_a_test"}

Example = Callable[[str], Any]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Example:
    """A function from the name of an example to its module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@contextmanager
def listening(server: SMTPServer) -> Iterator[SMTPServer]:
    """The server of an example, on a free port."""
    with server:
        yield server.listen(0, "127.0.0.1")


@contextmanager
def talking_to(server: SMTPServer, *, tls: bool = True, login: str = "") -> Iterator[Client]:
    """A client that has said hello, in TLS, and has logged in with `login`, "name:password"."""
    with connect(server) as client:
        client.hello()
        if tls:
            client.upgrade()
            client.expect(250, "EHLO client.example")
        if login:
            client.expect(235, plain(login))
        yield client


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def plain(login: str) -> str:
    """The command for "name:password"."""
    return "AUTH PLAIN " + base64_of("\0" + login.replace(":", "\0"))


# --- as programs ---------------------------------------------------------------------------------


def test_every_example_is_listed_and_says_how_to_try_it() -> None:
    readme = (FOLDER / "README.md").read_text()
    assert set(re.findall(r"\]\((\w+)\.py\)", readme)) == NAMES - HELPERS
    for name in NAMES - HELPERS:
        assert f"examples/{name}.py" in (FOLDER / f"{name}.py").read_text().split('"""')[1]


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(NAMES - HELPERS - SCRIPTS))
def test_it_runs_until_it_is_stopped(name: str, tmp_path: Path) -> None:
    before = {"behind_a_proxy": b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 25\r\n"}.get(name, b"")
    hello = "LHLO client.example" if name == "lmtp_replies" else "EHLO client.example"
    command = [sys.executable, "-W", "error", str(FOLDER / f"{name}.py"), "0"]
    with Running(command, log=True, folder=tmp_path) as server:
        assert server.address[0] == "127.0.0.1"
        with connect(server.address) as client:
            client.send(before)
            client.hello(hello)
            client.expect(221, "QUIT")
        assert server.end(signal.SIGTERM) == 0
    assert "Traceback" not in server.output


@pytest.mark.parametrize(
    ("name", "shown"),
    [("in_a_script", "cron@example.com says: 12 orders, 0 failures\n"), ("in_a_test", "2 passed")],
)
def test_it_runs_and_ends(name: str, shown: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / f"{name}.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done
    assert shown in done.stdout
    assert done.stderr == ""


# --- session_logging -----------------------------------------------------------------------------


def test_the_whole_session_is_logged(example: Example, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mail")
    with (
        listening(example("session_logging").make_server()) as server,
        talking_to(server, login="alice:s3cret") as client,
    ):
        (session,) = server.connections
        client.expect(250, "MAIL FROM:<a@client.example> SIZE=30")
        client.expect(250, "RCPT TO:<b@server.example>")
        client.expect(250, "RCPT TO:<c@server.example>")
        assert client.message(b"0123456789\r\n") == f"250 2.6.0 logged as {session.id}"
        port = client.sock.getsockname()[1]
        client.reset()
    lines = [record.getMessage() for record in caplog.records if record.name == "mail"]
    assert lines[0] == f"{session.id}: connection from 127.0.0.1 port {port} (localhost)"
    assert re.match(rf"{session.id}: TLS TLSCipherInfo\(.*'TLSv1.3'\), for None$", lines[1])
    assert lines[2:] == [
        f"{session.id}: PLAIN as alice",
        f"{session.id}: sender <a@client.example> {{'SIZE': '30'}}",
        f"{session.id}: recipient <b@server.example> {{}}",
        f"{session.id}: recipient <c@server.example> {{}}",
        f"{session.id}: message 1",
        "  said hello: EHLO client.example",
        "  protocol:   ESMTPSA",
        "  user:       {'username': 'alice'}",
        "  from:       a@client.example",
        "  to:         b@server.example, c@server.example",
        "  body:       7bit, UTF-8 addresses: False",
        "  bytes:      12",
        f"{session.id}: closed, after 12 bytes of mail",
    ]
    assert "s3cret" not in caplog.text


# --- authenticated -------------------------------------------------------------------------------


def test_a_user_s_message_is_stored(example: Example, tmp_path: Path) -> None:
    folder = tmp_path / "mail"
    with listening(example("authenticated").make_server(folder)) as server:
        with smtplib.SMTP("127.0.0.1", server.port or 0) as client:
            client.starttls(context=trusting())
            client.login("alice", "secret123")
            client.sendmail("a@example.com", "b@example.com", "Subject: 1\n\none\n")
            client.sendmail("a@example.com", "b@example.com", "Subject: 2\n\ntwo\n")
        files = sorted(folder.iterdir())
    assert all(re.fullmatch(r"alice-[a-z2-7]{16}-[12]\.eml", file.name) for file in files)
    messages = [email.message_from_bytes(file.read_bytes()) for file in files]
    assert [message["Subject"] for message in messages] == ["1", "2"]
    assert all("with ESMTPSA" in message["Received"] for message in messages)


def test_a_message_that_breaks_off_leaves_no_file(example: Example, tmp_path: Path) -> None:
    with (
        listening(example("authenticated").make_server(tmp_path)) as server,
        talking_to(server, login="bob:password456") as client,
    ):
        client.envelope()
        client.expect(354, "DATA")
        client.send(b"Subject: half\r\n")
        client.reset()
    assert list(tmp_path.iterdir()) == []


def test_nobody_else_gets_in(example: Example, tmp_path: Path) -> None:
    server = example("authenticated").make_server(tmp_path)
    with listening(server), talking_to(server, tls=False) as client:
        client.expect(538, plain("alice:secret123"))
        client.expect(530, "MAIL FROM:<a@example.com>")
        client.upgrade()
        assert "AUTH PLAIN LOGIN" in client.expect(250, "EHLO client.example").lines
        for wrong in ("alice:password456", "mallory:"):
            reply = client.expect(535, plain(wrong))
            assert reply.lines == ["5.7.8 Invalid username or password"]
            client.expect(530, "MAIL FROM:<a@example.com>")


# --- sasl_methods --------------------------------------------------------------------------------


def login_with_plain(client: Client, secret: str) -> int:
    return client.command(plain(f"alice:{secret}")).code


def login_with_login(client: Client, secret: str) -> int:
    client.expect(334, "AUTH LOGIN")
    client.expect(334, base64_of("alice"))
    return client.command(base64_of(secret)).code


def login_with_cram_md5(client: Client, secret: str) -> int:
    challenge = base64.b64decode(client.expect(334, "AUTH CRAM-MD5").lines[0])
    digest = hmac.new(secret.encode(), challenge, "md5").hexdigest()
    return client.command(base64_of(f"alice {digest}")).code


@pytest.mark.parametrize("login", [login_with_plain, login_with_login, login_with_cram_md5])
def test_each_method_takes_the_right_password(
    example: Example, login: Callable[[Client, str], int]
) -> None:
    with (
        listening(example("sasl_methods").make_server()) as server,
        talking_to(server) as client,
    ):
        assert login(client, "wrong") == 535
        assert login(client, "secret123") == 235
        (session,) = server.connections
        assert session.user == "alice"


@pytest.mark.parametrize("name", ["PLAIN", "CRAM-MD5"])
def test_an_unknown_user_without_a_password_is_refused(example: Example, name: str) -> None:
    with listening(example("sasl_methods").make_server()) as server, talking_to(server) as client:
        if name == "PLAIN":
            client.expect(535, plain("mallory:"))
        else:
            challenge = base64.b64decode(client.expect(334, "AUTH CRAM-MD5").lines[0])
            digest = hmac.new(b"", challenge, "md5").hexdigest()
            client.expect(535, base64_of(f"mallory {digest}"))


def test_xoauth2_has_error_data(example: Example) -> None:
    def bearer(token: str) -> str:
        return "AUTH XOAUTH2 " + base64_of(f"user=alice\1auth=Bearer {token}\1\1")

    with listening(example("sasl_methods").make_server()) as server, talking_to(server) as client:
        challenge = base64.b64decode(client.expect(334, bearer("expired")).lines[0])
        assert challenge == b'{"status": "401", "schemes": "bearer"}'
        client.expect(535, "")
        assert client.expect(235, bearer("alice-token")).lines == ["2.7.0 Welcome, alice"]


# --- stored_verifiers ----------------------------------------------------------------------------


def login_with_scram(client: Client, secret: str) -> int:
    scram = ScramClient("alice", secret)
    first = base64.b64encode(scram.first).decode()
    challenge = base64.b64decode(client.expect(334, f"AUTH SCRAM-SHA-256 {first}").lines[0])
    reply = client.command(base64.b64encode(scram.final(challenge)))
    return client.command("").code if reply.code == 334 else reply.code


@pytest.mark.parametrize("login", [login_with_plain, login_with_login, login_with_scram])
def test_a_verifier_serves_each_method(
    example: Example, login: Callable[[Client, str], int]
) -> None:
    with (
        listening(example("stored_verifiers").make_server()) as server,
        talking_to(server) as client,
    ):
        assert login(client, "wrong") == 535
        assert login(client, "secret123") == 235
        (session,) = server.connections
        assert session.user == "alice"


# --- sender_restrictions, rate_limiting ----------------------------------------------------------


def test_users_send_from_their_own_addresses(example: Example) -> None:
    server = example("sender_restrictions").make_server()
    with listening(server), talking_to(server, login="alice:secret123") as client:
        refusal = client.expect(550, "MAIL FROM:<bob@example.com>")
        assert refusal.lines == ["5.7.1 You can only send from your own address"]
        client.expect(550, "MAIL FROM:<>")
        client.envelope("Sales@example.com")
        assert client.message() == "250 2.6.0 accepted from alice"
    assert "secret123" not in repr(example("sender_restrictions").USERS)


@pytest.mark.parametrize("wrong", ["alice:password456", "mallory:", "mallory:x"])
def test_senders_need_their_password(example: Example, wrong: str) -> None:
    server = example("sender_restrictions").make_server()
    with listening(server), talking_to(server) as client:
        client.expect(535, plain(wrong))


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_who_fails_too_often_has_to_wait(example: Example) -> None:
    module, clock = example("rate_limiting"), Clock()
    with listening(module.make_server(clock)) as server:
        with talking_to(server) as first, talking_to(server) as second:
            for client in (first, first, second, second):
                client.expect(535, plain("alice:wrong"))
            with talking_to(server) as third:
                third.expect(535, plain("mallory:"))
            # Also for connections that have been there before.
            second.expect(421, plain("alice:secret123"))
        with connect(server) as client:
            assert client.reply().startswith("421 4.7.0 Too many failed attempts")
        with connect(server, source="127.0.0.2") as client:
            client.hello()
        clock.now += module.SECONDS
        with talking_to(server, login="alice:secret123"):
            pass


def test_a_right_password_makes_up_for_wrong_ones(example: Example) -> None:
    with listening(example("rate_limiting").make_server(Clock())) as server:
        for _ in range(4):
            with talking_to(server) as client:
                client.expect(535, plain("alice:wrong"))
                client.expect(535, plain("alice:wrong"))
                client.expect(235, plain("alice:secret123"))


def test_failures_are_counted_by_many_threads(example: Example) -> None:
    class YieldingClock(Clock):
        def __call__(self) -> float:
            os.stat(".")  # a system call: other threads run meanwhile
            return self.now

    module = example("rate_limiting")
    failed = module.FailedLogins(YieldingClock())
    threads = [
        threading.Thread(target=lambda: [failed.add("192.0.2.1") for _ in range(100)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed._failures["192.0.2.1"][0] == 400


# --- dsn_and_parameters, size_limit, lmtp_replies ------------------------------------------------


def test_parameters_are_understood(example: Example, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mail")
    reports: list[tuple[str, str, str | None]] = []
    module = example("dsn_and_parameters")
    with (
        listening(module.make_server(lambda *report: reports.append(report))) as server,
        connect(server) as client,
    ):
        assert "DSN" in client.hello().lines
        client.expect(
            250, "MAIL FROM:<a@client.example> RET=HDRS ENVID=order+2B42 BODY=8BITMIME SIZE=20"
        )
        client.expect(250, "RCPT TO:<b@x.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c@x.example")
        client.expect(250, "RCPT TO:<d@x.example> NOTIFY=SUCCESS")
        client.expect(250, "RCPT TO:<e@x.example> NOTIFY=NEVER")
        client.expect(250, "RCPT TO:<f@x.example>")
        assert client.message().code == 250
        client.expect(552, "MAIL FROM:<a@client.example> SIZE=5000001")
        client.expect(250, "MAIL FROM:<>")
        client.expect(250, "RCPT TO:<d@x.example> NOTIFY=SUCCESS")
        assert client.message().code == 250
    assert reports == [
        ("a@client.example", "rfc822;c@x.example", "order+42"),
        ("a@client.example", "rfc822;d@x.example", "order+42"),
    ]
    for line in (
        "  body 8bitmime, UTF-8 addresses: False",
        "  of a returned message: HDRS, identifier: order+42",
        "  notify on ['SUCCESS', 'DELAY'], originally rfc822;c@x.example",
    ):
        assert line in caplog.messages


def test_what_the_docstring_sends_gets_its_report(
    example: Example, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mail")
    module = example("dsn_and_parameters")
    script = (module.__doc__ or "").split("<<END\n")[1].split("    END\n")[0]
    with listening(module.make_server()) as server:
        source = "\n".join(line[4:] for line in script.splitlines())
        exec(source.replace("2525", str(server.port)), {})  # noqa: S102 - our own text
    assert (
        "to <alice@example.com>: order-42 has been delivered to rfc822;bob@example.net"
        in caplog.messages
    )


def test_the_size_is_limited(example: Example) -> None:
    module = example("size_limit")
    with listening(module.make_server()) as server, connect(server) as client:
        assert f"SIZE {module.LARGEST}" in client.hello().lines
        client.expect(552, f"MAIL FROM:<a@client.example> SIZE={module.LARGEST + 1}")
        for excess in (0, 1):
            client.envelope()
            octets = b"x" * (module.LARGEST - 2 + excess) + b"\r\n"
            reply = client.message(octets)
            if excess:
                assert reply == (
                    f"552 5.3.4 Message of {len(octets)} bytes: at most {module.LARGEST} bytes"
                )
            else:
                digest = hashlib.sha256(octets).hexdigest()
                assert reply == f"250 2.6.0 {len(octets)} bytes, SHA-256 {digest}"


def test_each_recipient_gets_a_reply(example: Example) -> None:
    module = example("lmtp_replies")
    boxes = {"alice@example.com": module.Mailbox(9), "bob@example.com": module.Mailbox(1)}
    with listening(module.make_server(boxes)) as server, connect(server) as client:
        client.hello("LHLO client.example")
        replies = []
        for _ in range(2):
            client.envelope("c@example.org", "Bob@example.com", "alice@example.com")
            client.expect(550, "RCPT TO:<carol@example.com>")
            replies += [client.message(b"Subject: hi\r\n\r\n"), client.reply()]
        (session,) = server.connections
        assert session.transaction == 2
    assert replies == [
        "250 2.6.0 Bob@example.com has 1 message(s)",
        "250 2.6.0 alice@example.com has 1 message(s)",
        "452 4.2.2 Mailbox full",
        "250 2.6.0 alice@example.com has 2 message(s)",
    ]
    assert [len(box.messages) for box in boxes.values()] == [2, 1]
    assert all(
        message.startswith(b"Received: ") and message.endswith(b"Subject: hi\r\n\r\n")
        for message in boxes["alice@example.com"].messages
    )


# --- sni_two_domains, client_certificates --------------------------------------------------------


def handshake(server: SMTPServer, name: str | None) -> tuple[bytes, Client]:
    """The certificate that a client gets who asks for `name`, and the client."""
    client = connect(server)
    client.hello()
    shown = client.upgrade(name=name).getpeercert(binary_form=True)
    assert shown is not None
    client.expect(250, "EHLO client.example")
    return shown, client


def test_each_domain_has_its_certificate(example: Example) -> None:
    make = example("make_certificates").make_certificate
    default, one, two, new = map(make, ("localhost", "mail.one.example", "*.two.example", "new"))
    module = example("sni_two_domains")
    der = {pair.cert: ssl.PEM_cert_to_DER_cert(pair.cert.decode()) for pair in (one, two, default)}
    with listening(module.make_server(default, one, two)) as server:
        for name, pair in (
            ("mail.one.example", one),
            ("smtp.two.example", two),
            ("other.example", default),
            (None, default),
        ):
            shown, client = handshake(server, name)
            with client:
                assert shown == der[pair.cert]
                client.envelope()
                assert client.message() == f"250 2.6.0 accepted for {name}"
        module.renew(server, new)
        for name, expected in (("other.example", new), ("mail.one.example", one)):
            shown, client = handshake(server, name)
            client.close()
            assert shown == ssl.PEM_cert_to_DER_cert(expected.cert.decode())


def test_a_client_is_known_by_its_certificate(example: Example, tmp_path: Path) -> None:
    with listening(example("client_certificates").make_server(tmp_path)) as server:
        context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        context.load_cert_chain(tmp_path / "printer.pem")
        with connect(server) as client:
            client.hello()
            client.expect(530, "MAIL FROM:<printer@example.com>")
            client.upgrade(context, "localhost")
            assert "AUTH" not in client.expect(250, "EHLO client.example")
            client.expect(550, "MAIL FROM:<boss@example.com>")
            client.envelope("printer@example.com")
            assert client.message().code == 250


def upgraded(client: Client, context: ssl.SSLContext) -> None:
    """Do the handshake and read: in TLS 1.3 a client learns only then that it was refused."""
    client.upgrade(context)
    client.command("EHLO client.example")


@pytest.mark.parametrize("shown", [None, "stranger"])
def test_a_client_without_a_good_certificate_is_refused(
    example: Example, tmp_path: Path, shown: str | None
) -> None:
    context = trusting()
    if shown is not None:
        pair = example("make_certificates").make_certificate(shown)
        (tmp_path / "own.pem").write_bytes(pair.cert + pair.key)
        context.load_cert_chain(tmp_path / "own.pem")
    with (
        listening(example("client_certificates").make_server(tmp_path)) as server,
        connect(server) as client,
    ):
        client.hello()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            upgraded(client, context)


# --- exactly_once --------------------------------------------------------------------------------


def test_what_is_sent_again_is_stored_once(example: Example) -> None:
    module = example("exactly_once")
    inbox = module.Inbox()
    reading, gone = threading.Event(), threading.Event()
    take = inbox.on_data

    def slow(stream: Any, session: Any) -> Any:
        answer = take(stream, session)
        reading.set()
        assert gone.wait(TIMEOUT)
        return answer

    inbox.on_data = slow
    message = b"Message-ID: <1@example.com>\r\n\r\nOnce.\r\n"
    with listening(module.make_server(inbox)) as server:
        with connect(server) as client:
            client.hello()
            client.envelope()
            client.expect(354, "DATA")
            client.send(message + b".\r\n")
            assert reading.wait(TIMEOUT)
            client.reset()
        gone.set()
        wait_until_idle(server)
        # It is stored, and the client does not know; but who sends it twice means it twice.
        for answer in ("we have that already", "stored"):
            with connect(server) as client:
                client.hello()
                client.envelope()
                assert client.message(message) == f"250 2.6.0 {answer}"
    assert inbox.stored == [message, message]


# --- behind_a_proxy ------------------------------------------------------------------------------


def test_the_proxy_protocol(example: Example, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mail")
    with listening(example("behind_a_proxy").make_server("PROXY")) as server:
        with connect(server) as client:
            client.send(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 25\r\n")
            client.hello()
            assert "XCLIENT" not in client.expect(250, "EHLO client.example")
            client.envelope()
            assert client.message() == "250 2.6.0 accepted from [203.0.113.9] at 203.0.113.9"
        with connect(server) as client:
            client.send(b"PROXY TCP4 203.0.113.66 192.0.2.1 4711 25\r\n")
            client.hello()
            client.expect(550, "MAIL FROM:<a@client.example>")
    assert caplog.messages.count("client 203.0.113.9 port 4711") == 1


def test_xclient(example: Example, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mail")
    with listening(example("behind_a_proxy").make_server("XCLIENT")) as server:
        with connect(server) as client:
            client.hello()
            client.expect(220, "XCLIENT ADDR=203.0.113.9 NAME=a.example PORT=4711 LOGIN=alice")
            client.expect(250, "EHLO client.example")
            (session,) = server.connections
            assert session.user == "alice"
            client.envelope()
            assert client.message() == "250 2.6.0 accepted from a.example at 203.0.113.9"
        with connect(server) as client:
            client.hello()
            client.expect(220, "XCLIENT ADDR=203.0.113.66")
            client.expect(250, "EHLO client.example")
            client.expect(550, "MAIL FROM:<a@client.example>")
    assert caplog.messages.count("client 203.0.113.9 port 4711") == 1


def test_only_the_proxy_s_word_makes_a_user(example: Example) -> None:
    with (
        listening(example("behind_a_proxy").make_server("XCLIENT")) as server,
        talking_to(server) as client,
    ):
        client.expect(535, plain("alice:anything"))
