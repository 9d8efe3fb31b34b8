"""Octets in clear that would be heard as if said in TLS, and what is no TLS where TLS should be.

CVE-2011-0411 (Postfix), CVE-2011-1431 (netqmail), CVE-2021-38542 and CVE-2022-28220 (Apache James),
CVE-2024-34083 = GHSA-wgjv-9j3q-jhg8 (aiosmtpd); CERT/CC VU#555316. Someone between client and
server adds a command to STARTTLS; the server had it in its buffer, and ran it when TLS was there:
mail or a password of the client's went to an account of the attacker's. (CVE-2021-38371, Exim, is
the same fault in a client that sends: responses instead of commands.)

Here octets that came with STARTTLS end the connection before its reply; octets that come after it
go to OpenSSL, for which they are no handshake. Nothing that was said in clear is known in TLS.
"""

from __future__ import annotations

import base64
import logging
import socket
import ssl
from typing import Any

import pytest

from blocksmtp import SMTPServer, SMTPSession
from tests.certificates import Leaf
from tests.client import connect, trusting, wait_until_idle
from tests.memory import at, octets, whole
from tests.protocol.bench import GivenCallbacks

from .talk import Heard, Talk, memory_log

PLAIN = base64.b64encode(b"\0mallory\0secret").decode()


def next_client_is_served(server: SMTPServer, *, secure: bool = False) -> None:
    with connect(server, tls=trusting() if secure else None) as client:
        client.hello()
        if not secure:
            client.upgrade()
            client.expect(250, "EHLO client.example")
        client.envelope()


# --- together with STARTTLS ---------------------------------------------------------------------

INJECTED = {
    "whole command": b"MAIL FROM:<evil@attacker.example>\r\n",
    "envelope": b"EHLO e\r\nMAIL FROM:<e@x>\r\nRCPT TO:<v@y>\r\nDATA\r\n",
    "half a command": b"RCP",
    "one octet": b"M",
    "AUTH": f"EHLO e\r\nAUTH PLAIN {PLAIN}\r\n".encode(),
    "AUTH that goes on": b"EHLO e\r\nAUTH LOGIN\r\n",
    "XCLIENT": b"XCLIENT ADDR=192.0.2.1 LOGIN=root\r\n",
    "XFORWARD": b"XFORWARD ADDR=192.0.2.1\r\n",
    "QUIT": b"QUIT\r\n",
    "STARTTLS again": b"STARTTLS\r\n",
    "CRLF": b"\r\n",
    "CR": b"\r",
    "LF": b"\n",
    "NUL": b"\0",
    "the beginning of a handshake": b"\x16\x03\x01\x02\x00\x01",
}
injected = pytest.mark.parametrize("octets_in_clear", INJECTED.values(), ids=INJECTED)
TRUSTING: dict[str, Any] = {
    "allow_insecure_auth": True,
    "use_xclient": True,
    "use_xforward": True,
    "max_bad_commands": None,
}


@injected
def test_what_comes_with_starttls_ends_the_connection(octets_in_clear: bytes) -> None:
    """No reply to STARTTLS either: who waits for one is not left to believe in TLS."""
    with memory_log() as log:
        talk = Talk(b"EHLO client.example\r\n", b"STARTTLS\r\n" + octets_in_clear, **TRUSTING)
    assert talk.codes == [220, 250]
    assert (talk.handshakes, talk.closed_by_server) == (0, True)
    assert log.at_least(logging.INFO) == ["octets follow STARTTLS in clear: connection closed"]


@pytest.mark.parametrize(
    "ahead", [b"", b"NOOP\r\n", b"EHLO client.example\r\n", b"RSET\r\nNOOP\r\n"]
)
def test_a_pipelined_group_that_starttls_does_not_end(ahead: bytes) -> None:
    """STARTTLS must be the last of its group (RFC 3207, section 4.1); before it anything may be."""
    for behind, handshakes in ((b"", 1), (b"EHLO x\r\n", 0)):
        talk = Talk(ahead + b"STARTTLS\r\n" + behind, b"EHLO inside.example\r\n", **TRUSTING)
        assert talk.handshakes == handshakes
        assert talk.codes == [220, *[250] * ahead.count(b"\n"), *[220, 250] * handshakes]
        heard = talk.session.host_name_appears_as == "inside.example"
        assert heard is bool(handshakes)


@pytest.mark.parametrize("cut", [whole, octets, at(3)], ids=["whole", "octets", "in two"])
def test_starttls_in_pieces_is_starttls(cut: Any) -> None:
    talk = Talk(b"EHLO a\r\n", b"STARTTLS\r\n", b"EHLO b\r\n", cut=cut)
    assert (talk.codes, talk.handshakes) == ([220, 250, 220, 250], 1)


@pytest.mark.parametrize(
    "line", ["STARTTLS x", "STARTTLS\tx", "STARTTLSX", "STARTTLS\0", "\0STARTTLS"]
)
def test_a_starttls_that_is_none_is_followed_by_commands_in_clear(line: str) -> None:
    talk = Talk(f"EHLO a\r\n{line}\r\nNOOP\r\n".encode())
    assert talk.codes[2] in (500, 501)
    assert talk.codes[3] == 250
    assert not talk.session.secure


@injected
def test_what_comes_with_starttls_on_the_wire(leaf: Leaf, octets_in_clear: bytes) -> None:
    heard = Heard(leaf, **TRUSTING)
    with heard.serving() as server:
        with connect(server) as client:
            client.hello()
            client.send(b"STARTTLS\r\n" + octets_in_clear)
            assert client.rest() == b""
        wait_until_idle(server)
    assert heard.calls == ["on_connect", "on_close"]
    assert heard.about() == ["octets follow STARTTLS in clear: connection closed"]


@injected
def test_what_comes_after_starttls_goes_to_openssl(leaf: Leaf, octets_in_clear: bytes) -> None:
    """In a packet of its own, in front of the client's handshake."""
    heard = Heard(leaf, **TRUSTING)
    with heard.serving() as server:
        server.on("error", heard.errors.append)
        with connect(server) as client:
            client.hello()
            client.expect(220, "STARTTLS")
            client.send(octets_in_clear + client_hello())
            said = client.rest()
        wait_until_idle(server)
        assert heard.calls == ["on_connect", "on_close"]
        next_client_is_served(server)
    assert heard.errors == []
    # An alert of TLS at the most: no reply.
    assert said[:1] in (b"", b"\x15")
    assert b"250" not in said
    (record,) = heard.about()
    assert record.startswith("TLS handshake failed: ")


def client_hello() -> bytes:
    """The first octets of a handshake that would be accepted."""
    outgoing = ssl.MemoryBIO()
    handshake = trusting().wrap_bio(ssl.MemoryBIO(), outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        handshake.do_handshake()
    return outgoing.read()


def test_that_handshake_alone_would_be_accepted(leaf: Leaf) -> None:
    with Heard(leaf).serving() as server, connect(server) as client:
        client.hello()
        client.expect(220, "STARTTLS")
        client.send(client_hello())
        assert client.sock.recv(1) == b"\x16"


# --- what was said in clear ---------------------------------------------------------------------

SAID_IN_CLEAR = {
    "nothing": [],
    "HELO": ["HELO clear.example"],
    "EHLO": ["EHLO clear.example"],
    "AUTH": ["EHLO clear.example", f"AUTH PLAIN {PLAIN}"],
    "half of AUTH": ["EHLO clear.example", "AUTH LOGIN", "bWFsbG9yeQ=="],
    "MAIL": ["EHLO clear.example", f"AUTH PLAIN {PLAIN}", "MAIL FROM:<e@clear.example> SIZE=9"],
    "RCPT": [
        *("EHLO clear.example", f"AUTH PLAIN {PLAIN}", "MAIL FROM:<e@clear.example> SMTPUTF8"),
        "RCPT TO:<v@server.example>",
    ],
    "XFORWARD": ["EHLO clear.example", "XFORWARD ADDR=192.0.2.66 HELO=clear.example"],
    "XFORWARD and MAIL": [
        *("EHLO clear.example", f"AUTH PLAIN {PLAIN}", "XFORWARD ADDR=192.0.2.66"),
        "MAIL FROM:<e@clear.example>",
    ],
}


@pytest.mark.parametrize("lines", SAID_IN_CLEAR.values(), ids=SAID_IN_CLEAR)
def test_nothing_said_in_clear_is_known_in_tls(leaf: Leaf, lines: list[str]) -> None:
    """RFC 3207, section 4.2. XCLIENT stays: it is about the connection, as a PROXY header is."""
    heard = Heard(leaf, auth_optional=False, **TRUSTING)
    with heard.serving() as server, connect(server) as client:
        assert client.reply().code == 220
        for line in lines:
            assert client.command(line).code in (250, 235, 334), line
        if "AUTH LOGIN" in lines:
            client.expect(501, "STARTTLS")  # which is no response to the challenge
        client.upgrade()
        (session,) = server.connections
        client.expect(503, "MAIL FROM:<a@client.example>")
        assert (session.opening_command, session.host_name_appears_as) == (None, None)
        assert session.user is None
        assert session.envelope.mail_from is None
        assert (session.envelope.rcpt_to, session.envelope.smtp_utf8) == ([], False)
        assert session.x_forward == {}
        client.expect(503, "RCPT TO:<b@server.example>")
        client.expect(503, "DATA")
        client.expect(503, f"AUTH PLAIN {PLAIN}")
        client.expect(250, "EHLO client.example")
        # Who was authenticated in clear is not so in TLS.
        client.expect(530, "MAIL FROM:<a@client.example>")
        client.expect(235, f"AUTH PLAIN {PLAIN}")
        client.envelope()


def test_refused_credentials_are_not_forgotten(leaf: Leaf) -> None:
    """STARTTLS gives nobody more guesses: the limits are those of the connection."""
    heard = Heard(leaf, on_auth=lambda auth, session: None, allow_insecure_auth=True)
    with heard.serving() as server, connect(server) as client:
        client.hello()
        client.expect(535, f"AUTH PLAIN {PLAIN}")
        client.expect(535, f"AUTH PLAIN {PLAIN}")
        client.upgrade()
        client.expect(250, "EHLO client.example")
        client.expect(421, f"AUTH PLAIN {PLAIN}")


def test_no_password_is_taken_in_clear() -> None:
    """AUTH is not offered there, so that no client sends one, and refused to one that does."""
    asked: list[object] = []
    callbacks = GivenCallbacks(on_auth=lambda auth, session: asked.append(auth))
    methods = ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"]
    lines = [f"AUTH {method}\r\n".encode() for method in methods]
    lines.append(f"AUTH PLAIN {PLAIN}\r\n".encode())
    talk = Talk(b"EHLO a\r\n", *lines, auth_methods=methods, callbacks=callbacks)
    assert talk.codes[2:] == [538] * len(lines)
    assert b"AUTH" not in talk.turns[1]
    assert asked == []


# --- what is no TLS -----------------------------------------------------------------------------

NO_TLS = {
    "SMTP": b"EHLO client.example\r\nMAIL FROM:<a@client.example>\r\n",
    "HTTP": b"GET / HTTP/1.1\r\nHost: mx.example\r\n\r\n",
    "SSLv2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"\x07\x00\xc0" * 7 + b"x" * 16,
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "application data": b"\x17\x03\x03\x00\x05hello",
    "a record without end": b"\x16\x03\x01\xff\xff" + b"x" * 64,
    "an empty record": b"\x16\x03\x01\x00\x00" * 40,
    "no ClientHello": b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
    "a ClientHello of nothing": b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
    "a handshake that ends": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 99,
    "nothing": b"",
    "a single octet": b"\x16",
    "PROXY": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
}


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "STARTTLS"])
@pytest.mark.parametrize("garbage", NO_TLS.values(), ids=NO_TLS)
def test_what_is_no_tls_ends_quietly(leaf: Leaf, garbage: bytes, implicit: bool) -> None:
    """No reply in clear, one line in the log, no traceback, and the next client is served."""
    heard = Heard(leaf)
    with heard.serving(secure=implicit) as server:
        server.on("error", heard.errors.append)
        with connect(server) as client:
            if not implicit:
                client.hello()
                client.expect(220, "STARTTLS")
            client.send(garbage)
            # The rest never comes.
            client.sock.shutdown(socket.SHUT_WR)
            said = client.rest()
        wait_until_idle(server)
        # On a port of its own, there was no client before the handshake.
        assert heard.calls == ([] if implicit else ["on_connect", "on_close"])
        (record,) = heard.about()
        assert record.startswith("TLS handshake failed: ")
        assert all(each.exc_info is None for each in heard.log.records)
        next_client_is_served(server, secure=implicit)
    assert heard.errors == []
    assert said[:1] in (b"", b"\x15"), said


def test_a_session_is_in_clear_until_the_handshake_is_done(leaf: Leaf) -> None:
    seen: list[bool] = []

    def on_secure(connection: object, session: SMTPSession) -> None:
        seen.append(session.secure)

    heard = Heard(leaf, on_secure=on_secure)
    with heard.serving() as server, connect(server) as client:
        client.hello()
        client.expect(220, "STARTTLS")
        assert not server.connections[0].secure
        client.start_tls()
        client.expect(250, "EHLO client.example")
        assert seen == [True]
