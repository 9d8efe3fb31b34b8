r"""What a client puts into a command, found again as something else elsewhere.

CVE-2020-7247 (OpenSMTPD): a sender that was no address reached a shell. CVE-2019-10149 (Exim): a
recipient was expanded as an expression. CVE-2020-28021 and CVE-2020-28026 (Exim): a line end in the
xtext of AUTH= and ORCPT= began a line of its own in the file that the message waited in.
CVE-2019-15846 (Exim): a host name in the TLS handshake that ended in a backslash. CWE-93 and
CWE-117: line ends in replies, headers and logs.

Here no control character gets from a command to the application: not in an address, a parameter, a
name, decoded or not. Addresses are addresses: what RFC 5321 allows in one comes as it is, shell
metacharacters too, so that an application must quote what it hands to a shell, and nothing else
comes at all. Replies, log records and the `Received` header hold one line whatever is put into
them, by the client or by the application.
"""

from __future__ import annotations

import base64
import contextlib
import email
import email.policy
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from OpenSSL import SSL

from blocksmtp import DataStream, SMTPSession
from blocksmtp.text import has_control_characters
from tests.certificates import Leaf
from tests.client import TIMEOUT, wait_until_idle
from tests.protocol.bench import Bench, GivenCallbacks

from .talk import Heard, Log, Talk, memory_log

NASTY = {
    "CR": b"\r",
    "LF": b"\n",
    "CRLF": b"\r\n",
    "CRLF and a header": b"\r\nX-Forged: yes",
    "CRLF and a reply": b"\r\n250 forged",
    "NUL": b"\0",
    "TAB": b"\t",
    "VT": b"\x0b",
    "ESC": b"\x1b[2J",
    "DEL": b"\x7f",
    "C1": "\x85".encode(),
    "LS": "\u2028".encode(),
    "PS": "\u2029".encode(),
    "UTF-8": "é\u4f60".encode(),
    "bidi": "\u202e".encode(),
    "no UTF-8": b"\xff\xfe",
    "CR too long": b"\xc0\x8d",
    "half a surrogate": b"\xed\xa0\x80",
    "half a character": b"\xe2\x80",
    "long": b"x" * 3000,
    "quotes": b'"\\"',
    "brackets": b"<>()[]",
    "percent": b"%s%(session_id)s{0}",
    "separators": b" ;,: ",
    "a comment": b"(forged)by",
    "another date": b";Thu,01Jan1970",
}


def xtext(octets: bytes) -> bytes:
    return b"".join(b"+%02X" % octet for octet in octets)


def embedded(octets: bytes) -> bytes:
    return b"".join(b"\\x{%02X}" % octet for octet in octets)


def b64(octets: bytes) -> bytes:
    return base64.b64encode(octets)


# Where a client can put octets of its own: the lines, with CRLF still to be added.
PLACES: dict[str, Callable[[bytes], list[bytes]]] = {
    "HELO": lambda nasty: [b"HELO a" + nasty + b"b"],
    "EHLO": lambda nasty: [b"EHLO " + nasty],
    "literal in EHLO": lambda nasty: [b"EHLO [" + nasty + b"]"],
    "verb": lambda nasty: [nasty, b"X" + nasty + b" y", b"NOOP" + nasty],
    "NOOP, HELP, VRFY": lambda nasty: [b"NOOP " + nasty, b"HELP " + nasty, b"VRFY " + nasty],
    "RSET": lambda nasty: [b"RSET " + nasty],
    "local part": lambda nasty: [b"MAIL FROM:<a" + nasty + b"b@c.example>"],
    "UTF-8 local part": lambda nasty: [b"MAIL FROM:<a" + nasty + b"b@c.example> SMTPUTF8"],
    "quoted": lambda nasty: [b'MAIL FROM:<"a' + nasty + b'b"@c.example> SMTPUTF8'],
    "quoted pair": lambda nasty: [b'MAIL FROM:<"a\\' + nasty + b'b"@c.example>'],
    "domain": lambda nasty: [b"MAIL FROM:<a@b" + nasty + b"c.example> SMTPUTF8"],
    "literal": lambda nasty: [b"MAIL FROM:<a@[x:" + nasty + b"]>"],
    "route": lambda nasty: [b"MAIL FROM:<@" + nasty + b":a@c.example>"],
    "behind the path": lambda nasty: [b"MAIL FROM:<a@c.example>" + nasty],
    "keyword": lambda nasty: [b"MAIL FROM:<a@c.example> X" + nasty + b"=1"],
    "value": lambda nasty: [b"MAIL FROM:<a@c.example> SMTPUTF8 X=1" + nasty],
    "hex value": lambda nasty: [b"MAIL FROM:<a@c.example> X=1" + xtext(nasty)],
    "ENVID": lambda nasty: [b"MAIL FROM:<a@c.example> ENVID=1" + xtext(nasty[:30])],
    "AUTH=": lambda nasty: [b"MAIL FROM:<a@c.example> AUTH=a" + xtext(nasty)],
    "RCPT": lambda nasty: [b"MAIL FROM:<> SMTPUTF8", b"RCPT TO:<a" + nasty + b"b@c.example>"],
    "postmaster": lambda nasty: [b"MAIL FROM:<>", b"RCPT TO:<postmaster" + nasty + b">"],
    "ORCPT": lambda nasty: [
        b"MAIL FROM:<>",
        b"RCPT TO:<b@c.example> ORCPT=rfc822;a" + xtext(nasty[:100]),
    ],
    "UTF-8 ORCPT": lambda nasty: [
        b"MAIL FROM:<> SMTPUTF8",
        b"RCPT TO:<b@c.example> ORCPT=utf-8;a" + nasty[:100],
    ],
    "embedded in ORCPT": lambda nasty: [
        b"MAIL FROM:<>",
        b"RCPT TO:<b@c.example> ORCPT=utf-8;" + embedded(nasty[:50]),
    ],
    "mechanism": lambda nasty: [b"AUTH " + nasty, b"AUTH PLAIN" + nasty],
    "response": lambda nasty: [b"AUTH PLAIN", nasty],
    "PLAIN": lambda nasty: [b"AUTH PLAIN " + b64(b"\0a" + nasty + b"\0pass")],
    "authzid": lambda nasty: [b"AUTH PLAIN " + b64(nasty + b"\0a\0pass")],
    "LOGIN": lambda nasty: [b"AUTH LOGIN " + b64(b"a" + nasty), b64(b"pass")],
    "CRAM-MD5": lambda nasty: [b"AUTH CRAM-MD5", b64(b"a" + nasty + b" " + b"0" * 32)],
    "XOAUTH2": lambda nasty: [b"AUTH XOAUTH2 " + b64(b"user=a%s\1auth=Bearer t\1\1" % nasty)],
    "XCLIENT": lambda nasty: [b"XCLIENT HELO=a" + nasty, b"EHLO a"],
    "xtext of XCLIENT": lambda nasty: [b"XCLIENT HELO=a" + xtext(nasty), b"EHLO a"],
    "name of XCLIENT": lambda nasty: [b"XCLIENT NAME=a" + xtext(nasty), b"EHLO a"],
    "login of XCLIENT": lambda nasty: [b"XCLIENT LOGIN=a" + xtext(nasty), b"EHLO a"],
    "xtext of XFORWARD": lambda nasty: [b"XFORWARD IDENT=a" + xtext(nasty[:80])],
}


class Application:
    """Notes every text that it is given, but for passwords, and accepts everything."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.headers: list[bytes] = []

    def note(self, first: Any, session: SMTPSession | None = None) -> None:
        self.texts.extend(texts_in(first))
        if session is not None:
            self.texts.extend(texts_in(session))

    def on_auth(self, auth: Any, session: SMTPSession) -> str:
        self.note([auth.username, getattr(auth, "authzid", ""), getattr(auth, "authcid", "")])
        return "user"

    def on_data(self, stream: DataStream, session: SMTPSession) -> None:
        self.note(session)
        self.headers.append(session.received_header())

    @property
    def callbacks(self) -> GivenCallbacks:
        return GivenCallbacks(
            on_connect=self.note,
            on_auth=self.on_auth,
            on_mail_from=self.note,
            on_rcpt_to=self.note,
            on_data=self.on_data,
            on_close=self.note,
        )


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a value, and in what it consists of."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts_in([*value.keys(), *value.values()])
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from texts_in(each)
    elif is_dataclass(value):
        yield from texts_in([getattr(value, row.name) for row in fields(value)])


_TOKEN = r"[A-Za-z0-9._:\[\]?-]+"
_HEADER = re.compile(
    rf"Received: from {_TOKEN}\r\n"
    rf"(\t\(({_TOKEN} )?\[{_TOKEN}\]\)\r\n)?"
    r"\tby mx\.example\r\n"
    r"\twith E?SMTPSA? id memory-1"
    r"(\r\n\tfor <[ -~]+>)?;\r\n"
    r"\t\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}\r\n"
)


def check_one_header(octets: bytes) -> None:
    """Exactly one header, whose words mean what they should (RFC 5321, section 4.4)."""
    message = email.message_from_bytes(octets + b"\r\n", policy=email.policy.SMTP)
    assert message.keys() == ["Received"]
    assert not message.defects
    assert message.get_payload() == ""
    assert _HEADER.fullmatch(octets.decode("ascii")), octets
    assert max(map(len, octets.split(b"\r\n"))) <= 998


def check_records(log: Log) -> None:
    """One line of printable ASCII each."""
    assert log.shown
    for shown in log.shown:
        assert shown.isascii()
        assert shown.isprintable(), shown


# Where lenient parsing makes a difference.
PATHS = ("local part", "UTF-8 local part", "quoted", "domain", "behind the path", "RCPT")
STRICTLY_OR_NOT = [*((place, False) for place in PLACES), *((place, True) for place in PATHS)]


@pytest.mark.parametrize(("place", "lenient"), STRICTLY_OR_NOT)
def test_nothing_breaks_out_of_its_place(place: str, lenient: bool) -> None:
    """Into a reply, a record of the log, the trace header, or the application."""
    for nasty in NASTY.values():
        application = Application()
        lines = PLACES[place](nasty)
        with memory_log() as log:
            talk = Talk(
                b"EHLO client.example\r\n",
                *(line + b"\r\n" for line in lines),
                b"RSET\r\n" if b"RCPT" not in lines[-1] else b"NOOP\r\n",
                b"MAIL FROM:<a@client.example>\r\n",
                b"RCPT TO:<b@server.example>\r\n",
                b"DATA\r\n",
                b"text " + nasty + b"\r\n.\r\nNOOP\r\nQUIT\r\n",
                callbacks=application.callbacks,
                secure=True,
                use_xclient=True,
                use_xforward=True,
                auth_methods=["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"],
                max_auth_failures=None,
                lenient_address_parsing=lenient,
            )
        assert talk.codes[-3:] == [250, 250, 221], nasty
        assert talk.defects == []
        check_records(log)
        assert len(application.headers) == 1
        check_one_header(application.headers[0])
        for text in application.texts:
            assert not has_control_characters(text), (nasty, text)
            text.encode()  # no half of a surrogate either
            # Decoded or not, no second line, and no header of it.
            assert len(text.splitlines()) <= 1


# Where there is nothing for the application, or a word cannot be at all.
EMPTY = {
    *("NOOP, HELP, VRFY", "RSET", "verb", "route", "behind the path", "postmaster"),
    *("mechanism", "response"),
}


@pytest.mark.parametrize("place", [place for place in PLACES if place not in EMPTY])
def test_what_is_harmless_arrives(place: str) -> None:
    """So that the test above does not hold only because nothing gets there."""
    application = Application()
    talk = Talk(
        b"EHLO client.example\r\n",
        *(line + b"\r\n" for line in PLACES[place](b"harmless")),
        callbacks=application.callbacks,
        secure=True,
        use_xclient=True,
        use_xforward=True,
        auth_methods=["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"],
    )
    assert not any(code >= 400 for code in talk.codes), talk.answers
    assert any("harmless" in text.lower() for text in application.texts)


# --- addresses ----------------------------------------------------------------------------------

ADDRESSES = {
    # CVE-2020-7247 and CVE-2019-10149, as they were exploited.
    ";for i in 0 1 2 3;do read r;done;sh;exit 0;": None,
    ";sh;@c": None,
    r"${run{\x2Fbin\x2Fsh\t-c\tid}}@localhost": None,
    # A shell's own characters, where no address may have them...
    "$(id)@c": None,
    "a;id@c": None,
    "a b@c": None,
    "a<b@c": None,
    "a>b@c": None,
    "a\\@c": None,
    "a@c;id": None,
    "a@$(id)": None,
    "a@`id`": None,
    "a@c|id": None,
    "a@c&id": None,
    "a@../../etc": None,
    "a@-oProxyCommand": None,
    "": "",
    # ... and where one may: they come as they are.
    "`id`@c": "`id`@c",
    "a|id@c": "a|id@c",
    "a&id@c": "a&id@c",
    "${run}@localhost": "${run}@localhost",
    "../../etc/passwd@c": None,
    "/etc/passwd@c": "/etc/passwd@c",
    "|/bin/sh@c": "|/bin/sh@c",
    "-oQ/tmp@c": "-oQ/tmp@c",
    "*@c": "*@c",
    "'a'@c": "'a'@c",
    '"$(id)"@c': '"$(id)"@c',
    '";sh;"@c': '";sh;"@c',
    '"|/bin/sh"@c': "|/bin/sh@c",
    '"a\\"; b"@c': '"a\\"; b"@c',
}


@pytest.mark.parametrize(("path", "expected"), ADDRESSES.items())
def test_addresses_are_addresses(path: str, expected: str | None) -> None:
    """An application that hands one to a shell, or makes a file name of it, must quote it."""
    bench = Bench()
    (_, code) = bench.codes("EHLO a", f"MAIL FROM:<{path}>")
    sender = bench.session.envelope.mail_from
    assert code == (501 if expected is None else 250)
    assert (sender.address if sender else None) == expected


# What only lenient parsing takes: dots where none belong.
LENIENTLY = {"../../etc/passwd@c", "a@../../etc"}


@pytest.mark.parametrize("path", ADDRESSES)
def test_lenient_parsing_opens_no_shell_either(path: str) -> None:
    """It takes dots anywhere and missing brackets, and no other character more."""
    for argument in (f"<{path}>", path):
        bench = Bench(lenient_address_parsing=True)
        bench.codes("EHLO a", f"MAIL FROM:{argument}")
        sender = bench.session.envelope.mail_from
        if sender is not None and path not in LENIENTLY:
            assert sender.address == ADDRESSES[path]


NO_HOST_NAMES = [b"a\\", b"a\r\nb", b"a b", b"\x1b", b"\xff", b"\xc3\xa9", b"x" * 255, b"-", b"a/b"]


@pytest.mark.parametrize("name", NO_HOST_NAMES)
def test_a_host_name_of_the_handshake_is_a_host_name(leaf: Leaf, name: bytes) -> None:
    """SNI is what the client says as much as HELO is."""
    heard = Heard(leaf)
    seen: list[str | None] = []
    options = {"on_connect": lambda session: seen.append(session.servername)}
    with heard.serving(secure=True, **options) as server:
        with socket.create_connection(("127.0.0.1", server.port or 0), TIMEOUT) as sock:
            sock.setblocking(True)
            client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), sock)
            client.set_tlsext_host_name(name)
            client.set_connect_state()
            with contextlib.suppress(SSL.Error):
                client.do_handshake()
                assert client.recv(4) == b"220 "
                client.shutdown()
        wait_until_idle(server)
    assert seen in ([None], [])
    check_records(heard.log)
