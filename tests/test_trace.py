"""The Received header."""

from __future__ import annotations

import email
import email.policy
import re
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksmtp import DataStream, SMTPAddress, SMTPSession, TLSCipherInfo
from blocksmtp.trace import address_literal
from tests.client import connect, serving, trusting


def session(**fields: Any) -> SMTPSession:
    return SMTPSession(
        **{
            "id": "abc",
            "server_name": "mx.example",
            "opening_command": "EHLO",
            "host_name_appears_as": "client.example",
            "client_hostname": "real.example",
            "remote_address": "192.0.2.1",
            **fields,
        }
    )


def header(**fields: Any) -> str:
    """The header without its date."""
    octets = session(**fields).received_header()
    assert octets.endswith(b"\r\n")
    text, _, date = octets[:-2].decode("ascii").rpartition(";\r\n\t")
    assert parsedate_to_datetime(date) is not None
    return text


def test_the_whole_header() -> None:
    assert header() == (
        "Received: from client.example\r\n"
        "\t(real.example [192.0.2.1])\r\n"
        "\tby mx.example\r\n"
        "\twith ESMTP id abc-1"
    )


def test_the_date_is_now_with_a_zone() -> None:
    date = session().received_header().decode().rpartition(";")[2].strip()
    parsed = parsedate_to_datetime(date)
    assert parsed.tzinfo is not None
    assert abs((datetime.now(timezone.utc) - parsed).total_seconds()) < 60
    # RFC 5322, section 3.3
    assert re.fullmatch(r"\w{3}, \d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2} [+-]\d{4}", date)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"client_hostname": "[192.0.2.1]"}, "\t([192.0.2.1])"),
        ({"client_hostname": ""}, "\t([192.0.2.1])"),
        ({"remote_address": "2001:db8::1"}, "\t(real.example [IPv6:2001:db8::1])"),
        (
            {"client_hostname": "[2001:db8::1]", "remote_address": "2001:db8::1"},
            "\t([IPv6:2001:db8::1])",
        ),
        ({"host_name_appears_as": "[192.0.2.1]"}, "Received: from [192.0.2.1]"),
        ({"host_name_appears_as": "[IPv6:::1]"}, "Received: from [IPv6:::1]"),
        ({"host_name_appears_as": "my_box.example"}, "Received: from my_box.example"),
        ({"host_name_appears_as": None}, "Received: from real.example"),
        ({"transaction": 7}, "\twith ESMTP id abc-8"),
        ({"secure": True, "user": "me"}, "\twith ESMTPSA id abc-1"),
        ({"lmtp": True}, "\twith LMTP id abc-1"),
        (
            {"tls_options": TLSCipherInfo("TLS_AES_128_GCM_SHA256", None, "TLSv1.3")},
            "\t(using TLSv1.3 with cipher TLS_AES_128_GCM_SHA256)",
        ),
        (
            {"tls_options": TLSCipherInfo("ECDHE-RSA-AES128-GCM-SHA256", None, None)},
            "\t(using TLS with cipher ECDHE-RSA-AES128-GCM-SHA256)",
        ),
    ],
)
def test_what_is_known_of_the_client(fields: dict[str, Any], line: str) -> None:
    assert line in header(**fields).split("\r\n")


def test_a_client_without_an_address() -> None:
    """Of a Unix socket, or hidden by XCLIENT."""
    assert header(remote_address="", client_hostname="localhost") == (
        "Received: from client.example\r\n\tby mx.example\r\n\twith ESMTP id abc-1"
    )


@pytest.mark.parametrize(
    ("recipients", "expected"),
    [
        ([], None),
        (["b@server.example"], "\tfor <b@server.example>"),
        (['"b c"@server.example'], '\tfor <"b c"@server.example>'),
        # RFC 5321, section 7.6: no recipient shall learn of the others.
        (["b@server.example", "c@server.example"], None),
        (["jürgen@server.example"], None),
    ],
)
def test_a_single_recipient(recipients: list[str], expected: str | None) -> None:
    mine = session()
    mine.envelope.rcpt_to = [SMTPAddress(address) for address in recipients]
    lines = mine.received_header().decode("ascii").split("\r\n")
    found = [line for line in lines if line.startswith("\tfor")]
    assert found == ([] if expected is None else [f"{expected};"])


@pytest.mark.parametrize("field", ["host_name_appears_as", "client_hostname", "remote_address"])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nX: y", "a??X:?y"),
        ("a b", "a?b"),
        ("a(b)", "a?b?"),
        ('a"b', "a?b"),
        ("a;b", "a?b"),
        ("a\\b", "a?b"),
        ("<a@b>", "?a?b?"),
        ("ä,\0", "???"),
        ("[", "?"),
        ("a[192.0.2.1]", "a?192.0.2.1?"),
    ],
)
def test_nothing_foreign_changes_what_the_header_means(field: str, text: str, shown: str) -> None:
    found = header(**{field: text})
    assert shown in found
    assert found == header(**{field: shown})


@given(st.text(), st.text(), st.text())
def test_it_is_always_one_header(helo: str, hostname: str, address: str) -> None:
    octets = session(
        host_name_appears_as=helo, client_hostname=hostname, remote_address=address
    ).received_header()
    assert octets.isascii()
    message = email.message_from_bytes(octets + b"\r\n", policy=email.policy.SMTP)
    assert message.keys() == ["Received"]
    assert not message.defects
    assert octets.count(b";") == 1


@pytest.mark.parametrize(
    ("address", "literal"),
    [
        ("192.0.2.1", "[192.0.2.1]"),
        ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ("no address", "[no?address]"),
        ("", "[]"),
    ],
)
def test_address_literals(address: str, literal: str) -> None:
    assert address_literal(address) == literal


def test_the_header_of_a_real_message() -> None:
    received: list[bytes] = []

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        received.append(session.received_header() + stream.read())

    with serving(on_data=on_data, disabled_commands=()) as server, connect(server) as client:
        client.hello()
        client.upgrade(trusting())
        client.expect(250, "EHLO client.example")
        for _ in range(2):
            client.envelope("a@client.example", "b@server.example")
            assert client.message(b"Subject: test\r\n\r\n").code == 250
        (live,) = server.connections
    for number, octets in enumerate(received, 1):
        message = email.message_from_bytes(octets, policy=email.policy.SMTP)
        assert message["Subject"] == "test"
        trace = " ".join(str(message["Received"]).split())
        assert trace.startswith("from client.example ([127.0.0.1]) (using TLSv1.3 with cipher TLS_")
        assert f"by mx.example with ESMTPS id {live.id}-{number} for <b@server.example>;" in trace
