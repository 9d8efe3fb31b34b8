"""The session and the envelope, as every callback of a connection sees them."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest

from blocksmtp import (
    Auth,
    DataStream,
    DSNEnvelope,
    DSNRcpt,
    SMTPAddress,
    SMTPEnvelope,
    SMTPError,
    SMTPSession,
    TLSCipherInfo,
)
from tests.client import connect, serving, trusting, wait_until_idle

ATTEMPT = "AUTH PLAIN AHVzZXIAc2VjcmV0"

# --- plain data --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opening_command", "lmtp", "secure", "user", "expected"),
    [
        ("HELO", False, False, None, "SMTP"),
        ("HELO", False, True, None, "SMTPS"),
        (None, False, False, None, "SMTP"),
        ("EHLO", False, False, None, "ESMTP"),
        ("EHLO", False, True, None, "ESMTPS"),
        ("EHLO", False, False, "me", "ESMTPA"),
        ("EHLO", False, True, "me", "ESMTPSA"),
        ("HELO", False, False, "me", "ESMTPA"),
        ("EHLO", False, False, 0, "ESMTPA"),
        ("LHLO", True, False, None, "LMTP"),
        ("LHLO", True, True, None, "LMTPS"),
        ("LHLO", True, False, "me", "LMTPA"),
        ("LHLO", True, True, "me", "LMTPSA"),
    ],
)
def test_transmission_types(
    opening_command: str | None, lmtp: bool, secure: bool, user: Any, expected: str
) -> None:
    session = SMTPSession(
        id="1", opening_command=opening_command, lmtp=lmtp, secure=secure, user=user
    )
    assert session.transmission_type == expected


def test_a_new_session() -> None:
    session = SMTPSession(id="1")
    assert not session.secure
    assert session.tls_options is None
    assert session.servername is None
    assert session.host_name_appears_as is None
    assert session.opening_command is None
    assert session.user is None
    assert session.transaction == 0
    assert session.x_client == session.x_forward == session.state == {}
    assert session.envelope == SMTPEnvelope()


def test_a_new_envelope() -> None:
    envelope = SMTPEnvelope()
    assert envelope.mail_from is None
    assert envelope.rcpt_to == []
    assert envelope.body_type == "7bit"
    assert not envelope.smtp_utf8
    assert not envelope.require_tls
    assert envelope.dsn == DSNEnvelope(ret=None, envid=None)


def test_nothing_is_shared_between_two() -> None:
    one, other = SMTPSession(id="1"), SMTPSession(id="2")
    one.state["a"] = one.x_client["a"] = one.x_forward["a"] = "b"
    one.envelope.rcpt_to.append(SMTPAddress("a@b"))
    one.envelope.dsn.ret = "FULL"
    assert other.state == other.x_client == other.x_forward == {}
    assert other.envelope == SMTPEnvelope()


def test_sessions_are_equal_to_themselves_alone() -> None:
    """So that they can be keys of a dict or members of a set, whatever is in them."""
    one = SMTPSession(id="1")
    assert one != copy.copy(one)
    assert len({one, copy.copy(one)}) == 2


def test_an_address_is_shown_as_an_address() -> None:
    assert str(SMTPAddress("a@b", raw="A@B")) == f"{SMTPAddress('a@b')}" == "a@b"
    assert SMTPAddress("a@b").dsn == DSNRcpt(notify=None, orcpt=None)


def test_the_state_is_not_shown() -> None:
    """It is the application's, and may hold anything."""
    assert "secret" not in repr(SMTPSession(id="1", state={"token": "secret"}))
    assert "secret" not in repr(SMTPSession(id="1", user={"token": "secret"}))


# --- in a dialogue -----------------------------------------------------------------------------


def test_every_callback_gets_the_same_session() -> None:
    seen: list[tuple[str, int, dict[str, int]]] = []
    counter = itertools.count()

    def noting(*arguments: Any) -> str | None:
        session = arguments[-1]
        session.state["calls"] = next(counter)
        seen.append((session.id, id(session), dict(session.state)))
        return "me" if isinstance(arguments[0], Auth) else None

    names = ("on_connect", "on_secure", "on_auth", "on_mail_from", "on_rcpt_to", "on_close")
    with serving(**dict.fromkeys(names, noting), disabled_commands=()) as server:
        with connect(server) as client:
            client.hello()
            client.upgrade()
            client.expect(250, "EHLO client.example")
            client.expect(235, ATTEMPT)
            client.envelope()
            client.message()
        wait_until_idle(server)
    assert len(seen) == len(names)
    assert len({entry[:2] for entry in seen}) == 1
    assert [entry[2]["calls"] for entry in seen] == list(range(6))


def test_ids_are_unique() -> None:
    sessions: list[SMTPSession] = []
    with serving(on_connect=sessions.append) as server:
        for _ in range(20):
            with connect(server) as client:
                client.hello()
    assert len({session.id for session in sessions}) == 20
    assert all(len(session.id) >= 12 and session.id.isalnum() for session in sessions)


def test_what_is_known_at_each_stage() -> None:
    with (
        serving(disabled_commands=(), on_auth=lambda auth, session: "me") as server,
        connect(server) as client,
    ):
        client.reply()
        (session,) = server.connections
        assert (session.host_name_appears_as, session.opening_command) == (None, None)
        client.expect(250, "HELO one.example")
        assert (session.host_name_appears_as, session.opening_command) == (
            "one.example",
            "HELO",
        )
        assert session.transmission_type == "SMTP"
        client.expect(250, "EHLO two.example")
        assert (session.host_name_appears_as, session.opening_command) == (
            "two.example",
            "EHLO",
        )
        assert not session.secure
        sock = client.upgrade(trusting(), "mx.example")
        client.expect(250, "NOOP")
        assert (session.host_name_appears_as, session.opening_command) == (None, None)
        assert session.secure
        assert session.servername == "mx.example"
        cipher = sock.cipher()
        assert cipher is not None
        # The names of TLS 1.3 are the same to OpenSSL and to IANA.
        assert session.tls_options == TLSCipherInfo(cipher[0], cipher[0], "TLSv1.3")
        client.expect(250, "EHLO three.example")
        client.expect(235, ATTEMPT)
        assert session.user == "me"
        assert session.transmission_type == "ESMTPSA"


def test_both_names_of_a_cipher() -> None:
    with (
        serving(secure=True, max_version="TLSv1.2") as server,
        connect(server, tls=trusting()) as client,
    ):
        client.hello()
        (session,) = server.connections
        tls = session.tls_options
        assert tls is not None
        assert tls.version == "TLSv1.2"
        assert tls.name.startswith("ECDHE-")
        assert tls.standard_name is not None
        assert tls.standard_name.startswith("TLS_ECDHE_")


def test_each_transaction_has_an_envelope_of_its_own() -> None:
    envelopes: list[SMTPEnvelope] = []
    counted: list[int] = []

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        envelopes.append(session.envelope)
        counted.append(session.transaction)

    with serving(on_data=on_data) as server, connect(server) as client:
        client.hello()
        for sender in ("one@client.example", "two@client.example"):
            client.envelope(sender, "b@server.example", "c@server.example")
            assert client.message().code == 250
        (session,) = server.connections
        assert session.transaction == 2
        # It is over: what comes next starts anew, and what was kept is as it was.
        assert session.envelope == SMTPEnvelope()
    one, two = envelopes
    assert one is not two
    assert [str(each.mail_from) for each in envelopes] == [
        "one@client.example",
        "two@client.example",
    ]
    assert [str(address) for address in one.rcpt_to] == ["b@server.example", "c@server.example"]
    assert counted == [0, 1]


@pytest.mark.parametrize("command", ["RSET", "EHLO client.example", "HELO client.example"])
def test_a_transaction_that_is_given_up_is_not_counted(command: str) -> None:
    with serving() as server, connect(server) as client:
        client.hello()
        client.envelope()
        (session,) = server.connections
        before = session.envelope
        client.expect(250, command)
        assert session.envelope is not before
        assert session.envelope == SMTPEnvelope()
        assert session.transaction == 0


@pytest.mark.parametrize("error", [SMTPError("no"), LookupError("of the application")])
def test_a_transaction_that_is_refused_is_not_counted(error: Exception) -> None:
    def on_data(stream: DataStream, session: SMTPSession) -> None:
        raise error

    with serving(on_data=on_data) as server, connect(server) as client:
        client.hello()
        client.envelope()
        assert client.message().code >= 400
        (session,) = server.connections
        assert session.transaction == 0
        assert session.envelope == SMTPEnvelope()


@pytest.mark.parametrize(("accepted", "transactions"), [(2, 1), (1, 1), (0, 0)])
def test_in_lmtp_one_recipient_is_enough(accepted: int, transactions: int) -> None:
    results = [None] * accepted + [SMTPError("no")] * (2 - accepted)
    with (
        serving(lmtp=True, on_data=lambda stream, session: results) as server,
        connect(server) as client,
    ):
        client.hello("LHLO client.example")
        client.envelope("a@client.example", "b@server.example", "c@server.example")
        client.message()
        client.reply()
        assert server.connections[0].transaction == transactions


def test_what_mail_says_is_there_when_on_mail_from_runs() -> None:
    seen: list[SMTPEnvelope] = []

    def on_mail_from(address: SMTPAddress, session: SMTPSession) -> None:
        seen.append(copy.deepcopy(session.envelope))
        if address.address == "no@client.example":
            raise SMTPError("no")

    parameters = "SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb X-ODD"
    with serving(on_mail_from=on_mail_from) as server, connect(server) as client:
        client.hello()
        client.expect(550, f"MAIL FROM:<no@client.example> {parameters}")
        (session,) = server.connections
        # Forgotten, when it is refused.
        assert session.envelope == SMTPEnvelope()
        client.expect(250, f"MAIL FROM:<a@client.example> {parameters}")
        for envelope in (*seen, session.envelope):
            assert envelope.body_type == "8bitmime"
            assert envelope.smtp_utf8
            assert not envelope.require_tls
            assert envelope.dsn == DSNEnvelope("HDRS", "a+b")
        # What was not accepted yet is not in it.
        assert [envelope.mail_from for envelope in seen] == [None, None]
        sender = session.envelope.mail_from
        assert sender is not None
        assert sender.args["SIZE"] == "100"
        assert sender.args["X-ODD"] is True


def test_what_rcpt_says_is_there_when_on_rcpt_to_runs() -> None:
    seen: list[tuple[SMTPAddress, int]] = []

    def on_rcpt_to(address: SMTPAddress, session: SMTPSession) -> None:
        seen.append((address, len(session.envelope.rcpt_to)))
        if address.address == "no@Server.Example":
            raise SMTPError("no")

    with serving(on_rcpt_to=on_rcpt_to) as server, connect(server) as client:
        client.hello()
        client.expect(250, "MAIL FROM:<>")
        for name, code in (("no", 550), ("yes", 250), ("also", 250)):
            client.expect(
                code,
                f"RCPT TO:<{name}@Server.Example> "
                "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bc@server.example",
            )
        (session,) = server.connections
        accepted = session.envelope.rcpt_to
        assert session.envelope.mail_from is not None
        assert session.envelope.mail_from.address == ""
    assert [address.address for address in accepted] == [
        "yes@Server.Example",
        "also@Server.Example",
    ]
    assert [count for _, count in seen] == [0, 0, 1]
    for address, _ in seen:
        assert address.dsn == DSNRcpt(["SUCCESS", "DELAY"], "rfc822;b+c@server.example")
        assert address.raw.endswith("@Server.Example")
