"""Behind a proxy: PROXY headers, XCLIENT and XFORWARD on a running server."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocksmtp import ProxyInfo, SMTPServer, SMTPSession
from tests.client import Client, connect, serving, trusting, wait_until_idle

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.9 198.51.100.1 1024 25\r\n"


def v2(
    source: str = "192.0.2.9",
    destination: str = "198.51.100.1",
    ports: tuple[int, int] = (1024, 25),
    *,
    command: int = 1,
    extra: bytes = b"",
) -> bytes:
    """A PROXY header of version 2, for TCP."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    payload = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    payload += struct.pack("!HH", *ports) + extra
    kind = 0x21 if family == socket.AF_INET6 else 0x11
    return SIGNATURE + bytes([0x20 | command, kind]) + struct.pack("!H", len(payload)) + payload


@contextlib.contextmanager
def proxied(header: bytes, **options: Any) -> Iterator[tuple[Client, SMTPSession]]:
    """A client behind a proxy that sends this header, when it has been greeted."""
    secure = options.get("secure", False)
    with serving(**{"use_proxy": True, **options}) as server, connect(server) as client:
        client.send(header)
        if secure:
            client.start_tls(trusting())
        client.hello()
        yield client, server.connections[0]


def addresses(session: SMTPSession) -> tuple[str, int, str, int]:
    return (
        session.remote_address,
        session.remote_port,
        session.local_address,
        session.local_port,
    )


REAL = ("192.0.2.9", 1024, "198.51.100.1", 25)


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize("header", [V1, v2()], ids=["v1", "v2"])
def test_the_session_is_the_real_client_s(header: bytes, secure: bool) -> None:
    seen: list[tuple[str, int, str, int]] = []
    options = {"on_connect": lambda session: seen.append(addresses(session)), "secure": secure}
    with proxied(header, **options) as (client, session):
        assert seen == [REAL]
        assert addresses(session) == REAL
        assert session.client_hostname == "[192.0.2.9]"
        assert client.expect(250, "EHLO me").lines[0].endswith("[192.0.2.9]")
        assert session.secure is secure


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (v2("2001:db8:0:0::9", "2001:db8::1"), ("2001:db8::9", 1024, "2001:db8::1", 25)),
        (v2("::ffff:192.0.2.9", "::ffff:198.51.100.1"), REAL),
        (
            b"PROXY TCP6 2001:DB8:0::9 2001:db8::1 1024 25\r\n",
            ("2001:db8::9", 1024, "2001:db8::1", 25),
        ),
        (v2(extra=b"\x04\0\x03abc"), REAL),
    ],
)
def test_addresses_are_normalised(header: bytes, expected: tuple[str, int, str, int]) -> None:
    with proxied(header) as (_, session):
        assert addresses(session) == expected


@pytest.mark.parametrize(
    "header", [v2(command=0), b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\0\0\0"], ids=repr
)
def test_a_header_without_addresses_leaves_the_real_ones(header: bytes) -> None:
    with proxied(header, max_clients_per_address=1) as (client, session):
        assert session.remote_address == session.local_address == "127.0.0.1"
        assert session.remote_port == client.sock.getsockname()[1]


def test_a_header_in_small_pieces_and_with_the_first_command() -> None:
    with serving(use_proxy=True) as server:
        for header in (V1, v2()):
            with connect(server) as client:
                for number in range(len(header)):
                    client.send(header[number : number + 1])
                client.hello()
            with connect(server) as client:
                client.send(header + b"EHLO client.example\r\nNOOP\r\n")
                assert [reply.code for reply in client.replies(3)] == [220, 250, 250]


def test_the_reverse_lookup_is_for_the_real_client() -> None:
    class Names:
        asked: list[str] = []  # noqa: RUF012 - one test only

        def reverse(self, ip: str) -> list[str]:
            self.asked.append(ip)
            return ["real.example"]

    with proxied(V1, resolver=Names(), disable_reverse_lookup=False) as (_, session):
        assert session.client_hostname == "real.example"
    assert Names.asked == ["192.0.2.9"]


BROKEN = [
    b"EHLO client.example\r\n",
    b"PROXY TCP4 192.0.2.9\r\n",
    b"PROXY TCP4 192.0.2.9 198.51.100.1 1024 99999\r\n",
    b"PROXY TCP4 192.0.2.9 198.51.100.1 1024 25\n",
    b"PROXY " + b"x" * 200,
    SIGNATURE + b"\x31\x11\0\x0c" + b"x" * 12,
    v2(extra=b"\x03\0\x04\0\0\0\0"),  # a CRC32C that is wrong
    v2(extra=b"\x04" + struct.pack("!H", 5000) + b"x" * 5000),
    b"\x16\x03\x01\x02\0\x01",
]


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize("header", BROKEN, ids=lambda header: repr(header[:24]))
def test_a_broken_header_is_closed_without_a_reply_and_logged(
    header: bytes, secure: bool, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[object] = []
    with serving(
        use_proxy=True, secure=secure, on_connect=seen.append, on_close=seen.append
    ) as server:
        server.on("error", seen.append)
        server.on("connect", seen.append)
        with connect(server) as client:
            client.send(header)
            assert client.rest() == b""
        wait_until_idle(server)
    assert seen == []
    (record,) = (each for each in caplog.records if "PROXY" in each.getMessage())
    assert record.levelno == logging.WARNING


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_health_check_is_no_error(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """It connects, says nothing, and goes."""
    with serving(use_proxy=True, on_data=lambda stream, session: None) as server:
        for _ in range(3):
            with connect(server) as client:
                if how == "reset":
                    client.reset()
            wait_until_idle(server)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_others_are_served_without_a_header() -> None:
    with serving(use_proxy=["127.0.0.2"]) as server:
        with connect(server, source="127.0.0.1") as client:
            client.hello()
            assert server.connections[0].remote_address == "127.0.0.1"
        wait_until_idle(server)
        with connect(server, source="127.0.0.2") as client:
            client.send(V1)
            client.hello()
            assert server.connections[0].remote_address == "192.0.2.9"


def test_on_a_unix_socket(tmp_path: Path) -> None:
    options: dict[str, Any] = {"auth_optional": True, "disabled_commands": ["STARTTLS"]}
    for trusted in (True, ["192.0.2.0/24"]):
        with SMTPServer(use_proxy=trusted, disable_reverse_lookup=True, **options) as server:
            server.listen(tmp_path / "smtp")
            with connect(server) as client:
                if trusted is True:
                    client.send(V1)
                client.hello()
                expected = REAL if trusted is True else ("", 0, "", 0)
                assert addresses(server.connections[0]) == expected


# --- together ----------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["use_xclient", "use_xforward"])
def test_trust_goes_by_the_address_in_the_header(option: str) -> None:
    command = "XCLIENT ADDR=203.0.113.5" if option == "use_xclient" else "XFORWARD ADDR=203.0.113.5"
    with proxied(V1, **{option: ["192.0.2.9"]}) as (client, _):
        assert client.command(command).code in (220, 250)
    with proxied(V1, **{option: ["127.0.0.1"]}) as (client, _):
        assert client.command(command).code == 550


def test_xclient_behind_a_proxy() -> None:
    with proxied(V1, use_xclient=True) as (client, session):
        client.expect(
            220,
            "XCLIENT NAME=real.example ADDR=IPV6:2001:DB8::5 PORT=2048 "
            "DESTADDR=203.0.113.1 DESTPORT=587 HELO=hi.example PROTO=ESMTP",
        )
        assert addresses(session) == ("2001:db8::5", 2048, "203.0.113.1", 587)
        assert session.client_hostname == "real.example"
        assert session.host_name_appears_as == "hi.example"
        assert session.opening_command is None
        client.expect(503, "MAIL FROM:<a@client.example>")
        client.expect(250, "EHLO again.example")
        client.envelope()
        assert session.x_client["ADDR"] == "2001:db8::5"


def test_xclient_is_all_or_nothing() -> None:
    with serving(use_xclient=True) as server, connect(server) as client:
        client.hello()
        (session,) = server.connections
        before = addresses(session)
        for command in (
            "XCLIENT ADDR=192.0.2.9 PORT=nonsense",
            "XCLIENT ADDR=192.0.2.9 NAME=a+0D+0Ab",
            "XCLIENT ADDR=192.0.2.9 UNKNOWN=x",
            "XCLIENT ADDR=192.0.2.9 ADDR=192.0.2.10",
            "XCLIENT ADDR",
        ):
            client.expect(501, command)
            assert addresses(session) == before
            assert session.x_client == {}
            assert session.opening_command == "EHLO"


def test_xclient_login_that_is_refused_changes_nothing() -> None:
    with (
        serving(use_xclient=True, on_auth=lambda auth, session: None) as server,
        connect(server) as client,
    ):
        client.hello()
        (session,) = server.connections
        before = addresses(session)
        client.expect(535, "XCLIENT ADDR=192.0.2.9 LOGIN=me")
        assert addresses(session) == before
        assert session.user is None
        client.envelope()


def test_xforward_only_fills_x_forward() -> None:
    with serving(use_xforward=True) as server, connect(server) as client:
        client.hello()
        (session,) = server.connections
        before = addresses(session)
        client.expect(250, "XFORWARD NAME=real.example ADDR=192.0.2.9 PORT=1024")
        client.expect(250, "XFORWARD HELO=hi.example SOURCE=REMOTE NAME=[UNAVAILABLE]")
        assert addresses(session) == before
        assert session.opening_command == "EHLO"
        assert session.x_forward == {
            "NAME": None,
            "ADDR": "192.0.2.9",
            "PORT": "1024",
            "HELO": "hi.example",
            "SOURCE": "REMOTE",
        }


# --- what else a header tells --------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
def test_the_session_knows_what_the_header_tells(secure: bool) -> None:
    ssl = b"\3\0\0\0\0" + b"\x22\0\5alice"
    extra = b"".join(
        struct.pack("!BH", kind, len(value)) + value
        for kind, value in ((0x02, b"mx.example.org"), (0x05, b"id-1"), (0x20, ssl))
    )
    with proxied(v2(extra=extra), secure=secure) as (_, session):
        proxy = session.proxy
        assert proxy is not None
        assert (proxy.version, proxy.local) == (2, False)
        assert (proxy.authority, proxy.unique_id) == ("mx.example.org", b"id-1")
        assert proxy.ssl is not None
        assert (proxy.ssl.common_name, proxy.ssl.verified) == ("alice", True)
        assert session.servername is None, "that is of the connection itself"


def test_without_a_header_there_is_nothing_to_know() -> None:
    with serving() as server, connect(server) as client:
        client.hello()
        assert server.connections[0].proxy is None


def test_a_connection_of_the_proxy_s_own() -> None:
    with proxied(v2(command=0)) as (client, session):
        assert session.proxy == ProxyInfo(version=2, local=True)
        assert session.remote_address == "127.0.0.1"
        client.envelope()
        assert client.message().code == 250


@pytest.mark.parametrize("said", [b"", v2(command=0), v2(command=0) + b"QUIT\r\n"], ids=repr)
def test_a_health_check_with_a_header_is_no_error(
    said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[BaseException] = []
    with serving(use_proxy=True) as server:
        server.on("error", errors.append)
        with connect(server) as client:
            client.send(said)
            client.sock.shutdown(socket.SHUT_WR)
            client.rest()
        wait_until_idle(server)
    assert errors == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == [
        record for record in caplog.records if "no on_data" in record.getMessage()
    ]


# --- a listener's own ----------------------------------------------------------------------------


def test_one_listener_is_behind_a_proxy_and_another_is_not() -> None:
    """Each can do what the option says of the whole server, and the other way round."""
    for whole, own in ((False, ["127.0.0.1"]), (True, False)):
        with SMTPServer(use_proxy=whole, auth_optional=True, disable_reverse_lookup=True) as server:
            server.listen(0, "127.0.0.1")
            server.listen(0, "127.0.0.1", use_proxy=own)
            for address, behind in zip(server.addresses, (whole, bool(own)), strict=True):
                with connect(address) as client:
                    if behind:
                        client.send(V1)
                    client.hello()
                    [session] = server.connections
                    assert session.remote_address == ("192.0.2.9" if behind else "127.0.0.1")
                wait_until_idle(server)


def test_clients_are_counted_by_the_address_in_the_header() -> None:
    with SMTPServer(
        max_clients_per_address=1, auth_optional=True, disable_reverse_lookup=True
    ) as server:
        server.listen(0, "127.0.0.1", use_proxy=True)
        with connect(server) as first, connect(server) as second, connect(server) as third:
            first.send(V1)
            first.hello()
            second.send(v2("192.0.2.10"))
            second.hello()
            third.send(V1)
            assert third.reply().code == 421


@pytest.mark.parametrize(
    ("value", "error"), [("127.0.0.1", TypeError), (5, TypeError), (["nowhere"], ValueError)]
)
def test_proxies_that_are_none(value: Any, error: type[Exception]) -> None:
    with SMTPServer() as server:
        with pytest.raises(error, match="use_proxy"):
            server.listen(0, "127.0.0.1", use_proxy=value)
        assert server.addresses == []
