"""Every option has an effect: `EFFECTS` names the test that fails when it has none."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import inspect
import logging
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from blocksmtp import (
    CramMD5Auth,
    DataStream,
    ScramVerifier,
    SMTPAddress,
    SMTPError,
    SMTPServer,
    SMTPSession,
    TLSOptions,
)
from blocksmtp.options import Options
from tests import test_closing, test_deadlines, test_limits
from tests.certificates import Authority, Leaf
from tests.client import Client, connect, serving, trusting, wait_until_idle
from tests.scram_client import ScramClient

CLEAR: dict[str, Any] = {"allow_insecure_auth": True, "auth_optional": False}
ATTEMPT = "AUTH PLAIN " + base64.b64encode(b"\0user\0secret").decode()


def extensions(client: Client, hello: str = "EHLO client.example") -> list[str]:
    """What the server offers."""
    return client.expect(250, hello).lines[1:]


@contextlib.contextmanager
def dialogue(**options: Any) -> Iterator[Client]:
    """A client that has been greeted by a server with these options, and has said EHLO."""
    with serving(**options) as server, connect(server) as client:
        client.hello("LHLO client.example" if options.get("lmtp") else "EHLO client.example")
        yield client


# --- the connection ----------------------------------------------------------------------------


def test_secure() -> None:
    with serving(secure=True) as server, connect(server, tls=trusting()) as client:
        client.hello()
        assert server.connections[0].secure


def test_needs_upgrade() -> None:
    options = {"needs_upgrade": True, "disabled_commands": (), "allow_insecure_auth": True}
    with dialogue(**options) as client:
        for command in ("MAIL FROM:<a@client.example>", ATTEMPT):
            assert client.command(command) == "530 5.7.0 Must issue a STARTTLS command first"
        client.expect(250, "NOOP")
        client.upgrade()
        client.expect(250, "EHLO client.example")
        client.envelope()
    with serving(**options, secure=True) as server, connect(server, tls=trusting()) as client:
        client.hello()
        client.envelope()


def test_name_and_banner() -> None:
    with (
        serving(name="relay.example", banner="No spam, please") as server,
        connect(server) as client,
    ):
        assert client.reply() == "220 relay.example ESMTP No spam, please"
        assert client.command("EHLO me").lines[0].startswith("relay.example ")
    with serving(name="relay.example") as server, connect(server) as client:
        assert client.reply() == "220 relay.example ESMTP"


def test_lmtp() -> None:
    with serving(lmtp=True) as server, connect(server) as client:
        assert client.reply() == "220 mx.example LMTP"
        client.expect(500, "EHLO client.example")
        client.expect(250, "LHLO client.example")
        client.envelope("a@client.example", "b@server.example", "c@server.example")
        assert client.message().code == 250
        assert client.reply().code == 250


def test_helo_response() -> None:
    with serving(helo_response="%s at the service of %s") as server, connect(server) as client:
        client.reply()
        greeting = "mx.example at the service of [127.0.0.1]"
        assert client.command("HELO me") == f"250 {greeting}"
        assert client.command("EHLO me").lines[0] == greeting


# --- authentication ----------------------------------------------------------------------------


def test_auth_methods() -> None:
    def on_auth(auth: CramMD5Auth, session: SMTPSession) -> str | None:
        return auth.username if auth.validate_password("secret") else None

    with dialogue(**CLEAR, auth_methods=["CRAM-MD5"], on_auth=on_auth) as client:
        assert "AUTH CRAM-MD5" in extensions(client)
        client.expect(504, ATTEMPT)
        client.expect(334, "AUTH CRAM-MD5")


def test_auth_optional() -> None:
    with dialogue(auth_optional=True) as client:
        client.envelope()
    with dialogue(auth_optional=False) as client:
        client.expect(530, "MAIL FROM:<a@client.example>")


def test_allow_insecure_auth() -> None:
    options = {"on_auth": lambda auth, session: auth.username}
    with dialogue(**options, allow_insecure_auth=True) as client:
        assert "AUTH PLAIN LOGIN" in extensions(client)
        client.expect(235, ATTEMPT)
    with dialogue(**options, allow_insecure_auth=False, disabled_commands=()) as client:
        assert not [line for line in extensions(client) if line.startswith("AUTH")]
        client.expect(538, ATTEMPT)
        client.upgrade()
        assert "AUTH PLAIN LOGIN" in extensions(client)
        client.expect(235, ATTEMPT)


def test_auth_required_message() -> None:
    with dialogue(auth_optional=False, auth_required_message="Who are you?") as client:
        assert client.command("MAIL FROM:<a@client.example>") == "530 5.7.0 Who are you?"


# --- extensions --------------------------------------------------------------------------------

HIDDEN = {
    "hide_pipelining": "PIPELINING",
    "hide_8bitmime": "8BITMIME",
    "hide_smtputf8": "SMTPUTF8",
    "hide_enhanced_status_codes": "ENHANCEDSTATUSCODES",
    "hide_chunking": "CHUNKING",
    "hide_dsn": "DSN",
    "hide_starttls": "STARTTLS",
}


@pytest.mark.parametrize(("option", "keyword"), HIDDEN.items())
def test_hidden_extensions(option: str, keyword: str) -> None:
    with dialogue(disabled_commands=(), **{option: False}) as client:
        assert keyword in extensions(client)
    with dialogue(disabled_commands=(), **{option: True}) as client:
        assert keyword not in extensions(client)


def test_hide_starttls() -> None:
    test_hidden_extensions("hide_starttls", "STARTTLS")
    with dialogue(disabled_commands=(), hide_starttls=True) as client:
        client.upgrade()
        client.expect(250, "EHLO client.example")


def test_hide_pipelining() -> None:
    test_hidden_extensions("hide_pipelining", "PIPELINING")
    with dialogue(hide_pipelining=True) as client:
        client.send_lines("NOOP", "RSET", "VRFY b")
        assert [reply.code for reply in client.replies(3)] == [250, 250, 252]


def test_hide_8bitmime() -> None:
    test_hidden_extensions("hide_8bitmime", "8BITMIME")
    with dialogue(hide_8bitmime=True) as client:
        # RFC 6531, section 3.1: the one only with the other
        assert "SMTPUTF8" not in extensions(client)
        client.expect(250, "MAIL FROM:<a@client.example> BODY=8BITMIME")


def test_hide_smtputf8() -> None:
    test_hidden_extensions("hide_smtputf8", "SMTPUTF8")
    with dialogue(hide_smtputf8=True) as client:
        client.expect(250, "MAIL FROM:<jürgen@client.example> SMTPUTF8")


def test_hide_enhanced_status_codes() -> None:
    test_hidden_extensions("hide_enhanced_status_codes", "ENHANCEDSTATUSCODES")
    with dialogue(hide_enhanced_status_codes=True) as client:
        assert client.command("MAIL FROM:<a@client.example>") == "250 Accepted"
        assert client.command("HELLO?") == "500 Error: command not recognized"
    with dialogue() as client:
        assert client.command("MAIL FROM:<a@client.example>") == "250 2.1.0 Accepted"


def test_scram_verifier() -> None:
    asked: list[str] = []

    def scram_verifier(username: str, session: SMTPSession) -> ScramVerifier | None:
        asked.append(username)
        return ScramVerifier.from_password("secret", iterations=4096)

    options = {"auth_methods": ["SCRAM-SHA-256"], "allow_insecure_auth": True}
    with dialogue(
        **options, scram_verifier=scram_verifier, on_auth=lambda auth, session: auth.verified
    ) as client:
        scram = ScramClient("alice", "secret")
        first = base64.b64encode(scram.first).decode()
        challenge = client.expect(334, f"AUTH SCRAM-SHA-256 {first}").lines[0]
        client.expect(334, base64.b64encode(scram.final(base64.b64decode(challenge))))
        client.expect(235, "")
    assert asked == ["alice"]


def test_hide_limits() -> None:
    with dialogue(hide_limits=False, max_recipients=5) as client:
        assert "LIMITS RCPTMAX=5" in extensions(client)
    # The grammar knows no more than six digits (RFC 9422, section 3).
    for options in ({"hide_limits": True}, {"max_recipients": 1_000_000}):
        with dialogue(**options) as client:
            assert not [line for line in extensions(client) if line.startswith("LIMITS")]


def test_max_messages() -> None:
    with dialogue(max_messages=1) as client:
        assert "LIMITS MAILMAX=1 RCPTMAX=1000" in extensions(client)
        client.envelope()
        client.message()
        client.expect(421, "MAIL FROM:<a@client.example>")
        assert client.rest() == b""


def test_extra_extensions() -> None:
    seen: list[dict[str, str | bool]] = []
    with dialogue(
        extra_extensions={"deliverby": "240"},
        on_mail_from=lambda address, session: seen.append(address.args),
    ) as client:
        assert "DELIVERBY 240" in extensions(client)
        client.expect(250, "MAIL FROM:<a@client.example> BY=120;R")
    assert seen == [{"BY": "120;R"}]


def test_on_vrfy() -> None:
    with dialogue(on_vrfy=lambda address, session: f"{address}, our own") as client:
        assert client.command("VRFY bob") == "250 2.1.5 bob, our own"


def test_on_rset() -> None:
    seen: list[list[str]] = []

    def on_rset(session: SMTPSession) -> None:
        seen.append([str(address) for address in session.envelope.rcpt_to])

    with dialogue(on_rset=on_rset) as client:
        client.envelope()
        client.expect(250, "RSET")
    assert seen == [["b@server.example"]]


def test_hide_chunking() -> None:
    test_hidden_extensions("hide_chunking", "CHUNKING")
    test_hidden_extensions("hide_chunking", "BINARYMIME")
    with dialogue(hide_chunking=True) as client:
        client.envelope()
        client.send("BDAT 5 LAST\r\nHello")
        assert client.reply().code == 250


def test_hide_dsn() -> None:
    test_hidden_extensions("hide_dsn", "DSN")
    with dialogue() as client:
        assert "DSN" not in extensions(client)  # it is hidden unless the application opts in
        client.expect(250, "MAIL FROM:<a@client.example> RET=HDRS ENVID=1")


def test_hide_requiretls() -> None:
    for hidden in (True, False):
        with dialogue(disabled_commands=(), hide_requiretls=hidden) as client:
            assert "REQUIRETLS" not in extensions(client)
            client.upgrade()
            assert ("REQUIRETLS" in extensions(client)) is not hidden
            client.expect(250, "MAIL FROM:<a@client.example> REQUIRETLS")


def test_hide_size() -> None:
    with dialogue(size=1000, hide_size=True) as client:
        assert extensions(client)[-1] == "SIZE"
        client.expect(552, "MAIL FROM:<a@client.example> SIZE=1001")


def test_size() -> None:
    seen: list[tuple[bytes, bool]] = []

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        seen.append((stream.read(), stream.size_exceeded))

    with dialogue(size=10, on_data=on_data) as client:
        assert extensions(client)[-1] == "SIZE 10"
        assert client.command("MAIL FROM:<a@client.example> SIZE=11").startswith("552 5.3.4 ")
        client.envelope()
        assert client.message(b"01234567\r\n").code == 250
        client.envelope()
        assert client.message(b"012345678\r\n").startswith("552 5.3.4 ")
    assert seen == [(b"01234567\r\n", False), (b"012345678\r", True)]
    with dialogue() as client:
        assert extensions(client)[-1] == "SIZE"


def test_disabled_commands() -> None:
    disabled = ["auth", "STARTTLS", "VRFY"]
    with dialogue(disabled_commands=disabled, allow_insecure_auth=True) as client:
        assert not {"STARTTLS", "AUTH PLAIN LOGIN"} & set(extensions(client))
        for command in ("STARTTLS", "VRFY b", ATTEMPT):
            assert client.command(command) == "502 5.5.1 Error: command not implemented"
    # Nobody can be asked to do what cannot be done.
    with dialogue(disabled_commands=["AUTH"], auth_optional=False) as client:
        client.envelope()


@pytest.mark.parametrize(
    ("policy", "received"),
    [("normalize", b"a\r\nb\r\n.c\r\n"), ("keep", b"a\nb\r\n.c\r\n"), ("reject", None)],
)
def test_bare_newline(policy: str, received: bytes | None) -> None:
    seen: list[bytes] = []

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        seen.append(stream.read())

    with dialogue(bare_newline=policy, on_data=on_data) as client:
        client.envelope()
        reply = client.message(b"a\nb\r\n..c\r\n")
        if received is None:
            assert reply.startswith("550 5.6.11 ")
        else:
            assert reply.code == 250
        client.send("NOOP\n")
        assert client.reply().code == (500 if policy == "reject" else 250)
    assert seen == ([] if received is None else [received])


# --- proxies -----------------------------------------------------------------------------------

OURS = ["127.0.0.0/8"]
NOT_OURS = ["192.0.2.0/24", "2001:db8::/32"]


@pytest.mark.parametrize("allowed", [True, OURS, False, NOT_OURS], ids=str)
def test_use_xclient(allowed: bool | list[str]) -> None:
    with serving(use_xclient=allowed) as server, connect(server) as client:
        client.hello()
        offered = [line for line in extensions(client) if line.startswith("XCLIENT")]
        reply = client.command("XCLIENT ADDR=192.0.2.9 NAME=real.example")
        if allowed in (False, NOT_OURS):
            assert not offered
            assert reply.code == 550
            assert server.connections[0].remote_address == "127.0.0.1"
        else:
            assert offered == ["XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"]
            assert reply.code == 220
            assert server.connections[0].remote_address == "192.0.2.9"


@pytest.mark.parametrize("allowed", [True, OURS, False, NOT_OURS], ids=str)
def test_use_xforward(allowed: bool | list[str]) -> None:
    with serving(use_xforward=allowed) as server, connect(server) as client:
        client.hello()
        offered = [line for line in extensions(client) if line.startswith("XFORWARD")]
        reply = client.command("XFORWARD ADDR=192.0.2.9")
        if allowed in (False, NOT_OURS):
            assert not offered
            assert reply.code == 550
        else:
            assert offered == ["XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"]
            assert reply.code == 250
            assert server.connections[0].x_forward == {"ADDR": "192.0.2.9"}


@pytest.mark.parametrize("trusted", [True, OURS], ids=str)
def test_use_proxy(trusted: bool | list[str]) -> None:
    with serving(use_proxy=trusted) as server, connect(server) as client:
        client.send("PROXY TCP4 192.0.2.9 198.51.100.1 1024 25\r\n")
        client.hello()
        (session,) = server.connections
        assert (session.remote_address, session.remote_port) == ("192.0.2.9", 1024)
        assert (session.local_address, session.local_port) == ("198.51.100.1", 25)


@pytest.mark.parametrize("trusted", [False, NOT_OURS], ids=str)
def test_use_proxy_is_for_the_trusted(trusted: bool | list[str]) -> None:
    with serving(use_proxy=trusted) as server, connect(server) as client:
        client.hello()
        client.expect(500, "PROXY TCP4 192.0.2.9 198.51.100.1 1024 25")
        assert server.connections[0].remote_address == "127.0.0.1"


# --- names and addresses -----------------------------------------------------------------------


class Names:
    """A resolver that remembers what it was asked."""

    def __init__(self, *names: str, error: Exception | None = None) -> None:
        self.names = names
        self.error = error
        self.asked: list[str] = []

    def reverse(self, ip: str) -> tuple[str, ...]:
        self.asked.append(ip)
        if self.error is not None:
            raise self.error
        return self.names


def test_a_name_that_leads_back_is_verified() -> None:
    class BothWays(Names):
        def forward(self, name: str) -> list[str]:
            self.asked.append(name)
            return ["127.0.0.1"]

    for names, verified in ((BothWays("client.example"), True), (Names("client.example"), False)):
        with (
            serving(resolver=names, disable_reverse_lookup=False) as server,
            connect(server) as client,
        ):
            client.hello()
            assert server.connections[0].client_hostname_verified is verified


def test_resolver() -> None:
    names = Names("not a name", "client.example.", "other.example")
    with (
        serving(resolver=names, disable_reverse_lookup=False) as server,
        connect(server) as client,
    ):
        client.hello()
        client.envelope()
        client.message()
        client.expect(250, "EHLO again.example")
        assert server.connections[0].client_hostname == "client.example"
    assert names.asked == ["127.0.0.1"], "once a connection"


@pytest.mark.parametrize(
    "names", [Names(), Names(error=OSError("no answer"))], ids=["none", "error"]
)
def test_a_resolver_without_an_answer(names: Names) -> None:
    with (
        serving(resolver=names, disable_reverse_lookup=False) as server,
        connect(server) as client,
    ):
        assert client.hello().lines[0].endswith(" [127.0.0.1]")
    assert names.asked == ["127.0.0.1"]


def test_disable_reverse_lookup() -> None:
    names = Names("client.example")
    with serving(resolver=names, disable_reverse_lookup=True) as server, connect(server) as client:
        assert client.hello().lines[0].endswith(" [127.0.0.1]")
    assert names.asked == []


def test_lenient_address_parsing() -> None:
    for lenient, code in ((False, 501), (True, 250)):
        with dialogue(lenient_address_parsing=lenient) as client:
            client.expect(code, "MAIL FROM:<a..b.@client.example>")
            client.expect(501, "MAIL FROM:<nobody>" if not lenient else "RCPT TO:<nobody>")


# --- TLS ---------------------------------------------------------------------------------------


@functools.cache
def authority() -> Authority:
    return Authority()


@functools.cache
def leaf() -> Leaf:
    return authority().issue("mx.example", "127.0.0.1")


def verifying(ca: Authority) -> ssl.SSLContext:
    """A client that trusts `ca` alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.trusted_by(context)
    return context


@contextlib.contextmanager
def in_tls(
    context: ssl.SSLContext | None = None, name: str = "mx.example", **options: Any
) -> Iterator[ssl.SSLSocket]:
    """The socket of a client in implicit TLS that has been greeted."""
    given = {"secure": True, "cert": leaf().cert, "key": leaf().key, **options}
    with (
        serving(**given) as server,
        connect(server, tls=context or trusting(), name=name) as client,
    ):
        assert client.reply().code == 220
        assert isinstance(client.sock, ssl.SSLSocket)
        yield client.sock


def test_key_and_cert() -> None:
    with in_tls(verifying(authority())) as sock:
        assert sock.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(leaf().cert.decode())


def test_passphrase() -> None:
    encrypted = leaf().encrypted_key(b"open sesame")
    with in_tls(verifying(authority()), key=encrypted, passphrase="open sesame"):
        pass
    for wrong in ("open", None):
        with pytest.raises(ValueError, match="key"):
            SMTPServer(cert=leaf().cert, key=encrypted, passphrase=wrong)


def shown(context: ssl.SSLContext, certificate: Leaf, folder: Path) -> ssl.SSLContext:
    """`context` with a client's certificate."""
    certificate.shown_by(context, folder)
    return context


def peer(**options: Any) -> tuple[dict[str, Any], list[Any]]:
    """Options with an on_secure that notes the client's certificate."""
    seen: list[Any] = []

    def on_secure(connection: SSL.Connection, session: SMTPSession) -> None:
        certificate = connection.get_peer_certificate(as_cryptography=True)
        seen.append(certificate and certificate.serial_number)

    return {"on_secure": on_secure, **options}, seen


def test_request_cert(tmp_path: Path) -> None:
    mine = authority().issue("client.example")
    for wanted in (True, False):
        options, seen = peer(request_cert=wanted, ca=authority().pem)
        with in_tls(shown(trusting(), mine, tmp_path), **options):
            assert seen == [mine.certificate.serial_number if wanted else None]


def test_ca(tmp_path: Path) -> None:
    stranger = Authority()
    theirs = stranger.issue("client.example")
    options, seen = peer(request_cert=True, ca=authority().pem + stranger.pem)
    with in_tls(shown(trusting(), theirs, tmp_path), **options):
        assert seen == [theirs.certificate.serial_number]
    options, seen = peer(request_cert=True, ca=authority().pem)
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        in_tls(shown(trusting(), theirs, tmp_path), **options),
    ):
        pass
    assert seen == []


def test_reject_unauthorized(tmp_path: Path) -> None:
    theirs = Authority().issue("client.example")
    demand: dict[str, Any] = {"request_cert": True, "ca": authority().pem}
    options, seen = peer(**demand, reject_unauthorized=False)
    with in_tls(shown(trusting(), theirs, tmp_path), **options):
        assert seen == [theirs.certificate.serial_number]
    with in_tls(**options):
        assert seen[1:] == [None]
    for context in (shown(trusting(), theirs, tmp_path), trusting()):
        options, seen = peer(**demand)
        with pytest.raises((ssl.SSLError, ConnectionError)), in_tls(context, **options):
            pass
        assert seen == []


def test_min_version() -> None:
    old = trusting()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with in_tls(old) as sock:
        assert sock.version() == "TLSv1.2"
    with pytest.raises(ssl.SSLError), in_tls(old, min_version="TLSv1.3"):
        pass


def test_max_version() -> None:
    with in_tls() as sock:
        assert sock.version() == "TLSv1.3"
    with in_tls(max_version="TLSv1.2") as sock:
        assert sock.version() == "TLSv1.2"


FIRST, SECOND = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"
if "RSA PRIVATE" in leaf().key.decode():
    FIRST, SECOND = FIRST.replace("ECDSA", "RSA"), SECOND.replace("ECDSA", "RSA")


def chosen(client_order: str, **options: Any) -> str | None:
    """The cipher that a TLS 1.2 handshake ends with."""
    context = trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(client_order)
    with in_tls(context, **options) as sock:
        cipher = sock.cipher()
        return cipher and cipher[0]


def test_ciphers() -> None:
    both = f"{FIRST}:{SECOND}"
    assert chosen(both, ciphers=FIRST) == FIRST
    assert chosen(both, ciphers=SECOND) == SECOND


def test_honor_cipher_order() -> None:
    ours, theirs = f"{FIRST}:{SECOND}", f"{SECOND}:{FIRST}"
    assert chosen(theirs, ciphers=ours) == FIRST
    assert chosen(theirs, ciphers=ours, honor_cipher_order=False) == SECOND


def test_session_id_context() -> None:
    """A session is resumed only under the context that it began with."""
    client = trusting()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    options = {"secure": True, "cert": leaf().cert, "key": leaf().key}
    with serving(**options, session_id_context="here") as server:
        context = server._host.tls.contexts()._context

        def resumed(session: ssl.SSLSession | None) -> tuple[bool | None, ssl.SSLSession | None]:
            with connect(server) as connection:
                connection.sock = secure = client.wrap_socket(connection.sock, session=session)
                connection.hello()
                connection.expect(221, "QUIT")
                return secure.session_reused, secure.session

        # Past the guard of pyOpenSSL, which lets nothing be set in a context that is in use.
        set_session_id: Any = inspect.unwrap(SSL.Context.set_session_id)
        _, session = resumed(None)
        set_session_id(context, b"here")
        assert resumed(session)[0]
        set_session_id(context, b"elsewhere")
        assert not resumed(session)[0]


@pytest.mark.parametrize("form", ["mapping", "TLSOptions"])
def test_sni_options(form: str) -> None:
    exact, wild = authority().issue("a.example"), authority().issue("*.b.example")
    table: dict[str, Any] = {"a.example": exact, "*.b.example": wild}
    for name, certificate in table.items():
        material = {"cert": certificate.cert, "key": certificate.key}
        table[name] = TLSOptions(**material) if form == "TLSOptions" else material
    for name, expected in (
        ("a.example", exact),
        ("x.b.example", wild),
        ("mx.example", leaf()),
    ):
        with in_tls(verifying(authority()), name, sni_options=table) as sock:
            der = sock.getpeercert(binary_form=True)
            assert der == ssl.PEM_cert_to_DER_cert(expected.cert.decode())


# --- the application ---------------------------------------------------------------------------


class Records(logging.Handler):
    """Collects records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def test_logger() -> None:
    mine, ours = Records(), Records()
    logger = logging.Logger("mine", logging.DEBUG)
    logger.addHandler(mine)
    logging.getLogger("blocksmtp").addHandler(ours)
    try:
        with serving(logger=logger) as server, connect(server) as client:
            client.hello()
            client.expect(221, "QUIT")
    finally:
        logging.getLogger("blocksmtp").removeHandler(ours)
    assert "C: QUIT" in "\n".join(record.getMessage() for record in mine.records)
    assert ours.records == []


def test_callback_context() -> None:
    """It is entered around each callback, and gets the session."""
    seen: list[str] = []
    sessions: set[SMTPSession] = set()

    @contextlib.contextmanager
    def context(session: SMTPSession) -> Iterator[None]:
        sessions.add(session)
        seen.append("(")
        yield
        seen.append(")")

    with serving(**noting(seen), callback_context=context) as server:
        whole_dialogue(server)
        wait_until_idle(server)
    assert seen == [word for name in NOTED for word in ("(", name, ")")]
    assert len(sessions) == 1


NOTED = [
    *("on_connect", "on_secure", "on_auth", "on_mail_from", "on_rcpt_to", "on_data", "on_close"),
]


def noting(seen: list[str]) -> dict[str, Any]:
    """Options for whole_dialogue(), with callbacks that note their names."""

    def callback(name: str) -> Callable[..., Any]:
        def called(*arguments: object) -> str | None:
            seen.append(name)
            return "user" if name == "on_auth" else None

        return called

    return {
        **{name: callback(name) for name in NOTED},
        "disabled_commands": (),
        "auth_optional": False,
        "allow_insecure_auth": False,
    }


def whole_dialogue(server: SMTPServer) -> None:
    """One in which every callback has its turn."""
    with connect(server) as client:
        client.hello()
        client.upgrade()
        client.expect(250, "EHLO client.example")
        client.expect(235, ATTEMPT)
        client.envelope()
        assert client.message().code == 250
        client.expect(221, "QUIT")


@pytest.mark.parametrize("how", ["options", "reference names", "assigned", "subclass"])
def test_callbacks(how: str) -> None:
    seen: list[str] = []
    options = noting(seen)
    callbacks = {name: options.pop(name) for name in NOTED}
    if how == "options":
        options.update(callbacks)
    elif how == "reference names":
        rows = {row.name: row.metadata["reference"] for row in dataclasses.fields(Options)}
        options.update({rows[name]: function for name, function in callbacks.items()})
    kind: Callable[..., SMTPServer] = SMTPServer
    if how == "subclass":
        methods = {name: staticmethod(function) for name, function in callbacks.items()}
        kind = type("Server", (SMTPServer,), methods)
    with kind(**options, disable_reverse_lookup=True) as server:
        if how == "assigned":
            for name, function in callbacks.items():
                setattr(server, name, function)
        server.listen(0, "127.0.0.1")
        whole_dialogue(server)
        wait_until_idle(server)
    assert seen == NOTED


@pytest.mark.parametrize("name", NOTED)
def test_each_callback_has_its_say(name: str) -> None:
    """What it refuses is refused; on_close has nothing to refuse."""
    seen: list[str] = []

    def refusing(*arguments: object) -> None:
        raise SMTPError("No, thank you", 554)

    with serving(**{**noting(seen), name: refusing}) as server:
        if name == "on_close":
            whole_dialogue(server)
            wait_until_idle(server)
        else:
            with pytest.raises((AssertionError, ConnectionError)):
                whole_dialogue(server)
            wait_until_idle(server)
            assert seen[-1] == "on_close"
            assert name not in seen
            before = NOTED[: NOTED.index(name)]
            assert seen[:-1] == before


def test_what_callbacks_get() -> None:
    seen: list[tuple[str, tuple[type, ...]]] = []

    def noted(name: str) -> Callable[..., Any]:
        def callback(*arguments: Any) -> str | None:
            assert isinstance(arguments[-1], SMTPSession)
            seen.append((name, tuple(type(argument) for argument in arguments[:-1])))
            return "user" if name == "on_auth" else None

        return callback

    with serving(**{**noting([]), **{name: noted(name) for name in NOTED}}) as server:
        whole_dialogue(server)
        wait_until_idle(server)
    (secure,) = (kinds for name, kinds in seen if name == "on_secure")
    assert issubclass(secure[0], SSL.Connection)
    kinds = {name: [kind.__name__ for kind in given] for name, given in seen}
    assert kinds["on_connect"] == kinds["on_close"] == []
    assert kinds["on_auth"] == ["PlainAuth"]
    assert kinds["on_mail_from"] == kinds["on_rcpt_to"] == [SMTPAddress.__name__]
    assert kinds["on_data"] == [DataStream.__name__]


# --- none is forgotten -------------------------------------------------------------------------

EFFECTS: dict[str, Callable[..., None]] = {
    "secure": test_secure,
    "needs_upgrade": test_needs_upgrade,
    "name": test_name_and_banner,
    "banner": test_name_and_banner,
    "lmtp": test_lmtp,
    "helo_response": test_helo_response,
    "auth_methods": test_auth_methods,
    "auth_optional": test_auth_optional,
    "allow_insecure_auth": test_allow_insecure_auth,
    "auth_required_message": test_auth_required_message,
    "hide_starttls": test_hide_starttls,
    "hide_size": test_hide_size,
    "hide_pipelining": test_hide_pipelining,
    "hide_8bitmime": test_hide_8bitmime,
    "hide_smtputf8": test_hide_smtputf8,
    "hide_enhanced_status_codes": test_hide_enhanced_status_codes,
    "hide_chunking": test_hide_chunking,
    "on_vrfy": test_on_vrfy,
    "on_rset": test_on_rset,
    "hide_limits": test_hide_limits,
    "extra_extensions": test_extra_extensions,
    "max_messages": test_max_messages,
    "scram_verifier": test_scram_verifier,
    "hide_dsn": test_hide_dsn,
    "hide_requiretls": test_hide_requiretls,
    "disabled_commands": test_disabled_commands,
    "size": test_size,
    "max_clients": test_limits.test_one_client_too_many_is_told_so_at_once,
    "max_clients_per_address": test_limits.test_one_address_may_not_take_all_places,
    "max_auth_failures": test_limits.test_the_last_refusal_of_credentials_is_421,
    "max_recipients": test_limits.test_recipients_above_the_limit_are_refused_and_the_others_kept,
    "max_command_length": test_limits.test_a_command_line_may_be_so_long,
    "max_allowed_unauthenticated_commands": (
        test_limits.test_commands_before_authentication_are_counted
    ),
    "max_bad_commands": test_limits.test_bad_commands_in_a_row_are_counted,
    "socket_timeout": test_deadlines.test_a_silent_client_is_told_and_closed,
    "command_timeout": test_deadlines.test_a_line_that_drips_is_broken_off,
    "transaction_timeout": (test_deadlines.test_a_client_that_keeps_every_limit_and_brings_nothing),
    "data_min_rate": test_deadlines.test_without_a_rate_a_message_may_drip,
    "close_timeout": test_closing.test_what_takes_longer_than_close_timeout_is_broken_off,
    "greeting_delay": test_limits.test_a_client_that_talks_before_the_greeting_is_refused,
    "bare_newline": test_bare_newline,
    "use_xclient": test_use_xclient,
    "use_xforward": test_use_xforward,
    "use_proxy": test_use_proxy,
    "disable_reverse_lookup": test_disable_reverse_lookup,
    "resolver": test_resolver,
    "lenient_address_parsing": test_lenient_address_parsing,
    "key": test_key_and_cert,
    "cert": test_key_and_cert,
    "ca": test_ca,
    "passphrase": test_passphrase,
    "request_cert": test_request_cert,
    "reject_unauthorized": test_reject_unauthorized,
    "min_version": test_min_version,
    "max_version": test_max_version,
    "ciphers": test_ciphers,
    "honor_cipher_order": test_honor_cipher_order,
    "session_id_context": test_session_id_context,
    "sni_options": test_sni_options,
    "logger": test_logger,
    "callback_context": test_callback_context,
    **dict.fromkeys(NOTED, test_callbacks),
}


def test_every_option_has_a_test_of_its_effect() -> None:
    assert set(EFFECTS) == {row.name for row in dataclasses.fields(Options)}
