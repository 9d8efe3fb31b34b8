"""Clients that break off, talk nonsense or attack.

What they do to the server has to end with their own connection. Each leaves when it has done its
worst, and notes what may have become of its messages.
"""

from __future__ import annotations

import base64
import contextlib
import socket

from tests.client import TIMEOUT, Client, connect
from tests.faults.dialogue import breaking_off
from tests.test_proxied import V1

from .book import Page, Setting, message
from .server import LARGEST, RECIPIENTS

LISTENERS = ("plain", "plain", "unix", "proxied")
ANY = (*LISTENERS, "strict", "lmtp")
"""Also where time is short, and a client may be shown the door before it has its answers."""
_ACCEPTED = b"250 2.6.0 "
_ENVELOPE = b"MAIL FROM:<%s@client.example>\r\nRCPT TO:<b@server.example>\r\nDATA\r\n"


def rest(client: Client) -> bytes:
    """Say that there is no more, and read what comes to the end."""
    with contextlib.suppress(OSError):
        client.sock.shutdown(socket.SHUT_WR)
    return client.rest()


def _broken_dialogue(page: Page) -> tuple[bytes, dict[str, int]]:
    """What a client says that waits for nothing, and where each of its messages ends."""
    octets = b"EHLO client.example\r\n"
    ends = {}
    for _ in range(page.dice.randrange(1, 4)):
        id = page.begin()
        octets += _ENVELOPE % id.encode() + message(id, page.dice)
        ends[id] = len(octets)
    return octets + b"QUIT\r\n", ends


def _say_some(client: Client, page: Page) -> list[str]:
    """Say the dialogue up to a random octet; returns the messages that came to their end."""
    octets, ends = _broken_dialogue(page)
    cut = page.dice.randrange(len(octets))
    ended = [id for id, end in ends.items() if end <= cut]
    for id in ended:
        page.ended(id)
    client.send(octets[:cut])
    return ended


def reset(setting: Setting, page: Page) -> None:
    """Breaks the connection at a random octet."""
    with setting.connect(page.dice.choice(ANY)) as client, breaking_off():
        _say_some(client, page)
        if page.dice.random() < 0.5:
            client.reply()
        client.reset()


def fin(setting: Setting, page: Page) -> None:
    """Ends the stream at a random octet, and still hears what the server says."""
    with setting.connect(page.dice.choice(LISTENERS)) as client, breaking_off():
        ended = _say_some(client, page)
        accepted = rest(client).count(_ACCEPTED)
        for id in ended[:accepted]:
            page.heard(id, 250)
        assert accepted == len(ended)


def gone_in_tls(setting: Setting, page: Page) -> None:
    """The same inside TLS: a reset, or an end without TLS's good-bye."""
    with setting.connect("implicit") as client, breaking_off():
        client.start_tls(setting.tls)
        _say_some(client, page)
        if page.dice.random() < 0.5:
            client.reset()


def connect_and_go(setting: Setting, page: Page) -> None:
    """Says nothing."""
    with setting.connect(page.dice.choice((*ANY, "implicit"))) as client:
        if page.dice.random() < 0.5:
            client.reset()


def garbage(setting: Setting, page: Page) -> None:
    """Random octets, where commands are expected, or a message is."""
    noise = page.dice.randbytes(page.dice.randrange(1, 3_000)) + b"\r\n"
    with setting.connect(page.dice.choice(ANY)) as client, breaking_off():
        client.send(noise if page.dice.random() < 0.7 else noise * 20)
        rest(client)


def tls_garbage(setting: Setting, page: Page) -> None:
    """Random octets, or half a handshake, in place of a handshake."""
    noise = page.dice.randbytes(page.dice.randrange(1, 500))
    if page.dice.random() < 0.5:
        noise = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise
    upgrade = page.dice.random() < 0.5
    with setting.connect("plain" if upgrade else "implicit") as client, breaking_off():
        if upgrade:
            client.hello()
            client.expect(220, "STARTTLS")
        client.send(noise)
        if page.dice.random() < 0.5:
            rest(client)


def clear_for_tls(setting: Setting, page: Page) -> None:
    """Plain SMTP on a TLS port; commands behind STARTTLS."""
    with breaking_off():
        if page.dice.random() < 0.5:
            with setting.connect("implicit") as client:
                client.send_lines("EHLO client.example", "QUIT")
                rest(client)
        else:
            with setting.connect("plain") as client:
                client.hello()
                client.send_lines("STARTTLS", "MAIL FROM:<injected@client.example>")
                rest(client)


def http(setting: Setting, page: Page) -> None:
    """A browser, or whoever else talks HTTP."""
    with setting.connect(page.dice.choice(ANY)) as client, breaking_off():
        client.send(b"POST / HTTP/1.1\r\nHost: mx.example\r\nContent-Length: 8\r\n\r\nEHLO x\r\n")
        rest(client)


_MARKS = (
    *(b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r", b"\r\n.\n"),
    *(b"\n.\r", b"\r\0\n.\r\n", b"\r.\r\n", b"\r\n.\0\r\n", b"\r\n\0.\r\n"),
)


def smuggling(setting: Setting, page: Page) -> None:
    """A second message inside the first, behind what is no end mark."""
    with setting.connect(page.dice.choice(("plain", "unix", "proxied"))) as client:
        client.hello()
        id = page.begin()
        smuggled = _ENVELOPE % b"smuggled" + b"smuggled -\r\n"
        client.send(_ENVELOPE % id.encode())
        client.replies(3)
        page.ended(id)
        client.send(
            f"{id} -\r\ntext".encode() + page.dice.choice(_MARKS) + smuggled + b".\r\nQUIT\r\n"
        )
        reply = client.reply()
        page.heard(id, reply.code)
        assert [reply.code, client.reply().code] == [250, 221]


def bare_newlines(setting: Setting, page: Page) -> None:
    """Commands and a message with bare LF and CR."""
    with setting.connect(page.dice.choice(("plain", "unix", "proxied"))) as client:
        id = page.begin()
        client.send(b"EHLO client.example\n" + (_ENVELOPE % id.encode()).replace(b"\r", b""))
        assert [reply.code for reply in client.replies(5)] == [220, 250, 250, 250, 354]
        page.ended(id)
        client.send(f"{id} -\r\na\nb\rc\n.\n..\n\r\n.\r\n".encode())
        page.heard(id, client.reply().code)
        client.send("QUIT\rNOOP\r\n")
        client.reply()


def endless_line(setting: Setting, page: Page) -> None:
    """A line that does not end, from a client who then breaks off."""
    with setting.connect(page.dice.choice(LISTENERS)) as client, breaking_off():
        client.hello()
        client.send(b"NOOP " + b"x" * page.dice.randrange(5_000, 200_000))
        if page.dice.random() < 0.5:
            client.send("\r\nNOOP\r\n")
            assert [reply.code for reply in client.replies(2)] == [500, 250]


def bad_base64(setting: Setting, page: Page) -> None:
    """AUTH with what is none."""
    with setting.connect("plain") as client, breaking_off():
        client.hello()
        client.expect(501, "AUTH PLAIN =not=base64=")
        client.expect(334, "AUTH LOGIN")
        client.expect(501, "\xff\xfe")
        client.expect(334, "AUTH PLAIN")
        client.expect(501, "*")
        client.send(b"AUTH PLAIN " + base64.b64encode(b"no zero octets") + b"\r\n")
        client.reply()


def too_many_recipients(setting: Setting, page: Page) -> None:
    """More than are allowed; the message goes to those that are."""
    with setting.connect("plain") as client:
        client.hello()
        id = page.begin()
        count = RECIPIENTS + page.dice.randrange(1, 30)
        client.send_lines(
            f"MAIL FROM:<{id}@client.example>",
            *(f"RCPT TO:<{number}@server.example>" for number in range(count)),
            "DATA",
        )
        codes = [reply.code for reply in client.replies(count + 2)]
        assert codes == [250] * (RECIPIENTS + 1) + [452] * (count - RECIPIENTS) + [354]
        page.ended(id)
        client.send(message(id, page.dice))
        page.heard(id, client.reply().code)


def oversized_then_gone(setting: Setting, page: Page) -> None:
    """More than is allowed, without an end."""
    with setting.connect(page.dice.choice(LISTENERS)) as client, breaking_off():
        client.hello()
        id = page.begin()
        client.send(_ENVELOPE % id.encode())
        client.replies(3)
        line = b"x" * 998 + b"\r\n"
        client.send(f"{id} -\r\n".encode() + line * (LARGEST // 1_000 + page.dice.randrange(1, 50)))
        if page.dice.random() < 0.5:
            client.reset()


def broken_header(setting: Setting, page: Page) -> None:
    """A PROXY header that is cut off, or none."""
    with connect(setting.addresses["proxied"]) as client, breaking_off():
        client.send(page.dice.choice((V1[: page.dice.randrange(1, len(V1))], b"EHLO x\r\n")))
        rest(client)


def silent(setting: Setting, page: Page) -> None:
    """Says nothing until it is shown the door, also in place of a handshake."""
    in_tls = page.dice.random() < 0.3
    with setting.connect("strict_implicit" if in_tls else "strict") as client:
        lines = client.rest().splitlines()
        assert in_tls or lines[-1].startswith(b"421 4.4.2 "), lines


def dripping(setting: Setting, page: Page) -> None:
    """One octet after the other, of a command or of a message, until it is shown the door."""
    with setting.connect("strict") as client, breaking_off():
        client.send("EHLO client.example\r\n")
        client.replies(2)
        if page.dice.random() < 0.5:
            id = page.begin()
            client.send(_ENVELOPE % id.encode())
            client.replies(3)
        client.sock.settimeout(0.1)
        for _ in range(int(TIMEOUT / 0.1)):
            client.send(b"x")
            with contextlib.suppress(TimeoutError):
                if not client.sock.recv(4_096):
                    return
        raise AssertionError("nobody has shown it the door")


def never_reading(setting: Setting, page: Page) -> None:
    """Asks and asks, and takes no answer."""
    with setting.connect("strict") as client, breaking_off():
        while True:
            client.send(b"HELP\r\n" * 2_000)
