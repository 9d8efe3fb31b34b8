"""The SASL mechanisms as generators: responses in, challenges and credentials out."""

from __future__ import annotations

import hmac
import json
from typing import Any

import pytest

from blocksmtp.auth import (
    Auth,
    AuthResponse,
    CramMD5Auth,
    LoginAuth,
    PlainAuth,
    ScramAuth,
    XOAuth2Auth,
)
from blocksmtp.options import AUTH_METHODS
from blocksmtp.protocol.sasl import (
    MECHANISMS,
    CredentialsWrong,
    Exchange,
    MechanismError,
    Surroundings,
)
from tests.scram_client import ScramClient

ACCEPTED = AuthResponse("alice")
REFUSED = AuthResponse()


def begin(method: str, initial: bytes | None) -> tuple[Exchange, Any]:
    """The exchange, and the first that it yields."""
    exchange = MECHANISMS[method](initial, Surroundings("mx.example.org"))
    return exchange, exchange.send(None)


def ended(exchange: Exchange, response: Any) -> bool:
    try:
        exchange.send(response)
    except StopIteration:
        return True
    return False


def test_each_mechanism_of_the_options_is_there() -> None:
    assert set(MECHANISMS) == set(AUTH_METHODS)


# --- PLAIN (RFC 4616) --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "username", "authzid", "authcid", "password"),
    [
        (b"\0alice\0secret", "alice", "", "alice", "secret"),
        (b"bob\0alice\0secret", "alice", "bob", "alice", "secret"),
        (b"bob\0\0secret", "bob", "bob", "", "secret"),
        (b"\0alice\0", "alice", "", "alice", ""),
        ("\0jürgen\0grüße".encode(), "jürgen", "", "jürgen", "grüße"),
        (b"\0alice\0 \x01\n", "alice", "", "alice", " \x01\n"),
    ],
)
def test_plain(message: bytes, username: str, authzid: str, authcid: str, password: str) -> None:
    expected = PlainAuth("PLAIN", username, password, authzid, authcid)
    exchange, presented = begin("PLAIN", message)
    assert presented == expected
    assert ended(exchange, ACCEPTED)

    exchange, challenge = begin("PLAIN", None)
    assert challenge == b""
    assert exchange.send(message) == expected


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"alice",
        b"alice\0secret",
        b"\0alice\0secret\0",
        b"\0\0secret",
        b"\0al\0ice\0secret",
        b"\0al\nice\0secret",
        b"\0al\x7fice\0secret",
        "\0al\x85ice\0secret".encode(),
        b"b\tob\0alice\0secret",
        b"\0\xe4\0secret",
        b"\xe4\0alice\0secret",
        b"\0alice\0\xe4",
    ],
)
def test_plain_malformed(message: bytes) -> None:
    with pytest.raises(MechanismError):
        begin("PLAIN", message)


def test_no_password_in_the_error() -> None:
    with pytest.raises(MechanismError) as caught:
        begin("PLAIN", b"\0alice\0secret\xff")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "secret" not in str(caught.value)


# --- LOGIN -------------------------------------------------------------------------------------


def test_login() -> None:
    exchange, challenge = begin("LOGIN", None)
    assert challenge == b"Username:"
    assert exchange.send(b"alice") == b"Password:"
    assert exchange.send("grüße".encode()) == LoginAuth("LOGIN", "alice", "grüße")
    assert ended(exchange, REFUSED)


def test_login_with_the_name_at_once() -> None:
    exchange, challenge = begin("LOGIN", b"alice")
    assert challenge == b"Password:"
    assert exchange.send(b"") == LoginAuth("LOGIN", "alice", "")


@pytest.mark.parametrize("name", [b"", b"al\0ice", b"al\x1bice", "al\x9bice".encode(), b"\xff"])
def test_login_bad_name(name: bytes) -> None:
    with pytest.raises(MechanismError):
        begin("LOGIN", name)
    exchange, _ = begin("LOGIN", None)
    with pytest.raises(MechanismError):
        exchange.send(name)


def test_login_bad_password() -> None:
    exchange, _ = begin("LOGIN", b"alice")
    with pytest.raises(MechanismError):
        exchange.send(b"\xff")


# --- CRAM-MD5 (RFC 2195) -----------------------------------------------------------------------


def digest(challenge: bytes, password: str) -> bytes:
    return hmac.new(password.encode(), challenge, "md5").hexdigest().encode()


def test_cram_md5() -> None:
    exchange, challenge = begin("CRAM-MD5", None)
    assert challenge.startswith(b"<")
    assert challenge.endswith(b"@mx.example.org>")
    presented = exchange.send(b"alice " + digest(challenge, "grüße").upper())
    assert isinstance(presented, CramMD5Auth)
    assert (presented.method, presented.username) == ("CRAM-MD5", "alice")
    assert presented.challenge == challenge.decode()
    assert presented.validate_password("grüße")
    assert presented.validate_password("grüße".encode())
    assert not presented.validate_password("wrong")
    assert not presented.validate_password("")
    assert ended(exchange, ACCEPTED)


def test_cram_md5_example_of_the_rfc() -> None:
    presented = CramMD5Auth(
        "CRAM-MD5",
        "tim",
        "<1896.697170952@postoffice.reston.mci.net>",
        "b913a602c7eda7a495b4e6e7334d3890",
    )
    assert presented.validate_password("tanstaaftanstaaf")


def test_cram_md5_challenges_differ() -> None:
    assert begin("CRAM-MD5", None)[1] != begin("CRAM-MD5", None)[1]


def test_cram_md5_name_with_spaces() -> None:
    """The digest is the last word."""
    exchange, challenge = begin("CRAM-MD5", None)
    assert exchange.send(b"alice b " + digest(challenge, "x")).username == "alice b"  # type: ignore[union-attr]


@pytest.mark.parametrize("initial", [b"", b"alice"])
def test_cram_md5_takes_no_initial_response(initial: bytes) -> None:
    with pytest.raises(MechanismError):
        begin("CRAM-MD5", initial)


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"alice",
        b"alice 0123",
        b"alice " + b"g" * 32,
        b"0" * 32,
        b" " + b"0" * 32,
        b"alice " + b"0" * 33,
        b"al\x01ice " + b"0" * 32,
        b"\xff " + b"0" * 32,
        b"alice " + b"0" * 32 + b"\n",
    ],
)
def test_cram_md5_malformed(response: bytes) -> None:
    exchange, _ = begin("CRAM-MD5", None)
    with pytest.raises(MechanismError):
        exchange.send(response)


# --- XOAUTH2 -----------------------------------------------------------------------------------

GOOD = b"user=alice@example.org\x01auth=Bearer ya29.a-b_c~d+e/f=\x01\x01"


def test_xoauth2() -> None:
    expected = XOAuth2Auth("XOAUTH2", "alice@example.org", "ya29.a-b_c~d+e/f=")
    exchange, presented = begin("XOAUTH2", GOOD)
    assert presented == expected
    assert ended(exchange, ACCEPTED)
    exchange, challenge = begin("XOAUTH2", None)
    assert challenge == b""
    assert exchange.send(GOOD.replace(b"Bearer", b"bearer")) == expected


def test_xoauth2_refused_without_data() -> None:
    exchange, _ = begin("XOAUTH2", GOOD)
    assert ended(exchange, REFUSED)


@pytest.mark.parametrize("data", [{}, {"status": "401", "schemes": "bearer"}])
def test_xoauth2_refused_with_data(data: dict[str, str]) -> None:
    exchange, _ = begin("XOAUTH2", GOOD)
    challenge = exchange.send(AuthResponse(data=data))
    assert isinstance(challenge, bytes)
    assert json.loads(challenge) == data
    assert ended(exchange, b"")


def test_xoauth2_accepted_with_data() -> None:
    """The data is for a refusal only."""
    exchange, _ = begin("XOAUTH2", GOOD)
    assert ended(exchange, AuthResponse("alice", data={"status": "200"}))


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"user=alice",
        b"user=alice\x01auth=Bearer token\x01",
        b"user=alice\x01auth=Bearer token\x01\x01\x01",
        b"user=alice\x01auth=Bearer \x01\x01",
        b"user=alice\x01auth=Bearer to ken\x01\x01",
        b"user=alice\x01auth=Basic token\x01\x01",
        b"user=\x01auth=Bearer token\x01\x01",
        b"user=al\nice\x01auth=Bearer token\x01\x01",
        b"user=\xff\x01auth=Bearer token\x01\x01",
        b"user=alice\x01auth=Bearer t\xc3\xb6ken\x01\x01",
        GOOD + b"\n",
    ],
)
def test_xoauth2_malformed(response: bytes) -> None:
    with pytest.raises(MechanismError):
        begin("XOAUTH2", response)


# --- secrets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "presented",
    [
        PlainAuth("PLAIN", "alice", "the secret", "", "alice"),
        LoginAuth("LOGIN", "alice", "the secret"),
        CramMD5Auth("CRAM-MD5", "alice", "<the secret>", "the secret"),
        XOAuth2Auth("XOAUTH2", "alice", "the secret"),
    ],
    ids=lambda presented: presented.method,
)
def test_a_repr_shows_the_name_and_no_secret(presented: Auth) -> None:
    assert "alice" in repr(presented)
    assert "secret" not in repr(presented)


# --- SCRAM-SHA-256 (RFC 5802, RFC 7677) --------------------------------------------------------


def scram_begun() -> tuple[Exchange, bytes, ScramClient]:
    """An exchange that waits for the client's proof, the nonce, and the client."""
    client = ScramClient("alice", "secret")
    exchange, server_first = begin("SCRAM-SHA-256", client.first)
    nonce = server_first.split(b",")[0].removeprefix(b"r=")
    assert nonce.startswith(b"rOprNGfwEbeRWgbNEkqO")
    assert len(nonce) == 20 + 24
    client.final(server_first)
    return exchange, nonce, client


PROOF = b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="


@pytest.mark.parametrize(
    "final",
    [
        b"",
        b"c=biws,r=%s",
        b"c=biws,r=%s,p=",
        b"c=biws,r=%s,p=" + PROOF[:-1],
        b"c=biws,r=%s,p=" + PROOF[:-4] + b"dVQ=dVQ=",
        b"c=biws,r=%s,p=" + PROOF + b",x=y",
        b"c=biws,r=%sx,p=" + PROOF,
        b"c=bi=s,r=%s,p=" + PROOF,
        b"c=biw,r=%s,p=" + PROOF,
        b"c=,r=%s,p=" + PROOF,
        b"r=%s,c=biws,p=" + PROOF,
        b"n,c=biws,r=%s,p=" + PROOF,
    ],
)
def test_a_final_message_of_scram_that_is_none(final: bytes) -> None:
    exchange, nonce, _ = scram_begun()
    with pytest.raises(MechanismError):
        exchange.send(final % nonce if b"%s" in final else final)


@pytest.mark.parametrize("binding", [b"eSws", b"biwsYQ==", b"bixhPWJvYiw="])
def test_a_header_that_is_another_at_the_end(binding: bytes) -> None:
    """Somebody in between has changed it (RFC 5802, section 6)."""
    exchange, nonce, _ = scram_begun()
    with pytest.raises(CredentialsWrong):
        exchange.send(b"c=%s,r=%s,p=%s" % (binding, nonce, PROOF))


def test_extensions_of_scram_are_passed_over_and_signed() -> None:
    client = ScramClient("alice", "secret")
    exchange, server_first = begin("SCRAM-SHA-256", client.first + b",x=y")
    auth = exchange.send(client.final(server_first))
    assert isinstance(auth, ScramAuth)
    assert not auth.validate_password("secret"), "the client did not sign what it sent"


def test_scram_knows_the_password_or_not() -> None:
    client = ScramClient("j\u00fcrgen", "secret", header=b"n,a=b=2Cb=3D,")
    exchange, server_first = begin("SCRAM-SHA-256", client.first)
    auth = exchange.send(client.final(server_first))
    assert isinstance(auth, ScramAuth)
    assert (auth.method, auth.username) == ("SCRAM-SHA-256", "j\u00fcrgen")
    assert auth.authzid == "b,b="
    for wrong in ("Secret", "", None):
        assert not auth.validate_password(wrong)
        assert not auth.verified
    assert auth.validate_password("secret")
    assert auth.verified
    assert exchange.send(ACCEPTED) == client.expected
    assert ended(exchange, b"")
