"""Who may say who the client is: PROXY, XCLIENT and XFORWARD from a peer that is not trusted.

CVE-2023-42117 (Exim): what a proxy said was not checked before it was used. CVE-2021-23409
(go-proxyproto): a peer that was to send a PROXY header, and sent none, held its connection for
ever. CVE-2021-29921 (Python): "010.8.8.8" was read as another address than elsewhere, so that a
rule meant another host.

Here none of the three is believed unless its option names the peer: True, or its address. A Unix
socket has no address, so that only True trusts it. Whom XCLIENT and XFORWARD come from is settled
when the connection begins, so that no XCLIENT opens a door to itself. Addresses have one spelling;
a broken header closes the connection without a word to the client, and with one line in the log.
"""

from __future__ import annotations

import copy
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from blocksmtp import SMTPServer, SMTPSession
from tests.client import connect, serving, trusting, wait_until_idle
from tests.protocol.bench import Bench, GivenCallbacks
from tests.test_proxied import SIGNATURE, V1, v2

from .talk import Log, Talk

STRANGER, PROXY = "127.0.0.1", "127.0.0.2"
FORGED = "192.0.2.9"  # as in V1

_KNOWN = (
    *("remote_address", "remote_port", "local_address", "local_port", "client_hostname", "user"),
    *("host_name_appears_as", "opening_command", "secure", "servername", "x_client", "x_forward"),
)


def known(session: SMTPSession) -> dict[str, Any]:
    """What the session knows of the client."""
    return copy.deepcopy({name: getattr(session, name) for name in _KNOWN})


# --- XCLIENT and XFORWARD -----------------------------------------------------------------------

ATTRIBUTES = {
    "NAME": "trusted.example",
    "ADDR": PROXY,
    "PORT": "25",
    "PROTO": "ESMTP",
    "HELO": "trusted.example",
    "LOGIN": "root",
    "DESTADDR": PROXY,
    "DESTPORT": "25",
    "IDENT": "x",
    "SOURCE": "LOCAL",
}
COMMANDS = [
    f"{verb} {name}={value}"
    for verb in ("XCLIENT", "XFORWARD")
    for name, value in ATTRIBUTES.items()
]
COMMANDS += ["XCLIENT " + " ".join(f"{name}={value}" for name, value in ATTRIBUTES.items())]
COMMANDS += ["xclient addr=127.0.0.2", "XCLIENT ADDR=127.0.0.2 ADDR=127.0.0.3", "XCLIENT x"]

UNTRUSTED: list[Any] = [
    False,
    [],
    [PROXY],
    ["192.0.2.0/24", "2001:db8::/32"],
    ["::1"],
    ["::ffff:127.0.0.2"],
    ["::/96"],
    ["0.0.0.0"],
]


@pytest.mark.parametrize("trusted", UNTRUSTED, ids=str)
def test_xclient_and_xforward_from_a_stranger_change_nothing(trusted: Any) -> None:
    asked: list[object] = []
    bench = Bench(
        callbacks=GivenCallbacks(on_auth=lambda auth, session: asked.append(auth)),
        remote_address=STRANGER,
        use_xclient=trusted,
        use_xforward=trusted,
        max_bad_commands=None,
    )
    hello = bench.say("EHLO client.example")
    before = known(bench.session)
    assert not any(line.startswith(("XCLIENT", "XFORWARD")) for line in hello.lines)
    assert bench.codes(*COMMANDS) == [550] * len(COMMANDS)
    assert known(bench.session) == before
    assert asked == []


@pytest.mark.parametrize("option", ["use_xclient", "use_xforward"])
def test_nor_do_they_from_a_unix_socket_unless_everybody_is_trusted(
    option: str, tmp_path: Path
) -> None:
    command = "XCLIENT ADDR=192.0.2.9" if option == "use_xclient" else "XFORWARD ADDR=192.0.2.9"
    for number, trusted in enumerate((["0.0.0.0/0", "::/0"], True)):
        path = tmp_path / f"socket-{number}"
        with serving(**{option: trusted}) as server:
            server.listen(path)
            with connect(path) as client:
                client.hello()
                before = known(server.connections[0])
                refused = client.command(command).code == 550
                assert refused is (trusted is not True)
                assert (known(server.connections[0]) == before) is refused


def test_no_xclient_opens_a_door() -> None:
    """It may say that the client is a trusted one; that is worth nothing for the next command."""
    bench = Bench(remote_address=STRANGER, use_xclient=[STRANGER], use_xforward=[PROXY])
    assert bench.codes("EHLO a", f"XCLIENT ADDR={PROXY}", "EHLO a") == [250, 220, 250]
    assert bench.session.remote_address == PROXY
    assert bench.codes("XFORWARD ADDR=192.0.2.1") == [550]
    # Nor is one shut: the peer is still the one that was trusted.
    assert bench.codes("XCLIENT ADDR=192.0.2.1", f"XCLIENT ADDR={PROXY}") == [220, 220]


def test_xclient_does_not_lift_the_limit_of_an_address() -> None:
    with serving(use_xclient=True, max_clients_per_address=1) as server:
        with connect(server) as client:
            client.hello()
            client.expect(220, "XCLIENT ADDR=192.0.2.1")
            with connect(server) as second:
                assert second.rest().startswith(b"421 ")
        wait_until_idle(server)


@pytest.mark.parametrize("failing", [None, "", 0, False])
def test_xclient_login_is_asked_about_as_any_other(failing: Any) -> None:
    """A trusted proxy vouches for the name, and still the application decides."""
    bench = Bench(
        callbacks=GivenCallbacks(on_auth=lambda auth, session: failing),
        remote_address=STRANGER,
        use_xclient=True,
        max_auth_failures=None,
    )
    bench.say("EHLO a")
    before = known(bench.session)
    assert bench.codes("XCLIENT LOGIN=root ADDR=192.0.2.1") == [535]
    assert known(bench.session) == before


BAD_VALUES = [
    *("ADDR=0127.0.0.1", "ADDR=127.0.0.01", "ADDR=127.1", "ADDR=2130706433", "ADDR=0x7f.0.0.1"),
    *("ADDR=localhost", "ADDR=127.0.0.1/8", "ADDR=IPV6:127.0.0.1/8", "ADDR=[127.0.0.1]"),
    *("ADDR=", "ADDR=127.0.0.1+00", "ADDR=127.0.0.1+0A", "ADDR=127.0.0.1+20"),
    *("ADDR=\uff1127.0.0.1", "PORT=\uff12"),
    *("PORT=65536", "PORT=-1", "PORT=+2B31", "PORT=²", "PORT=1e3", "PORT=", "DESTPORT=99999"),
    *("NAME=a+0D+0Ab", "NAME=a b", "NAME=-", "NAME=a..b", "NAME=127.0.0.1", "NAME=<a>"),
    *("HELO=a+00b", "HELO=a+C2+85b", "HELO=", "LOGIN=a+0Ab", "LOGIN=a+7F", "LOGIN=a+E2+80+A8"),
    *("PROTO=HTTP", "DESTADDR=::1%25eth0+0A", "UNKNOWN=1", "NAME", "=", "NAME=a=b", "HELO=+0"),
]


@pytest.mark.parametrize("value", BAD_VALUES)
def test_what_a_trusted_proxy_says_is_checked_all_the_same(value: str) -> None:
    """All or nothing: the attribute before the bad one does not count either."""
    bench = Bench(remote_address=STRANGER, use_xclient=True, max_bad_commands=None)
    bench.say("EHLO a")
    before = known(bench.session)
    for command in (f"XCLIENT {value}", f"XCLIENT DESTADDR=192.0.2.1 {value}"):
        assert bench.codes(command) == [501]
        assert known(bench.session) == before


# --- PROXY --------------------------------------------------------------------------------------

HEADERS = {
    "v1": V1,
    "v1 of IPv6": b"PROXY TCP6 2001:db8::9 2001:db8::1 1024 25\r\n",
    "v1 unknown": b"PROXY UNKNOWN\r\n",
    "v2": v2(),
    "v2 of IPv6": v2("2001:db8::9", "2001:db8::1"),
    "v2 local": v2(command=0),
}


@pytest.mark.parametrize("trusted", [False, [PROXY]], ids=["nobody", "another"])
@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_from_a_stranger_is_a_bad_command(header: bytes, trusted: Any) -> None:
    """The session, its limits and what XCLIENT may do stay those of the real peer."""
    log = Log()
    options = {
        "use_proxy": trusted,
        "use_xclient": [FORGED],
        "max_clients_per_address": 1,
        "logger": log.logger,
    }
    with serving(**options) as server:
        with connect(server, source=STRANGER) as client:
            assert client.reply().code == 220
            before = known(server.connections[0])
            client.send(header + b"NOOP\r\n")
            if header.startswith(SIGNATURE):
                # CRLF, CRLF, NUL CRLF, and then QUIT, as it happens.
                assert [reply.code for reply in client.replies(4)] == [500, 500, 500, 221]
                assert client.rest() == b""
            else:
                assert [reply.code for reply in client.replies(2)] == [500, 250]
                assert known(server.connections[0]) == before
                client.expect(250, "EHLO a")
                client.expect(550, "XCLIENT ADDR=192.0.2.1")
                with connect(server, source=STRANGER) as second:
                    assert second.rest().startswith(b"421 ")
        wait_until_idle(server)
    assert not any(FORGED in line or "2001:db8" in line for line in log.shown)


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_second_header_is_a_bad_command(header: bytes) -> None:
    """The client's own, behind that of the proxy."""
    with serving(use_proxy=[PROXY]) as server, connect(server, source=PROXY) as client:
        client.send(b"PROXY TCP4 203.0.113.7 203.0.113.1 1024 25\r\n" + header)
        codes = [reply.code for reply in client.replies(2)]
        assert codes == [220, 500]
        if not header.startswith(SIGNATURE):
            assert server.connections[0].remote_address == "203.0.113.7"


def test_a_header_behind_the_greeting_or_in_tls_is_a_bad_command() -> None:
    for secure in (False, True):
        tls = trusting() if secure else None
        with (
            serving(secure=secure) as server,
            connect(server, tls=tls) as client,
        ):
            client.hello()
            client.expect(500, V1[:-2])
            assert server.connections[0].remote_address == STRANGER


BROKEN = {
    "leading zeros": b"PROXY TCP4 192.0.2.09 198.51.100.1 1024 25\r\n",
    "octal": b"PROXY TCP4 0300.0.2.9 198.51.100.1 1024 25\r\n",
    "a name": b"PROXY TCP4 localhost 198.51.100.1 1024 25\r\n",
    "bare LF": b"PROXY TCP4 192.0.2.9 198.51.100.1 1024 25\nMAIL FROM:<e@x>\r\n",
    "bare CR": b"PROXY TCP4 192.0.2.9 198.51.100.1 1024 25\rMAIL FROM:<e@x>\r\n",
    "bare LF in UNKNOWN": b"PROXY UNKNOWN x\nMAIL FROM:<e@x>\r\n",
    "bare CR in UNKNOWN": b"PROXY UNKNOWN x\rMAIL FROM:<e@x>\r\n",
    "NUL": b"PROXY TCP4 192.0.2.9\0 198.51.100.1 1024 25\r\n",
    "escape": b"PROXY TCP4 \x1b[2J 198.51.100.1 1024 25\r\n",
    "two spaces": b"PROXY  TCP4 192.0.2.9 198.51.100.1 1024 25\r\n",
    "one field too many": b"PROXY TCP4 192.0.2.9 198.51.100.1 1024 25 26\r\n",
    "port": b"PROXY TCP4 192.0.2.9 198.51.100.1 65536 25\r\n",
    "signed port": b"PROXY TCP4 192.0.2.9 198.51.100.1 +24 25\r\n",
    "wrong family": b"PROXY TCP4 2001:db8::9 2001:db8::1 1024 25\r\n",
    "without end": b"PROXY TCP4 " + b"1" * 4096,
    "command": b"EHLO client.example\r\n",
    "v2 version": SIGNATURE + b"\x11\x11\0\x0c" + b"x" * 12,
    "v2 command": SIGNATURE + b"\x2f\x11\0\x0c" + b"x" * 12,
    "v2 too short": SIGNATURE + b"\x21\x11\0\x04" + b"x" * 4,
    "v2 too long": SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 4096,
    "v2 extension over the end": v2(extra=b"\x04\xff\xff"),
    "half a signature": SIGNATURE[:-1] + b"X",
}


@pytest.mark.parametrize("header", BROKEN.values(), ids=BROKEN)
def test_a_trusted_peer_without_a_good_header_is_no_client(header: bytes) -> None:
    """Not one of its octets is a command, and it is nobody: no callback ever hears of it."""
    log, seen = Log(), list[object]()
    note = {name: lambda *arguments: seen.append(arguments) for name in ("on_connect", "on_close")}
    with serving(use_proxy=[PROXY], logger=log.logger, **note) as server:
        server.on("error", seen.append)
        with connect(server, source=PROXY) as client:
            client.send(header + b"EHLO a\r\nMAIL FROM:<e@attacker.example>\r\n")
            assert client.rest() == b""
        wait_until_idle(server)
        with connect(server, source=STRANGER) as other:
            other.hello()
    (record,) = log.at_least(logging.WARNING)
    assert record.startswith("PROXY header refused: ")
    assert record.isprintable()
    assert len(record) < 300
    assert len(seen) == 2  # of the other client's


def test_addresses_have_one_spelling() -> None:
    """What a header or XCLIENT says is compared, and counted, as what it means."""
    spellings = ["::ffff:192.0.2.9", "::FFFF:C000:209", "192.0.2.9"]
    for spelling in spellings:
        header = v2(spelling, "::1" if ":" in spelling else "198.51.100.1")
        with (
            serving(use_proxy=True, use_xclient=["192.0.2.9"]) as server,
            connect(server) as client,
        ):
            client.send(header)
            client.hello()
            assert server.connections[0].remote_address == "192.0.2.9"
            client.expect(
                220, f"XCLIENT ADDR=IPV6:{spelling}" if ":" in spelling else "XCLIENT PORT=1"
            )
            assert server.connections[0].remote_address == "192.0.2.9"


def test_one_address_in_two_spellings_is_counted_once() -> None:
    with serving(use_proxy=True, max_clients_per_address=1) as server:
        with connect(server) as client:
            client.send(v2("::ffff:192.0.2.9", "::1"))
            client.hello()
            with connect(server) as second:
                second.send(V1)
                assert second.rest().startswith(b"421 ")
        wait_until_idle(server)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no dual-stack sockets here")
def test_trust_is_the_same_on_a_dual_stack_socket() -> None:
    """There the address of an IPv4 peer is a mapped one."""
    for trusted, code in (([STRANGER], 250), (["::ffff:127.0.0.1"], 250), ([PROXY], 550)):
        sock = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        with SMTPServer(
            auth_optional=True,
            use_xforward=trusted,
            disable_reverse_lookup=True,
            disabled_commands=["STARTTLS"],
        ) as server:
            server.listen(sock=sock)
            with connect(("127.0.0.1", server.port or 0)) as client:
                client.hello()
                assert server.connections[0].remote_address == STRANGER
                client.expect(code, "XFORWARD ADDR=192.0.2.1")


def test_an_extension_of_a_header_is_believed_in_nothing() -> None:
    """Authority and TLS of version 2 tell of what ended at the proxy, and say nothing here."""
    tls = b"\x20\x00\x05\x01\x00\x00\x00\x00"
    authority = b"\x02\x00\x0cmail.example"
    with serving(use_proxy=True) as server, connect(server) as client:
        client.send(v2(extra=authority + tls))
        client.hello()
        (session,) = server.connections
        assert (session.secure, session.servername, session.tls_options) == (False, None, None)
        assert session.transmission_type == "ESMTP"


def test_a_client_cannot_be_mistaken_for_its_proxy() -> None:
    """What it says first looks like a header; the proxy's own stands in front of it."""
    talk = Talk(V1, b"EHLO a\r\n", b"NOOP\r\n")
    assert talk.codes == [220, 500, 250, 250]
    assert talk.session.remote_address == STRANGER


def test_a_trusted_peer_that_sends_nothing_does_not_stay() -> None:
    with serving(use_proxy=[PROXY], socket_timeout=0.3) as server:
        with connect(server, source=PROXY) as client:
            assert client.rest() == b""
        wait_until_idle(server)
