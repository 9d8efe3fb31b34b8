"""IncomingMessage: what is most often wanted of a message, also of a malformed one."""

from __future__ import annotations

from email.message import EmailMessage

import pytest

from blocksmtp import SMTPError
from blocksmtp.message import IncomingMessage
from blocksmtp.session import SMTPAddress, SMTPEnvelope, SMTPSession


def received(content: bytes | EmailMessage) -> IncomingMessage:
    envelope = SMTPEnvelope(SMTPAddress("ann@example.org"), [SMTPAddress("bob@example.org")])
    session = SMTPSession(id="x", server_name="mx", lmtp=False)
    octets = content if isinstance(content, bytes) else content.as_bytes()
    return IncomingMessage(octets, envelope, session)


def test_a_plain_message() -> None:
    message = received(b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nHi\r\nthere\r\n")
    assert message.subject == "Grüße"
    assert message.text == "Hi\nthere\n"
    assert message.html is None
    assert message.attachments == []
    assert message.links == []
    assert repr(message) == ("<IncomingMessage 'Grüße' from <ann@example.org> to bob@example.org>")


def test_text_html_and_attachments() -> None:
    letter = EmailMessage()
    letter.set_content("text\n")
    letter.add_alternative("<p>html</p>\n", subtype="html")
    letter.add_attachment(
        b"\x89PNG", maintype="image", subtype="png", filename="a.png", cid="<i@x>"
    )
    letter.add_attachment("notes\n", filename="notes.txt")
    inner = EmailMessage()
    inner["Subject"] = "inner"
    inner.set_content("inner text\n")
    letter.add_attachment(inner)
    message = received(letter)
    assert (message.text, message.html) == ("text\n", "<p>html</p>\n")
    image, notes, forwarded = message.attachments
    assert (image.filename, image.content_type) == ("a.png", "image/png")
    assert (image.content, image.content_id, image.inline) == (b"\x89PNG", "i@x", False)
    assert (notes.filename, notes.content) == ("notes.txt", b"notes\n")
    assert forwarded.content_type == "message/rfc822"
    assert b"Subject: inner" in forwarded.content


def test_html_alone() -> None:
    message = received(b"Content-Type: text/html; charset=latin-1\r\n\r\n<b>\xfc</b>")
    assert message.text is None
    assert message.html == "<b>ü</b>"


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("see http://a.example/x?y=1&z=2.", ["http://a.example/x?y=1&z=2"]),
        ("(https://a.example/(x)), https://b.example/!", ["https://a.example/(x)", "https://b.example/"]),
        ("<https://a.example> *HTTPS://B.example/*", ["https://a.example", "HTTPS://B.example/"]),
        ("http://a.example http://a.example", ["http://a.example"]),
        ("ftp://a.example mailto:a@b.example http://", []),
    ],
)  # fmt: skip
def test_links_in_text(text: str, links: list[str]) -> None:
    assert received(f"\r\n{text}\r\n".encode()).links == links


@pytest.mark.parametrize("tail", [".", ")", "()", ").", "(("])
def test_a_link_with_an_endless_tail(tail: str) -> None:
    """It takes no longer than it is long: in quadratic time this would be an hour."""
    (link,) = received(f"\r\nhttp://a.example/{tail * 1_000_000}x\r\n".encode()).links
    assert link.endswith("x")
    (link,) = received(f"\r\nhttp://a.example/x{tail * 1_000_000}\r\n".encode()).links
    assert link.startswith("http://a.example/x")


@pytest.mark.parametrize("piece", [b"<a ", b"<!--", b'<a href="', b"<a href ", b"<a \"'"])
def test_html_without_an_end(piece: bytes) -> None:
    """As above: a parser of HTML may take hours for it."""
    assert received(b"Content-Type: text/html\r\n\r\n" + piece * 300_000).links == []


@pytest.mark.parametrize(
    "content",
    [
        b"".join(
            b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (depth, depth)
            for depth in range(2000)
        ),
        b"Content-Type: message/rfc822\r\n\r\n" * 2000,
        b"Content-Type: message/rfc822\r\n\r\n" * 400,
    ],
    ids=["multipart", "message", "message-again"],
)
def test_what_is_nested_too_deeply_is_refused_for_good(content: bytes) -> None:
    with pytest.raises(SMTPError) as refused:
        _ = received(content).attachments
    assert refused.value.response_code == 554


def test_links_in_html() -> None:
    message = received(
        b"Content-Type: text/html\r\n\r\n"
        b'<a href="https://a.example/?x=1&amp;y=2">1</a><a href=" http://b.example ">2</a>'
        b'<a href="javascript:alert(1)">3</a><a>4</a><img src="http://c.example"><area href='
        b"http://d.example>"
    )
    assert message.links == ["https://a.example/?x=1&y=2", "http://b.example", "http://d.example"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"no header at all",
        b"Content-Type: multipart/mixed\r\n\r\nno boundary",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n",
        b"Content-Type: text/plain; charset=no-such\r\n\r\n\xff",
        b"Content-Type: text/plain; charset=\"utf-8\x00\"\r\n\r\n\xff",
        b"Content-Type: text/plain; charset*=utf-8'en'\xff\r\n\r\n\xff",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n%%%",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nbegin\r\n",
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ==\r\n",
        b"Content-Type: /\r\nSubject: =?x?q?=FF?=\r\nContent-ID:\r\n\r\n\xff",
        b"Content-Type: text/html\r\n\r\n<a href='http://[' <!-- <a href=http://\xff",
        b"Content-Disposition: attachment; filename*=x''%ff\r\n\r\n\xff",
    ],
)  # fmt: skip
def test_a_malformed_message_never_raises(content: bytes) -> None:
    message = received(content)
    assert isinstance(message.subject, str)
    assert isinstance(repr(message), str)
    assert isinstance(message.text, (str, type(None)))
    assert isinstance(message.html, (str, type(None)))
    assert isinstance(message.links, list)
    assert all(isinstance(each.content, bytes) for each in message.attachments)
