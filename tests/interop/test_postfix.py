"""Postfix relays its queue to us."""

from __future__ import annotations

import re
import smtplib
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any, cast

import pytest

from blocksmtp import SMTPError, SMTPSession
from tests.certificates import Authority

from .conftest import StartPostfix
from .postfix import SMTPD_HOST, Postfix, relayed
from .serving import AWKWARD, HOST, NAME, TIMEOUT, Received, Serve, Served, large_message

FROM = "alice@example.com"
TO = "bob@example.net"


def submit(postfix: Postfix) -> smtplib.SMTP:
    """A client of Postfix, which hands in messages."""
    return smtplib.SMTP(SMTPD_HOST, postfix.port, "submitter.example.com", timeout=TIMEOUT)


def by_smtp(served: Served) -> dict[str, str]:
    """All domains are relayed to the server."""
    return {"*": f"smtp:[{HOST}]:{served.port}"}


def queue_id(message: Received) -> str:
    """Postfix's own identifier of the message, from its trace header."""
    trace, _ = relayed(message.content)
    match = re.search(rb" id (\w+)", trace)
    assert match is not None
    return match[1].decode()


# --- SMTP --------------------------------------------------------------------------------------


def test_several_messages_with_xforward(serve: Serve, postfix: StartPostfix) -> None:
    served = serve(use_xforward=[HOST])
    relay = postfix(
        by_smtp(served),
        smtp_send_xforward_command="yes",
        smtp_tls_security_level="none",
        # All messages take the same connection.
        smtp_connection_cache_destinations="static:all",
        smtp_connection_cache_time_limit=f"{TIMEOUT:.0f}s",
        # It is told by XCLIENT whom the messages come from.
        smtpd_authorized_xclient_hosts="127.0.0.0/8",
    )
    contents = [AWKWARD, large_message(300_000), b"Subject: short\r\n\r\n"]
    clients = [
        {"ADDR": "192.0.2.7", "PORT": "4711", "NAME": "seven.example.com", "PROTO": "ESMTP"},
        {"ADDR": "192.0.2.8", "PORT": "4712", "NAME": "[UNAVAILABLE]", "PROTO": "SMTP"},
        {"ADDR": "192.0.2.9", "PORT": "4713", "NAME": "nine.example.com", "PROTO": "ESMTP"},
    ]
    helos = ["seven", "helo+eight", "[192.0.2.9]"]
    for client, helo, content in zip(clients, helos, contents, strict=True):
        given = {**client, "HELO": helo.replace("+", "+2B")}
        with submit(relay) as smtp:
            smtp.ehlo()
            arguments = " ".join(f"{name}={value}" for name, value in given.items())
            assert smtp.docmd("XCLIENT", arguments)[0] == 220
            smtp.sendmail(FROM, [TO], content)
        relay.log.wait_for("status=sent", count=contents.index(content) + 1)
    messages = served.mailbox.wait_for(3)
    assert [relayed(message.content)[1] for message in messages] == contents
    for message, client, helo in zip(messages, clients, helos, strict=True):
        # Of what is unavailable Postfix says nothing: what held for the last message must not
        # hold for this one.
        known = {name: value for name, value in client.items() if value != "[UNAVAILABLE]"}
        told = {"HELO": helo, "IDENT": queue_id(message), "SOURCE": "REMOTE"}
        assert message.session.x_forward == {**known, **told}
        # That is only noted down.
        assert message.session.remote_address == HOST
        assert message.session.host_name_appears_as == "relay.example.net"
    assert len({message.session.id for message in messages}) == 1
    assert [message.session.transaction for message in messages] == [0, 1, 2]
    for message in messages:
        relay.log.wait_for(f"{queue_id(message)}: removed")
    assert relay.queued() == []


def test_xforward_is_not_offered_to_others(serve: Serve, postfix: StartPostfix) -> None:
    served = serve(use_xforward=["192.0.2.0/24"])
    relay = postfix(
        by_smtp(served), smtp_send_xforward_command="yes", smtp_tls_security_level="none"
    )
    with submit(relay) as smtp:
        smtp.sendmail(FROM, TO, AWKWARD)
    (message,) = served.mailbox.wait_for(1)
    assert message.session.x_forward == {}


@pytest.mark.parametrize(
    ("level", "told"),
    [("may", "Untrusted"), ("verify", "Verified"), ("secure", "Verified")],
)
def test_tls(
    serve: Serve,
    postfix: StartPostfix,
    tls: dict[str, Any],
    authority: Authority,
    ca_file: Path,
    level: str,
    told: str,
) -> None:
    served = serve(**tls)
    trusting: dict[str, Any] = {} if level == "may" else {"smtp_tls_CAfile": str(ca_file)}
    relay = postfix(
        by_smtp(served),
        smtp_tls_security_level=level,
        smtp_tls_loglevel="1",
        smtp_tls_verify_cert_match=NAME,
        smtp_tls_secure_cert_match=NAME,
        **trusting,
    )
    with submit(relay) as smtp:
        smtp.sendmail(FROM, TO, AWKWARD)
    (message,) = served.mailbox.wait_for(1)
    assert relayed(message.content)[1] == AWKWARD
    assert message.session.transmission_type == "ESMTPS"
    cipher = message.session.tls_options
    assert cipher is not None
    relay.log.wait_for(
        f"{told} TLS connection established to {HOST}",
        f"{cipher.version} with cipher {cipher.name} ",
    )
    relay.log.wait_for("status=sent (250 2.6.0 OK: message queued)")


def test_a_server_that_is_not_trusted_gets_no_message(
    serve: Serve, postfix: StartPostfix, ca_file: Path
) -> None:
    served = serve()
    relay = postfix(
        by_smtp(served),
        smtp_tls_security_level="verify",
        smtp_tls_CAfile=str(ca_file),
        smtp_tls_verify_cert_match=NAME,
    )
    with submit(relay) as smtp:
        smtp.sendmail(FROM, TO, AWKWARD)
    relay.log.wait_for("status=deferred (Server certificate not verified)")
    assert served.mailbox.messages == []


def test_internationalised_addresses(serve: Serve, postfix: StartPostfix) -> None:
    served = serve()
    relay = postfix(by_smtp(served), smtp_tls_security_level="none")
    content = "Subject: Grüße\r\nTo: jürgen@example.net\r\n\r\nSchöne Grüße\r\n".encode()
    with submit(relay) as smtp:
        options = ["SMTPUTF8", "BODY=8BITMIME"]
        smtp.ehlo()
        smtp.command_encoding = "utf-8"
        smtp.sendmail("älice@example.com", "jürgen@example.net", content, mail_options=options)
    (message,) = served.mailbox.wait_for(1)
    assert relayed(message.content)[1] == content
    assert (message.sender, message.recipients) == ("älice@example.com", ["jürgen@example.net"])
    assert message.envelope.smtp_utf8
    assert message.envelope.body_type == "8bitmime"


def test_delivery_status_options(serve: Serve, postfix: StartPostfix) -> None:
    served = serve(hide_dsn=False)
    relay = postfix(by_smtp(served), smtp_tls_security_level="none")
    with submit(relay) as smtp:
        smtp.sendmail(
            FROM,
            TO,
            AWKWARD,
            mail_options=["RET=HDRS", "ENVID=QQ+2B1"],
            rcpt_options=["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;Bob+2Bx@example.net"],
        )
    envelope = served.mailbox.wait_for(1)[0].envelope
    assert (envelope.dsn.ret, envelope.dsn.envid) == ("HDRS", "QQ+1")
    (recipient,) = envelope.rcpt_to
    assert recipient.dsn.notify == ["FAILURE", "DELAY"]
    assert recipient.dsn.orcpt == "rfc822;Bob+x@example.net"


def test_a_defect_of_the_application_only_delays(serve: Serve, postfix: StartPostfix) -> None:
    failing = True

    def on_data(stream: Any, session: SMTPSession) -> None:
        if failing:
            raise KeyError("a secret")
        served.mailbox.on_data(stream, session)

    served = serve(on_data=on_data)
    relay = postfix(by_smtp(served), smtp_tls_security_level="none")
    with submit(relay) as smtp:
        smtp.sendmail(FROM, TO, AWKWARD)
    (line,) = relay.log.wait_for("status=deferred")
    assert "451 4.3.0 Error: internal server error, try again later" in line
    assert "secret" not in line
    assert [type(error) for error in served.errors] == [KeyError]
    served.errors.clear()
    failing = False
    relay.flush()
    (message,) = served.mailbox.wait_for(1)
    assert relayed(message.content)[1] == AWKWARD


# --- LMTP --------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["tcp", "unix"])
def test_lmtp_with_a_reply_for_each_recipient(
    serve: Serve, postfix: StartPostfix, tmp_path_factory: pytest.TempPathFactory, over: str
) -> None:
    deferring = True

    def on_data(stream: Any, session: SMTPSession) -> dict[str, SMTPError | str]:
        served.mailbox.on_data(stream, session)
        answers: dict[str, SMTPError | str] = {
            "kept@example.net": "stored as 4711",
            "gone@example.net": SMTPError("mailbox disabled", 550, "5.2.1"),
        }
        if deferring:
            answers["full@example.net"] = SMTPError("mailbox full", 452, "4.2.2")
        return answers

    def on_rcpt_to(address: Any, session: SMTPSession) -> None:
        if address.address.startswith("nobody"):
            raise SMTPError("No such user", 550)

    folder = tmp_path_factory.mktemp("postfix")
    if over == "unix":
        # In the queue: see there.
        (folder / "queue").mkdir()
        served = serve(
            folder / "queue" / "mailboxes",
            mode=0o666,
            lmtp=True,
            on_data=on_data,
            on_rcpt_to=on_rcpt_to,
        )
        hop = "lmtp:unix:mailboxes"
    else:
        served = serve(lmtp=True, on_data=on_data, on_rcpt_to=on_rcpt_to)
        hop = f"lmtp:inet:{HOST}:{served.port}"
    # What bounces goes back the other way, to a server of its own.
    sender = serve()
    transports = {"example.net": hop, "example.com": f"smtp:[{HOST}]:{sender.port}"}
    levels: dict[str, Any] = {"smtp_tls_security_level": "none", "lmtp_tls_security_level": "none"}
    relay = postfix(transports, folder, **levels)
    names = ("kept", "full", "gone", "nobody")
    with submit(relay) as smtp:
        smtp.sendmail(FROM, [f"{name}@example.net" for name in names], AWKWARD)

    # All four outcomes in one delivery, each told to Postfix as it was meant.
    (message,) = served.mailbox.wait_for(1)
    assert relayed(message.content)[1] == AWKWARD
    accepted = {"kept@example.net", "full@example.net", "gone@example.net"}
    assert set(message.recipients) == accepted
    assert message.session.transmission_type == "LMTP"
    assert message.session.opening_command == "LHLO"
    relay.log.wait_for("to=<kept@", "dsn=2.6.0, status=sent", "250 2.6.0 stored as 4711")
    relay.log.wait_for("to=<full@", "dsn=4.2.2, status=deferred", "452 4.2.2 mailbox full")
    relay.log.wait_for("to=<gone@", "dsn=5.2.1, status=bounced", "550 5.2.1 mailbox disabled")
    relay.log.wait_for("to=<nobody@", "dsn=5.1.1, status=bounced", "550 5.1.1 No such user")

    # The bounce names those two, and nobody else.
    (bounce,) = sender.mailbox.wait_for(1)
    assert (bounce.sender, bounce.recipients) == ("", [FROM])
    (report,) = [
        part
        for part in message_from_bytes(bounce.content).walk()
        if part.get_content_type() == "message/delivery-status"
    ]
    # One block on the message itself, then one a recipient.
    _, *blocks = cast("list[Message]", report.get_payload())
    assert {(block["Final-Recipient"], block["Status"]) for block in blocks} == {
        ("rfc822; gone@example.net", "5.2.1"),
        ("rfc822; nobody@example.net", "5.1.1"),
    }

    # The deferred one alone is tried again.
    deferring = False
    relay.flush()
    _, second = served.mailbox.wait_for(2)
    assert second.recipients == ["full@example.net"]
    assert relayed(second.content)[1] == AWKWARD
    relay.log.wait_for("to=<full@", "status=sent", "250 2.6.0 OK: message queued")
    relay.log.wait_for(f"{queue_id(message)}: removed")
    assert relay.queued() == []


def test_lmtp_with_tls(serve: Serve, postfix: StartPostfix, tls: dict[str, Any]) -> None:
    served = serve(lmtp=True, **tls)
    relay = postfix({"*": f"lmtp:inet:{HOST}:{served.port}"}, lmtp_tls_security_level="encrypt")
    with submit(relay) as smtp:
        smtp.sendmail(FROM, [TO, "carol@example.net"], AWKWARD)
    (message,) = served.mailbox.wait_for(1)
    assert relayed(message.content)[1] == AWKWARD
    assert message.recipients == [TO, "carol@example.net"]
    assert message.session.transmission_type == "LMTPS"
    relay.log.wait_for("status=sent", count=2)


def test_postfix_starts_again_where_another_has_ended(serve: Serve, postfix: StartPostfix) -> None:
    served = serve()
    for number in (1, 2):
        relay = postfix(by_smtp(served), smtp_tls_security_level="none")
        with submit(relay) as smtp:
            smtp.sendmail(FROM, TO, AWKWARD)
        served.mailbox.wait_for(number)
