"""The README's blocks run, and do what the text around them says.

Only places are replaced: ports by free ones, paths of certificates and sockets by the test's own.
"""

from __future__ import annotations

import ast
import base64
import dataclasses
import re
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocksmtp import SMTPServer
from blocksmtp.options import CALLBACKS, TLS_DEFAULTS, Options, TLSOptions, names_of
from tests.certificates import Authority
from tests.documents import Document, run
from tests.scram_client import ScramClient

TLS_NAMES = {row.name for row in dataclasses.fields(TLSOptions)}
README = Document("README.md")
blocks, rows = README.blocks, README.rows


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[SMTPServer]]:
    """The servers that the test made, closed at its end."""
    made: list[SMTPServer] = []
    init = SMTPServer.__init__

    def remember(self: SMTPServer, **options: Any) -> None:
        init(self, **options)
        made.append(self)

    def serve_forever(self: SMTPServer, port: int) -> None:
        self.listen(port, "127.0.0.1")

    monkeypatch.setattr(SMTPServer, "__init__", remember)
    monkeypatch.setattr(SMTPServer, "serve_forever", serve_forever)
    yield made
    for server in made:
        server.close()


def connect(server: SMTPServer) -> smtplib.SMTP:
    """A client that has said EHLO, to a server that listens or now does."""
    if not server.addresses:
        server.listen(0, "127.0.0.1")
    client = smtplib.SMTP("127.0.0.1", server.port or 0)
    client.ehlo()
    return client


def test_every_python_block_is_tested() -> None:
    assert {heading: len(blocks(heading)) for heading in README.sections if blocks(heading)} == {
        "A first server": 2,
        "Callbacks": 1,
        "The message": 1,
        "TLS": 1,
        "Authentication": 2,
        "LMTP": 1,
        "In tests": 1,
    }


def test_first_server(servers: list[SMTPServer], capsys: pytest.CaptureFixture[str]) -> None:
    run(blocks("A first server")[0], {"2525": "0"})
    with connect(servers[0]) as client:
        client.mail("me@example.org")
        assert client.rcpt("nobody@elsewhere.example") == (550, b"5.1.1 No such user")
        client.rcpt("you@example.com")
        assert client.data(b"Hello!\r\n") == (250, b"2.6.0 queued as 1234")
    printed = capsys.readouterr().out
    for shown in ("me@example.org", "you@example.com", "b'Hello!\\r\\n'"):
        assert shown in printed


def test_server_inside_a_program(servers: list[SMTPServer]) -> None:
    run(blocks("A first server")[1])
    assert servers[0].wait(0)


def test_callbacks(servers: list[SMTPServer], capsys: pytest.CaptureFixture[str]) -> None:
    server = run(blocks("Callbacks")[0])["server"]

    def disk_full(stream: Any) -> None:
        raise OSError("disk full")

    with connect(server) as client:
        assert client.mail("x@spam.example") == (550, b"5.7.1 We have heard enough from you")
        client.sendmail("me@example.org", ["you@example.com"], "Hello!")
        server.store = disk_full
        client.mail("me@example.org")
        client.rcpt("you@example.com")
        assert client.data(b"Hello!")[0] == 452
    server.close()
    assert "sent 1 messages" in capsys.readouterr().out


def test_message(servers: list[SMTPServer], capsys: pytest.CaptureFixture[str]) -> None:
    namespace = run(blocks("The message")[0])
    with connect(namespace["server"]) as client:
        assert client.esmtp_features["size"] == "25000000"
        client.sendmail("me@example.org", ["you@example.com"], "Subject: S\r\n\r\nHello!")
    assert namespace["subjects"] == ["S"]
    assert "Received: from " in capsys.readouterr().out


def test_tls(servers: list[SMTPServer], tmp_path: Path) -> None:
    authority = Authority()
    for cert, key, name in (
        ("certs/mx.example.com.pem", "private/mx.example.com.key", "mx.example.com"),
        ("org.pem", "org.key", "mail.example.org"),
        ("certs/renewed.pem", "private/renewed.key", "renewed.example.com"),
    ):
        leaf = authority.issue(name)
        for path, pem in ((cert, leaf.cert), (key, leaf.key)):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(pem)
    places = {'"/etc/ssl/': f'"{tmp_path}/', "587": '0, "127.0.0.1"', "465": '0, "127.0.0.1"'}
    server = run(blocks("TLS")[0], places)["server"]
    context = ssl.create_default_context()
    authority.trusted_by(context)
    for name in ("renewed.example.com", "mail.example.org"):
        with connect(server) as client:
            assert client.mail("me@example.org")[0] == 530
            # smtplib verifies against the name that it connected to.
            client._host = name  # type: ignore[attr-defined]
            client.starttls(context=context)
            assert client.ehlo()[0] == 250
    context.check_hostname = False
    with smtplib.SMTP_SSL("127.0.0.1", server.addresses[1][1], context=context) as secure:
        assert secure.noop()[0] == 250


def xoauth2(token: str) -> str:
    return base64.b64encode(f"user=alice\1auth=Bearer {token}\1\1".encode()).decode()


def test_authentication(servers: list[SMTPServer]) -> None:
    namespace = run(blocks("Authentication")[0])
    server = SMTPServer(
        on_auth=namespace["on_auth"],
        auth_methods=namespace["server"].options.auth_methods,
        allow_insecure_auth=True,
    )
    for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
        for password, code in (("wonderland", 235), ("looking-glass", 535)):
            with connect(server) as client:
                client.user, client.password = "alice", password
                method = getattr(client, "auth_" + mechanism.lower().replace("-", "_"))
                try:
                    answer = client.auth(mechanism, method)[0]
                except smtplib.SMTPAuthenticationError as error:
                    answer = error.smtp_code
                assert answer == code
    with connect(server) as client:
        code, challenge = client.docmd("AUTH", "XOAUTH2 " + xoauth2("wrong"))
        assert code == 334
        assert b'"401"' in base64.b64decode(challenge)
        assert client.docmd("")[0] == 535
        assert client.docmd("AUTH", "XOAUTH2 " + xoauth2("let me in"))[0] == 501
        assert client.docmd("AUTH", "XOAUTH2 " + xoauth2("let-me-in"))[0] == 235


def test_stored_verifiers(servers: list[SMTPServer]) -> None:
    namespace = run(blocks("Authentication")[1])
    server = SMTPServer(
        on_auth=namespace["server"].on_auth,
        scram_verifier=namespace["server"].scram_verifier,
        auth_methods=namespace["server"].options.auth_methods,
        allow_insecure_auth=True,
    )
    for password, codes in (("wonderland", [334, 235]), ("looking-glass", [535, 500])):
        scram = ScramClient("alice", password)
        with connect(server) as client:
            code, challenge = client.docmd("AUTH", f"SCRAM-SHA-256 {base64_of(scram.first)}")
            assert code == 334
            final = scram.final(base64.b64decode(challenge))
            assert [client.docmd(base64_of(final))[0], client.docmd("")[0]] == codes


def base64_of(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def test_lmtp(servers: list[SMTPServer], tmp_path: Path) -> None:
    run(blocks("LMTP")[0], {"/run/blocksmtp/lmtp.sock": str(tmp_path / "lmtp.sock")})
    with smtplib.LMTP(str(tmp_path / "lmtp.sock")) as client:
        client.ehlo()
        client.mail("me@example.org")
        client.rcpt("you@example.com")
        client.rcpt("full@example.com")
        assert client.data(b"Hello!") == (250, b"2.6.0 OK: message queued")
        # smtplib reads one reply only.
        assert client.getreply() == (452, b"4.2.2 Mailbox full")


def named(cell: str) -> list[str]:
    """The names in a cell, the text in brackets left out."""
    return re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", cell))


def test_table_of_options_is_complete_and_true() -> None:
    documented: dict[str, str] = {}
    for cells in rows("Options"):
        names, defaults = named(cells[0]), cells[1].split(", ")
        if len(defaults) != len(names):
            defaults = [cells[1]] * len(names)
        documented.update(zip(names, defaults, strict=True))
    fields = {row.name for row in dataclasses.fields(Options)}
    assert set(documented) == {name for name in fields if not name.startswith("on_")}
    for name, shown in documented.items():
        if re.fullmatch(r"`.+`", shown) and name != "logger":
            default = getattr(TLS_DEFAULTS if name in TLS_NAMES else Options(), name)
            assert ast.literal_eval(shown.strip("`")) == default, name


def test_table_of_callbacks_is_complete() -> None:
    documented = {re.match(r"`(\w+)\(", cells[0])[1] for cells in rows("Callbacks")}  # type: ignore[index]
    assert documented == {name for name in CALLBACKS if name.startswith("on_")}


def test_names_that_bun_smtp_users_know_are_taken() -> None:
    known = names_of(Options)
    for cells in rows("Coming from bun-smtp or smtp-server"):
        for name in re.findall(r"\b((?:on|hide)[A-Z]\w+|\w+Timeout|maxAll\w+)\b", cells[0]):
            assert name in known
            assert known[name] in " ".join(cells[1:])


def test_links_lead_somewhere() -> None:
    README.assert_links_lead_somewhere()
