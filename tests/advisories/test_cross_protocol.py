"""A web browser that is led to speak to a mail server.

CVE-2021-3618 (sendmail among others; "ALPACA"): somebody on the way leads a connection to a server
of another kind that shows the same certificate. To the browser the mail server's replies are an
answer of the web site's, and what they repeat of the request is run in its name; the body of the
request may hold a mail transaction.

Here an HTTP request ends the connection, at once, and no reply repeats what the client sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.certificates import Leaf
from tests.client import Client, connect, trusting, wait_until_idle
from tests.memory import octets, whole

from .talk import Heard, Talk, codes

REQUESTS = [
    *(
        "GET / HTTP/1.1",
        "POST /?x HTTP/1.0",
        "OPTIONS * HTTP/1.1",
        "CONNECT mx.example:25 HTTP/1.1",
    ),
    *("get / http/1.1", "PRI * HTTP/2.0", "PROPFIND /\\x HTTP/1.1", "GET http://a/ HTTP/1.1"),
    *("RCPT / HTTP/1.1", "M-SEARCH * HTTP/1.1", "X_1! / HTTP/1.1"),
]
BEHIND = (
    b"Host: mx.example\r\nContent-Length: 99\r\n\r\nEHLO e\r\nMAIL FROM:<e@attacker.example>\r\n"
    b"RCPT TO:<v@server.example>\r\nDATA\r\nforged\r\n.\r\n"
)


@pytest.fixture(params=["clear", "TLS"])
def client(request: pytest.FixtureRequest, leaf: Leaf) -> Iterator[tuple[Client, Heard]]:
    heard = Heard(leaf)
    secure = request.param == "TLS"
    with heard.serving(secure=secure) as server:
        with connect(server, tls=trusting() if secure else None) as client:
            assert client.reply().code == 220
            yield client, heard
        wait_until_idle(server)


@pytest.mark.parametrize("request_line", REQUESTS)
def test_an_http_request_ends_the_connection(
    client: tuple[Client, Heard], request_line: str
) -> None:
    """At once: its body may hold a whole transaction."""
    speaker, heard = client
    speaker.send(request_line.encode() + b"\r\n" + BEHIND)
    assert codes(speaker.rest()) == [421]
    assert set(heard.calls) <= {"on_connect", "on_secure", "on_close"}


@pytest.mark.parametrize("request_line", REQUESTS[:2])
@pytest.mark.parametrize("ahead", ["\r\n", "EHLO a\r\n", "EHLO a\r\nAUTH LOGIN\r\n*\r\n"], ids=repr)
def test_an_http_request_later_ends_it_too(request_line: str, ahead: str) -> None:
    talk = Talk(ahead.encode() + request_line.encode() + b"\r\n" + BEHIND, secure=True)
    assert talk.codes[-1] == 421
    assert talk.closed_by_server
    assert talk.session.envelope.mail_from is None


@pytest.mark.parametrize("length", [4_000, 4_090, 5_000, 100_000])
def test_an_http_request_of_any_length_ends_the_connection(length: int) -> None:
    """Also one whose first line is too long to be read as one."""
    request_line = b"POST /" + b"x" * length + b" HTTP/1.1\r\n"
    for cut in (whole, octets) if length < 10_000 else (whole,):
        talk = Talk(request_line + BEHIND, max_bad_commands=10, cut=cut)
        assert talk.session.envelope.mail_from is None
        assert talk.session.opening_command is None
        assert talk.closed_by_server
        assert talk.codes == [220, 421]


MARKUP = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    "line",
    [
        *(MARKUP, f"GET /{MARKUP}", f"EHLO {MARKUP}", f"HELO {MARKUP}", f"MAIL FROM:{MARKUP}"),
        *(f"MAIL FROM:<{MARKUP}@a>", f"MAIL FROM:<a@b> {MARKUP}", f"MAIL FROM:<a@b> X={MARKUP}"),
        *(f"MAIL FROM:<a@b> SIZE={MARKUP}", f"VRFY {MARKUP}", f"HELP {MARKUP}", f"NOOP {MARKUP}"),
        *(
            f"AUTH {MARKUP}",
            f"AUTH PLAIN {MARKUP}",
            f"XCLIENT NAME={MARKUP}",
            f"XCLIENT {MARKUP}=x",
        ),
        *(f"XFORWARD IDENT={MARKUP}", f"RSET {MARKUP}", f"DATA {MARKUP}", f"QUIT {MARKUP}"),
    ],
)
@pytest.mark.parametrize("trusted", [False, True], ids=["stranger", "proxy"])
def test_no_reply_repeats_what_the_client_sent(line: str, trusted: bool) -> None:
    """A browser would run it in the name of the site that it believes to talk to."""
    lines = [f"{each}\r\n".encode() for each in ("EHLO a", line)]
    options: dict[str, Any] = {"use_xclient": trusted, "use_xforward": trusted}
    talk = Talk(*lines, allow_insecure_auth=True, **options)
    assert b"script" not in talk.answers
    assert len(talk.codes) == 3
