"""Clients that do nothing wrong, each of which must hear what becomes of its messages."""

from __future__ import annotations

import base64

from tests.client import Client

from .book import Page, Setting, message
from .server import FAILS, FULL, LARGEST, PASSWORD, REFUSED, USER

LISTENERS = ("plain", "plain", "unix", "proxied")


def deliver(
    client: Client,
    page: Page,
    *recipients: str,
    prefix: str = "",
    octets: int | None = None,
    code: int = 250,
) -> None:
    """One message, its envelope in one write; fails unless the reply has this code."""
    id = page.begin()
    recipients = recipients or ("b@server.example",)
    client.send_lines(
        f"MAIL FROM:<{prefix}{id}@client.example>",
        *(f"RCPT TO:<{recipient}>" for recipient in recipients),
        "DATA",
    )
    replies = client.replies(2 + len(recipients))
    assert replies[0].code == 250, replies
    accepted = [to for to, reply in zip(recipients, replies[1:], strict=False) if reply.code == 250]
    assert accepted == [to for to in recipients if not to.startswith(REFUSED)], replies
    if not accepted:
        assert replies[-1].code == 503, replies
        page.forget(id)
        return
    assert replies[-1].code == 354, replies
    page.ended(id)
    client.send(message(id, page.dice, octets))
    if page.kind != "lmtp":
        reply = client.reply()
        page.heard(id, reply.code)
        assert reply.code == code, reply
        return
    codes = [reply.code for reply in client.replies(len(accepted))]
    page.heard(id, *codes)
    assert codes == [452 if to.startswith(FULL) else 250 for to in accepted]


def leave(client: Client) -> None:
    """QUIT, and the end."""
    client.expect(221, "QUIT")
    assert client.rest() == b""


def one(setting: Setting, page: Page) -> None:
    """One message, each command by itself."""
    with setting.connect(page.dice.choice(LISTENERS)) as client:
        client.hello()
        id = page.begin()
        client.envelope(f"{id}@client.example", "b@server.example")
        client.expect(354, "DATA")
        page.ended(id)
        client.send(message(id, page.dice))
        reply = client.reply()
        page.heard(id, reply.code)
        assert reply.code == 250, reply
        leave(client)


def many(setting: Setting, page: Page) -> None:
    """Several messages, some after a RSET."""
    with setting.connect(page.dice.choice(LISTENERS)) as client:
        client.hello()
        for _ in range(page.dice.randrange(2, 6)):
            if page.dice.random() < 0.2:
                client.expect(250, "RSET")
            deliver(client, page, *["b@server.example"] * page.dice.randrange(1, 4))
        leave(client)


def pipelined(setting: Setting, page: Page) -> None:
    """Each message in one write with the envelope of the next (RFC 2920, section 3.1)."""
    with setting.connect(page.dice.choice(LISTENERS)) as client:
        client.hello()
        ids = [page.begin() for _ in range(page.dice.randrange(1, 4))]
        envelopes = [
            f"MAIL FROM:<{id}@client.example>\r\nRCPT TO:<b@server.example>\r\nDATA\r\n".encode()
            for id in ids
        ]
        client.send(envelopes[0])
        for id, then in zip(ids, [*envelopes[1:], b"QUIT\r\n"], strict=True):
            assert [reply.code for reply in client.replies(3)] == [250, 250, 354]
            page.ended(id)
            client.send(message(id, page.dice) + then)
            reply = client.reply()
            page.heard(id, reply.code)
            assert reply.code == 250, reply
        assert client.reply().code == 221
        assert client.rest() == b""


def starttls(setting: Setting, page: Page) -> None:
    """A message after STARTTLS."""
    with setting.connect(page.dice.choice(LISTENERS)) as client:
        client.hello()
        client.upgrade(setting.tls)
        client.expect(250, "EHLO client.example")
        deliver(client, page)
        leave(client)


def implicit(setting: Setting, page: Page) -> None:
    """A message in TLS."""
    with setting.connect("implicit") as client:
        client.start_tls(setting.tls)
        client.hello()
        deliver(client, page)
        leave(client)


def resumed(setting: Setting, page: Page) -> None:
    """The same, with a TLS session of an earlier client."""
    session = setting.sessions.pop() if setting.sessions else None
    with setting.connect("implicit") as client:
        client.sock = sock = setting.tls.wrap_socket(client.sock, session=session)
        client.hello()
        deliver(client, page)
        if sock.session is not None:
            setting.sessions.append(sock.session)
        leave(client)


def lmtp(setting: Setting, page: Page) -> None:
    """Several recipients, some of whom have no room."""
    with setting.connect("lmtp") as client:
        client.hello("LHLO client.example")
        count = page.dice.randrange(1, 5)
        full = page.dice.randrange(count)
        deliver(
            client,
            page,
            *(f"{FULL if number < full else ''}{number}@server.example" for number in range(count)),
        )
        leave(client)


def auth(setting: Setting, page: Page) -> None:
    """A wrong password, maybe, and then the right one."""
    with setting.connect("plain") as client:
        client.hello()
        if page.dice.random() < 0.3:
            client.expect(535, b"AUTH PLAIN " + base64.b64encode(b"\0alice\0queen"))
        if page.dice.random() < 0.5:
            words = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())
            client.expect(235, b"AUTH PLAIN " + words)
        else:
            client.expect(334, "AUTH LOGIN")
            client.expect(334, base64.b64encode(USER.encode()))
            client.expect(235, base64.b64encode(PASSWORD.encode()))
        deliver(client, page)
        leave(client)


def refused(setting: Setting, page: Page) -> None:
    """Recipients that do not exist: one of two, and then the only one."""
    with setting.connect(page.dice.choice(LISTENERS)) as client:
        client.hello()
        deliver(client, page, f"{REFUSED}1@server.example", "b@server.example")
        deliver(client, page, f"{REFUSED}2@server.example")
        client.expect(250, "RSET")
        deliver(client, page)
        leave(client)


def oversize(setting: Setting, page: Page) -> None:
    """A message that is too large, and one that is not."""
    with setting.connect(page.dice.choice(LISTENERS)) as client:
        client.hello()
        client.expect(552, f"MAIL FROM:<a@client.example> SIZE={LARGEST + 1}")
        deliver(client, page, octets=LARGEST * 2, code=552)
        deliver(client, page)
        leave(client)


def failing(setting: Setting, page: Page) -> None:
    """A message at which the application fails, and one at which it does not."""
    with setting.connect(page.dice.choice(LISTENERS)) as client:
        client.hello()
        deliver(client, page, prefix=FAILS, code=451)
        deliver(client, page)
        leave(client)
