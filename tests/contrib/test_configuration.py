"""What frameworks' settings have in common."""

from __future__ import annotations

import pytest

from blocksmtp import SMTPAddress, SMTPError
from blocksmtp.contrib.configuration import (
    Configuration,
    check_recipient,
    is_recipient_domain,
    parse_address,
)


def test_defaults() -> None:
    configured = Configuration.of({})
    assert (configured.host, configured.port, configured.atomic) == ("127.0.0.1", 2525, True)
    assert configured.server_options(str) == {"auth_optional": True}


def test_options() -> None:
    configured = Configuration.of(
        {"ATOMIC": "other", "OPTIONS": {"onAuth": "a.b", "lmtp": True, "socketTimeout": 60_000}}
    )
    assert configured.atomic == ("other",)
    options = configured.server_options(str.upper)
    assert options == {"on_auth": "A.B", "lmtp": True, "socket_timeout": 60.0}


def test_options_that_come_first() -> None:
    configured = Configuration.of({"OPTIONS": {"onData": "a", "size": 1}})
    options = configured.server_options(str, {"on_data": "b", "onAuth": "c"})
    assert options == {"on_data": "b", "on_auth": "c", "size": 1}
    with pytest.raises(TypeError, match="the same option"):
        configured.server_options(str, {"on_data": "b", "onData": "c"})


def test_an_option_that_is_none() -> None:
    with pytest.raises(TypeError, match="did you mean 'size'"):
        Configuration.of({"OPTIONS": {"sise": 1}}).server_options(str)


@pytest.mark.parametrize(
    ("domain", "pattern", "ours"),
    [
        ("example.com", "example.com", True),
        ("EXAMPLE.com", "Example.COM", True),
        ("mail.example.com", "example.com", False),
        ("mail.example.com", ".example.com", True),
        ("example.com", ".example.com", True),
        ("badexample.com", ".example.com", False),
        ("anything", "*", True),
        ("", "example.com", False),
    ],
)
def test_recipient_domains(domain: str, pattern: str, ours: bool) -> None:
    assert is_recipient_domain(domain, ["nothing", pattern]) is ours


def test_recipients() -> None:
    check_recipient(SMTPAddress("a@example.com"), ["example.com"])
    check_recipient(SMTPAddress('"a@b"@example.com'), ["example.com"])
    check_recipient(SMTPAddress("Postmaster"), [])
    for address in ("a@example.org", "bob", "postmaster@example.org"):
        with pytest.raises(SMTPError) as refused:
            check_recipient(SMTPAddress(address), ["example.com"])
        assert refused.value.response_code == 550


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2525", (None, 2525)),
        ("0.0.0.0:25", ("0.0.0.0", 25)),
        ("mx.example.com:25", ("mx.example.com", 25)),
        ("[::1]:0", ("::1", 0)),
    ],
)
def test_addresses(text: str, found: tuple[str | None, int]) -> None:
    assert parse_address(text) == found


@pytest.mark.parametrize("text", ["", "x", ":25", "1:2:3", "::1:25", "65536", "-1", "[::1]", "²"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a valid port number"):
        parse_address(text)
