"""IncomingMessage: what is most often wanted of a message, also of a malformed one."""

from __future__ import annotations

from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    message = received(b"Subject: Deep\r\n" + content)
    with pytest.raises(SMTPError) as refused:
        _ = message.attachments
    assert refused.value.response_code == 554
    assert message.subject == "Deep"
    assert "'Deep'" in repr(message)


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


def all_text_of(message: IncomingMessage) -> list[str]:
    """Every text that a message gives."""
    texts = [message.subject, repr(message), message.text, message.html, *message.links]
    for each in message.attachments:
        texts += [each.filename, each.content_type, each.content_id, repr(each)]
    texts += [f"{name}: {value}" for part in message.email.walk() for name, value in part.items()]
    return [text for text in texts if text is not None]


# Where a parser of the standard library fails, or what it gives cannot be encoded.
NASTY = [
    b"=?utf-7?Q?+2AA-?=",
    b"=?unicode_escape?Q?=5Cud800?=",
    b"=?undefined?Q?a?= =?punycode?Q?a-=FF?= =?hex?b?!?=",
    b"caf\xe9 \xc3\x9cBER \xed\xa0\x80",
    b"attachment; filename*",
    b"attachment; filename*=",
    b"attachment; filename*=utf-7''a+2AA-b",
    b"attachment; filename*=utf-8''a%0D%0Ab",
    b"attachment; filename*=x%00''a; filename=\"=?utf-7?Q?+2AA-?=\"",
    b"attachment; filename*0*=x\x00''+2AA-; name*=utf-7''+2AA-",
    b"inline; filename=\"a\\\"; filename*=utf-7''+2AA-",
    b"text/plain; charset*=x\x00''y; name=\"=?utf-7?Q?+2AA-?=\"",
    b"text/html; charset=utf-7",
    b"multipart/mixed; boundary*=utf-8''%C3%9C",
    b"multipart/mixed; boundary*=x\x00''a; charset*=utf-7''+2AA-",
    b"message/rfc822",
    b"(" * 1500,
    b"a" * 5000 + b"; " * 20_000,
]
BODY = b'\r\n+2AA- \xff <a href="http://a.example/+2AA-&#xd800;">1</a>\r\n--\xc3\x9c\r\n\r\nx\r\n'


@pytest.mark.parametrize("value", NASTY)
@pytest.mark.parametrize(
    "name", [b"Subject", b"Content-Type", b"Content-Disposition", b"Content-ID", b"X-\xff"]
)
def test_a_hostile_header(name: bytes, value: bytes) -> None:
    header = name + b": " + value + b"\r\n"
    for content in (header + BODY, b"Content-Type: message/rfc822\r\n\r\n" + header + BODY):
        for text in all_text_of(received(content)):
            text.encode()


headers = st.lists(
    st.tuples(
        st.sampled_from([b"Subject", b"Content-Type", b"Content-Disposition", b"Content-ID"]),
        st.lists(
            st.sampled_from(
                [*NASTY, *(bytes([each]) for each in b"\0\x0b\x0c ;=*'\"\\()<>@[]:,/%\xff")]
            ),
            max_size=4,
        ),
    ),
    max_size=3,
)


@given(headers, headers)
def test_hostile_headers(
    outer: list[tuple[bytes, list[bytes]]], inner: list[tuple[bytes, list[bytes]]]
) -> None:
    content = b"Content-Type: message/rfc822\r\n\r\n"
    for part in (outer, inner):
        lines = (name + b": " + b"".join(value) + b"\r\n" for name, value in part)
        content = b"".join(lines) + content
    for text in all_text_of(received(content + BODY)):
        text.encode()


def test_what_cannot_be_parsed_is_given_as_it_came() -> None:
    message = received(
        b"Subject: =?utf-7?Q?+2AA-?= \xc3\x9c\r\nContent-Type: text/x; charset*=\r\n"
        b"Content-Disposition: attachment; filename*=utf-7''a+2AA-b\r\n\r\n"
    )
    assert message.subject == "=?utf-7?Q?+2AA-?= Ü"
    (attachment,) = message.attachments
    assert (attachment.content_type, attachment.filename) == ("text/x", "a\ufffdb")


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Type: " + b"(a)" * 100_000,
        b"Content-Disposition: attachment" + b";" * 3_000_000,
        b"Subject: " + b"a " * 2_000_000,
    ],
    ids=["Content-Type", "Content-Disposition", "Subject"],
)
def test_a_long_header(header: bytes) -> None:
    """The parser of the standard library takes hours for it."""
    assert all_text_of(received(header + b"\r\n\r\n"))


def test_a_charset_that_is_none() -> None:
    """Python takes hours to decode it."""
    header = b"Content-Type: text/plain; charset=PunyCode\r\n\r\n"
    assert received(header + b"bcd" * 3_000_000).text == "bcd" * 3_000_000


def test_a_character_by_a_number_of_thousands_of_digits() -> None:
    link = f"http://a.example/&#{'9' * 5000};"
    message = received(f"Content-Type: text/html\r\n\r\n<a href='{link}'>1</a>".encode())
    assert message.links == [link]


def test_a_message_in_the_message_stays_as_it_came() -> None:
    inner = (
        b"X-Long: " + b"long " * 50 + b"\r\nX-Control: a\x0cb\x1cc\r\nX-Eight: \xff\r\n"
        b"Content-Type: multipart/mixed\r\n\r\nno boundary, but \xff\r\n"
    )
    message = received(b"Content-Type: message/rfc822\r\n\r\n" + inner)
    assert [each.content for each in message.attachments] == [inner]
