"""on_close: once for each on_connect, whatever ended the connection."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from blocksmtp import SMTPError, SMTPServer, SMTPSession
from tests.client import TIMEOUT, Client, connect, serving, trusting, wait_until_idle
from tests.closing import GOODBYE, LONG, Gate, greeted

Talk = Callable[[SMTPServer, Client], object]


def quits(server: SMTPServer, client: Client) -> None:
    client.hello()
    client.expect(221, "QUIT")


def leaves(server: SMTPServer, client: Client) -> None:
    client.hello()


def resets(server: SMTPServer, client: Client) -> None:
    client.hello()
    client.reset()


def leaves_in_data(server: SMTPServer, client: Client) -> None:
    client.hello()
    client.envelope()
    client.expect(354, "DATA")
    client.send("half a mess")


def is_silent(server: SMTPServer, client: Client) -> None:
    client.hello()
    assert b"421 4.4.2" in client.rest()


def is_sent_away(server: SMTPServer, client: Client) -> None:
    client.hello()
    client.expect(421, "GET / HTTP/1.1")


def fails_the_handshake(server: SMTPServer, client: Client) -> None:
    client.hello()
    client.expect(220, "STARTTLS")
    client.send("this is not TLS\r\n")
    client.rest()


def talks_after_starttls(server: SMTPServer, client: Client) -> None:
    client.hello()
    client.send_lines("STARTTLS", "MAIL FROM:<a@client.example>")
    assert client.rest() == b""


def is_closed(server: SMTPServer, client: Client) -> None:
    client.hello()
    server.close()
    assert client.rest() == GOODBYE


@pytest.mark.parametrize(
    "talk",
    [
        *(quits, leaves, resets, leaves_in_data, is_silent, is_sent_away),
        *(fails_the_handshake, talks_after_starttls, is_closed),
    ],
)
def test_on_close_whatever_ends_the_connection(talk: Talk) -> None:
    seen: list[tuple[str, SMTPSession]] = []
    with serving(
        on_connect=lambda session: seen.append(("on_connect", session)),
        on_close=lambda session: seen.append(("on_close", session)),
        socket_timeout=0.4 if talk is is_silent else LONG,
        disabled_commands=(),
    ) as server:
        with connect(server) as client:
            talk(server, client)
        wait_until_idle(server)
    assert [name for name, _ in seen] == ["on_connect", "on_close"]
    assert seen[0][1] is seen[1][1]


@pytest.mark.parametrize("error", [SMTPError("no", 554), SMTPError("no", 421), LookupError("oops")])
def test_on_close_also_for_a_refused_connection(error: Exception) -> None:
    seen: list[str] = []

    def on_connect(session: SMTPSession) -> None:
        seen.append("on_connect")
        raise error

    with serving(on_connect=on_connect, on_close=lambda session: seen.append("on_close")) as server:
        with connect(server) as client:
            assert client.rest()[:3] in (b"421", b"554")
        wait_until_idle(server)
    assert seen == ["on_connect", "on_close"]


def test_on_close_also_where_on_secure_refuses() -> None:
    seen: list[str] = []

    def on_secure(connection: object, session: SMTPSession) -> None:
        raise SMTPError("no")

    for implicit in (True, False):
        with serving(
            on_connect=lambda session: seen.append("on_connect"),
            on_secure=on_secure,
            on_close=lambda session: seen.append("on_close"),
            secure=implicit,
            disabled_commands=(),
        ) as server:
            with connect(server, tls=trusting() if implicit else None) as client:
                if not implicit:
                    client.hello()
                    client.upgrade()
                assert client.rest() == b""
            wait_until_idle(server)
    assert seen == ["on_connect", "on_close"] * 2


@pytest.mark.parametrize("talk", ["over the limit", "broken PROXY header", "failed handshake"])
def test_no_on_close_for_what_never_was_a_connection(talk: str) -> None:
    seen: list[SMTPSession] = []
    options_of: dict[str, dict[str, Any]] = {
        "over the limit": {"max_clients_per_address": 1},
        "broken PROXY header": {"use_proxy": True},
        "failed handshake": {"secure": True},
    }
    options = options_of[talk]
    with serving(**options, on_connect=seen.append, on_close=seen.append) as server:
        with contextlib.ExitStack() as stack:
            if talk == "over the limit":
                stack.enter_context(greeted(server))
            client = stack.enter_context(connect(server))
            client.send("QUIT\r\n")
            client.rest()
        wait_until_idle(server)
    assert len(seen) == (2 if talk == "over the limit" else 0)


def test_the_transport_is_closed_before_on_close() -> None:
    """What on_close takes its time for keeps no client waiting."""
    gate = Gate()
    with serving(on_close=gate) as server, greeted(server) as client:
        client.expect(221, "QUIT")
        assert client.rest() == b""
        assert client.sock.recv(1) == b""
        client.close()
        assert gate.entered.wait(TIMEOUT)
        gate.may_return.set()
