"""XCLIENT and XFORWARD, where a dialogue cannot look."""

from __future__ import annotations

from typing import Any

import pytest

from blocksmtp.auth import Auth, XClientAuth
from blocksmtp.errors import SMTPError
from blocksmtp.protocol.replies import Next
from blocksmtp.session import SMTPSession
from tests.protocol.bench import Bench, GivenCallbacks


def trusted(**options: Any) -> Bench:
    return Bench(**{"use_xclient": True, "use_xforward": True, **options})


@pytest.mark.parametrize(
    ("trusts", "address", "allowed"),
    [
        (False, "192.0.2.7", False),
        (True, "192.0.2.7", True),
        (True, "", True),
        (["192.0.2.7"], "192.0.2.7", True),
        (["192.0.2.0/24"], "192.0.2.7", True),
        (["192.0.2.8", "2001:db8::/32"], "192.0.2.7", False),
        (["2001:db8::/32"], "2001:db8::7", True),
        (["192.0.2.7"], "", False),
        ([], "192.0.2.7", False),
    ],
)
def test_who_may(trusts: Any, address: str, allowed: bool) -> None:
    bench = Bench(use_xclient=trusts, use_xforward=trusts, remote_address=address)
    codes = [220, 250] if allowed else [550, 550]
    assert bench.codes("XCLIENT NAME=[UNAVAILABLE]", "XFORWARD IDENT=1") == codes
    offered = {line.split()[0] for line in bench.say("EHLO proxy").lines}
    assert ("XCLIENT" in offered, "XFORWARD" in offered) == (allowed, allowed)


def test_replaced() -> None:
    bench = trusted()
    bench.say("EHLO proxy")
    reply = bench.say(
        "XCLIENT NAME=spike.example.org ADDR=198.51.100.9 PORT=4711 HELO=spike "
        "DESTADDR=IPV6:2001:DB8::1 DESTPORT=2525 PROTO=smtp"
    )
    assert (reply.code, reply.then) == (220, Next.COMMAND)
    session = bench.session
    assert (session.client_hostname, session.remote_address, session.remote_port) == (
        *("spike.example.org", "198.51.100.9", 4711),
    )
    assert (session.local_address, session.local_port) == ("2001:db8::1", 2525)
    assert (session.host_name_appears_as, session.opening_command) == ("spike", None)
    assert session.x_client["PROTO"] == "smtp"


def test_a_new_address_takes_the_old_name_away() -> None:
    """What was looked up is the name of another client."""
    bench = trusted()
    bench.session.client_hostname = "proxy.example.org"
    bench.say("XCLIENT ADDR=198.51.100.9")
    assert bench.session.client_hostname == "[198.51.100.9]"
    bench.say("XCLIENT NAME=spike.example.org")
    assert bench.session.client_hostname == "spike.example.org"
    bench.say("XCLIENT NAME=[TEMPUNAVAIL]")
    assert bench.session.client_hostname == "[198.51.100.9]"


def test_what_is_unavailable() -> None:
    bench = trusted()
    bench.say("XCLIENT ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE]")
    bench.say("XCLIENT DESTADDR=[unavailable] DESTPORT=[UNAVAILABLE] PROTO=[UNAVAILABLE]")
    session = bench.session
    assert (session.remote_address, session.remote_port) == ("", 0)
    assert (session.local_address, session.local_port) == ("", 0)
    assert set(session.x_client.values()) == {None}
    assert set(session.x_client) == {"ADDR", "PORT", "DESTADDR", "DESTPORT", "PROTO"}


def test_what_is_not_named_stays() -> None:
    bench = trusted()
    before = (bench.session.remote_address, bench.session.local_address, bench.session.local_port)
    bench.say("XCLIENT PORT=4711")
    session = bench.session
    assert (session.remote_address, session.local_address, session.local_port) == before
    assert session.remote_port == 4711


@pytest.mark.parametrize(
    "attribute",
    [
        "ADDR=::ffff:198.51.100.9",
        "ADDR=IPv6:::ffff:198.51.100.9",
        "addr=198.51.100.9",
    ],
)
def test_one_spelling_of_an_address(attribute: str) -> None:
    bench = trusted()
    assert bench.say(f"XCLIENT {attribute}").code == 220
    assert bench.session.remote_address == "198.51.100.9"


BAD = [
    "NAME",
    "NAME=",
    "=x",
    "COLOUR=red",
    "NAME=a NAME=b",
    "NAME=two+20words",
    "NAME=-",
    "NAME=192.0.2.1",
    "DESTADDR=localhost",
    "DESTADDR=[192.0.2.1]",
    "PORT=-1",
    "PORT=65536",
    "PORT=0x19",
    "PORT=\u0663",
    "PORT=\u00b3",
    "HELO=a+00b",
    "HELO=a+0Db",
    "HELO=a+C2+85b",
    "HELO=a+b",
    "HELO=a\tb",
    "HELO=a\x0bNAME=b",
    f"HELO={'a' * 256}",
    "IDENT=1 LOGIN=alice",
    "\u3000",
]


@pytest.mark.parametrize("verb", ["XCLIENT", "XFORWARD"])
@pytest.mark.parametrize("arguments", BAD)
def test_one_bad_attribute_and_nothing_changes(verb: str, arguments: str) -> None:
    bench = trusted()
    bench.say("EHLO proxy")
    before = dict(vars(bench.session))
    reply = bench.say(f"{verb} ADDR=198.51.100.9 {arguments}")
    assert (reply.code, reply.enhanced, reply.bad) == (501, "5.5.4", True)
    assert vars(bench.session) == before
    assert (bench.session.x_client, bench.session.x_forward) == ({}, {})
    assert bench.announced == 0


@pytest.mark.parametrize("argument", ["", " ", "\t", "\u3000", "\x0b"])
def test_no_attributes(argument: str) -> None:
    assert trusted().codes(f"XCLIENT {argument}", f"XFORWARD {argument}") == [501, 501]


@pytest.mark.parametrize(
    ("attribute", "xclient", "xforward"),
    [
        ("PROTO=LMTP", 220, 250),
        ("PROTO=QMQP", 501, 250),
        (f"PROTO={'x' * 64}", 501, 250),
        (f"PROTO={'x' * 65}", 501, 501),
        ("LOGIN=alice", 535, 501),
        ("DESTADDR=192.0.2.1", 220, 501),
        ("DESTPORT=25", 220, 501),
        ("IDENT=4711", 501, 250),
        ("SOURCE=REMOTE", 501, 250),
        ("SOURCE=local", 501, 250),
        ("SOURCE=elsewhere", 501, 501),
    ],
)
def test_attributes_of_one_and_the_other(attribute: str, xclient: int, xforward: int) -> None:
    assert trusted().codes(f"XCLIENT {attribute}") == [xclient]
    assert trusted().codes(f"XFORWARD {attribute}") == [xforward]


# --- LOGIN -------------------------------------------------------------------------------------


def test_login_accepted() -> None:
    seen: list[Auth] = []

    def on_auth(auth: Auth, session: SMTPSession) -> str:
        seen.append(auth)
        return "alice"

    bench = trusted(callbacks=GivenCallbacks(on_auth=on_auth), auth_optional=False)
    assert not bench.session.secure
    assert bench.codes("XCLIENT LOGIN=alice+40example.org", "EHLO client") == [220, 250]
    assert seen == [XClientAuth("XCLIENT", "alice@example.org")]
    assert isinstance(seen[0], XClientAuth)
    assert seen[0].password is None
    assert bench.session.user == "alice"
    assert bench.codes("AUTH PLAIN", "MAIL FROM:<>") == [503, 250]


def test_login_unavailable_logs_out() -> None:
    bench = trusted(callbacks=GivenCallbacks(on_auth=lambda auth, session: "alice"))
    bench.say("XCLIENT LOGIN=alice")
    assert bench.say("XCLIENT LOGIN=[UNAVAILABLE]").code == 220
    assert bench.session.user is None


@pytest.mark.parametrize("error", [None, SMTPError("no", 550), RuntimeError()], ids=repr)
def test_login_refused_and_nothing_changes(error: Exception | None) -> None:
    def on_auth(auth: Auth, session: SMTPSession) -> None:
        assert session.remote_address == "198.51.100.9", "on_auth may look at the new client"
        if error is not None:
            raise error

    bench = trusted(callbacks=GivenCallbacks(on_auth=on_auth))
    bench.say("EHLO proxy", "XCLIENT NAME=first.example.org", "EHLO proxy")
    bench.session.user = "bob"
    before = dict(vars(bench.session))
    before["x_client"] = dict(bench.session.x_client)
    announced = bench.announced
    assert bench.say("XCLIENT ADDR=198.51.100.9 HELO=spike LOGIN=alice").code >= 400
    assert vars(bench.session) == {**before, "auth_failures": bench.session.auth_failures}
    assert bench.announced == announced
    assert bench.defects == ([("on_auth", "RuntimeError")] if type(error) is RuntimeError else [])


def test_login_failures_count() -> None:
    bench = trusted(callbacks=GivenCallbacks(on_auth=lambda auth, session: None))
    assert bench.codes("XCLIENT LOGIN=a", "XCLIENT LOGIN=b") == [535, 535]
    assert bench.say("XCLIENT LOGIN=c").then is Next.CLOSE
    assert bench.session.auth_failures == 3


# --- who the client is, said once --------------------------------------------------------------


def test_announced_by_xclient() -> None:
    bench = trusted()
    assert bench.machine.open().code == 220
    assert bench.announced == 0
    bench.say("XCLIENT ADDR=198.51.100.9")
    assert bench.announced == 1
    bench.say("XCLIENT ADDR=198.51.100.10", "EHLO client", "MAIL FROM:<>")
    assert bench.announced == 1


def test_announced_by_the_first_mail() -> None:
    seen: list[int] = []
    bench = trusted(
        callbacks=GivenCallbacks(on_mail_from=lambda address, session: seen.append(bench.announced))
    )
    bench.machine.open()
    bench.say("EHLO client", "XFORWARD IDENT=1", "NOOP")
    assert bench.announced == 0
    bench.say("MAIL FROM:<>", "RSET", "MAIL FROM:<>")
    assert bench.announced == 1
    assert seen == [1, 1], "before the callback"


def test_announced_by_the_greeting() -> None:
    for options in ({"use_xclient": False}, {"disabled_commands": ["XCLIENT"]}):
        bench = trusted(**options)
        bench.machine.open()
        assert bench.announced == 1
        bench.say("EHLO client", "MAIL FROM:<>")
        assert bench.announced == 1


# --- XFORWARD ----------------------------------------------------------------------------------


def test_xforward_changes_nothing_else() -> None:
    bench = trusted()
    bench.say("EHLO proxy")
    before = dict(vars(bench.session), x_forward=None)
    reply = bench.say("XFORWARD NAME=spike.example.org ADDR=IPV6:2001:db8::7 PORT=25 HELO=spike")
    assert reply.encode() == b"250 2.0.0 OK\r\n"
    assert dict(vars(bench.session), x_forward=None) == before
    assert bench.session.x_forward == {
        "NAME": "spike.example.org",
        "ADDR": "2001:db8::7",
        "PORT": "25",
        "HELO": "spike",
    }
    bench.say("XFORWARD NAME=[UNAVAILABLE] SOURCE=REMOTE")
    assert bench.session.x_forward["NAME"] is None
    assert bench.session.x_forward["ADDR"] == "2001:db8::7"


def test_longest_value() -> None:
    bench = trusted()
    assert bench.codes(f"XFORWARD IDENT={'x' * 255}", f"XFORWARD IDENT={'x' * 256}") == [250, 501]
