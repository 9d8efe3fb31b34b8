"""What on_auth gets, and what it may answer."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

import pytest

import blocksmtp
from blocksmtp import (
    Auth,
    AuthResponse,
    CramMD5Auth,
    ExternalAuth,
    LoginAuth,
    OAuthBearerAuth,
    PlainAuth,
    ScramAuth,
    SMTPSession,
    XClientAuth,
    XOAuth2Auth,
)
from blocksmtp.scram import ScramProof
from tests.client import Client, connect, serving

# RFC 2195, section 2
CHALLENGE = "<1896.697170952@postoffice.reston.mci.net>"
DIGEST = "b913a602c7eda7a495b4e6e7334d3890"
PASSWORD = "tanstaaftanstaaf"

OBJECTS: list[tuple[Auth, list[str]]] = [
    (PlainAuth("PLAIN", "tim", "hidden", "", "tim"), ["hidden"]),
    (LoginAuth("LOGIN", "tim", "hidden"), ["hidden"]),
    (CramMD5Auth("CRAM-MD5", "tim", CHALLENGE, DIGEST), [CHALLENGE, DIGEST]),
    (XOAuth2Auth("XOAUTH2", "tim", "hidden"), ["hidden"]),
    (XClientAuth("XCLIENT", "tim"), []),
    (OAuthBearerAuth("OAUTHBEARER", "tim", "hidden"), ["hidden"]),
    (ScramAuth("SCRAM-SHA-256", "tim", "", ScramProof(b"s", 1, b"m", b"hidden")), ["hidden"]),
    (ExternalAuth("EXTERNAL", "tim", None), ["certificate"]),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("auth", "secrets"), OBJECTS, ids=lambda value: type(value).__name__)
def test_no_repr_shows_a_secret(auth: Auth, secrets: list[str]) -> None:
    assert "tim" in repr(auth)
    for shown in (repr(auth), str(auth), f"{auth}"):
        assert not [secret for secret in secrets if secret in shown]


@pytest.mark.parametrize(("auth", "secrets"), OBJECTS, ids=lambda value: type(value).__name__)
def test_what_the_client_said_cannot_be_changed(auth: Auth, secrets: list[str]) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        auth.username = "root"  # type: ignore[misc]


def test_all_are_importable() -> None:
    for auth, _ in OBJECTS:
        assert getattr(blocksmtp, type(auth).__name__) is type(auth)
        assert isinstance(auth, blocksmtp.Auth)


# --- CRAM-MD5 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("password", [PASSWORD, PASSWORD.encode()])
@pytest.mark.parametrize("digest", [DIGEST, DIGEST.upper()])
def test_the_right_password(password: str | bytes, digest: str) -> None:
    assert CramMD5Auth("CRAM-MD5", "tim", CHALLENGE, digest).validate_password(password) is True


@pytest.mark.parametrize("password", ["", "tanstaaf", PASSWORD + " ", PASSWORD.upper(), "ä"])
def test_a_wrong_password(password: str) -> None:
    assert CramMD5Auth("CRAM-MD5", "tim", CHALLENGE, DIGEST).validate_password(password) is False


def test_a_password_in_utf8() -> None:
    digest = hmac.new("größer".encode(), CHALLENGE.encode(), hashlib.md5).hexdigest()
    auth = CramMD5Auth("CRAM-MD5", "tim", CHALLENGE, digest)
    assert auth.validate_password("größer")
    assert auth.validate_password("größer".encode())
    assert not auth.validate_password("größer".encode("latin-1"))


def test_the_comparison_takes_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Any]] = []

    def compare(one: Any, other: Any) -> bool:
        compared.append((one, other))
        return True

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert CramMD5Auth("CRAM-MD5", "tim", CHALLENGE, DIGEST).validate_password("wrong")
    assert len(compared) == 1


# --- AuthResponse ------------------------------------------------------------------------------


def test_what_a_response_holds() -> None:
    response = AuthResponse("me", "Welcome", 250, {"status": "200"})
    assert (response.user, response.message, response.response_code) == ("me", "Welcome", 250)
    assert response.data == {"status": "200"}
    empty = AuthResponse()
    assert (empty.user, empty.message, empty.response_code, empty.data) == (None,) * 4


def test_the_repr_of_a_response_is_discreet() -> None:
    shown = repr(AuthResponse("me", "Welcome", 235, {"token": "hidden"}))
    assert "hidden" not in shown


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"message": b"No"}, TypeError),
        ({"message": 5}, TypeError),
        ({"response_code": "535"}, TypeError),
        ({"response_code": True}, TypeError),
        ({"response_code": 235}, ValueError),
        ({"response_code": 399}, ValueError),
        ({"response_code": 600}, ValueError),
        ({"user": "me", "response_code": 535}, ValueError),
        ({"user": "me", "response_code": 199}, ValueError),
        ({"user": "me", "response_code": 334}, ValueError),
        ({"data": "status"}, TypeError),
        ({"data": ["status"]}, TypeError),
    ],
)
def test_ill_responses(keywords: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        AuthResponse(**keywords)


# --- over the wire -----------------------------------------------------------------------------


def encoded(text: str | bytes) -> str:
    octets = text.encode() if isinstance(text, str) else text
    return base64.b64encode(octets).decode()


@contextlib.contextmanager
def authenticating(on_auth: Any, **options: Any) -> Iterator[Client]:
    """A client that may say AUTH in clear."""
    given = {
        "allow_insecure_auth": True,
        "auth_methods": ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"],
        "use_xclient": True,
        "on_auth": on_auth,
        "max_auth_failures": None,
        **options,
    }
    with serving(**given) as server, connect(server) as client:
        client.hello()
        yield client


class Noting:
    """An on_auth that keeps what it gets."""

    def __init__(self, answer: Any = "me") -> None:
        self.seen: list[Any] = []
        self.sessions: list[SMTPSession] = []
        self.answer = answer

    def __call__(self, auth: Any, session: SMTPSession) -> Any:
        self.seen.append(auth)
        self.sessions.append(session)
        return self.answer


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("\0tim\0secret", PlainAuth("PLAIN", "tim", "secret", "", "tim")),
        ("root\0tim\0secret", PlainAuth("PLAIN", "tim", "secret", "root", "tim")),
        ("tim\0\0secret", PlainAuth("PLAIN", "tim", "secret", "tim", "")),
        ("\0jürgen\0größer", PlainAuth("PLAIN", "jürgen", "größer", "", "jürgen")),
        ("\0tim\0", PlainAuth("PLAIN", "tim", "", "", "tim")),
        ("\0tim\0 a\r\nb ", PlainAuth("PLAIN", "tim", " a\r\nb ", "", "tim")),
    ],
)
def test_plain(message: str, expected: PlainAuth) -> None:
    on_auth = Noting()
    with authenticating(on_auth) as client:
        client.expect(235, f"AUTH PLAIN {encoded(message)}")
    assert on_auth.seen == [expected]


def test_login() -> None:
    on_auth = Noting()
    with authenticating(on_auth) as client:
        assert client.command("AUTH LOGIN") == f"334 {encoded('Username:')}"
        assert client.command(encoded("tim")) == f"334 {encoded('Password:')}"
        client.expect(235, encoded("secret"))
    assert on_auth.seen == [LoginAuth("LOGIN", "tim", "secret")]


@pytest.mark.parametrize("password", ["secret", "wrong"])
def test_cram_md5(password: str) -> None:
    def on_auth(auth: CramMD5Auth, session: SMTPSession) -> str | None:
        assert auth.method == "CRAM-MD5"
        assert encoded(auth.challenge) == challenge
        return auth.username if auth.validate_password("secret") else None

    with authenticating(on_auth) as client:
        challenge = client.expect(334, "AUTH CRAM-MD5").lines[0]
        digest = hmac.new(password.encode(), base64.b64decode(challenge), "md5").hexdigest()
        client.expect(235 if password == "secret" else 535, encoded(f"a user {digest}"))


def test_every_challenge_is_another() -> None:
    with authenticating(Noting()) as client:
        challenges = set()
        for _ in range(5):
            challenge = base64.b64decode(client.expect(334, "AUTH CRAM-MD5").lines[0])
            assert challenge.startswith(b"<")
            assert challenge.endswith(b"@mx.example>")
            challenges.add(challenge)
            client.expect(501, "*")
        assert len(challenges) == 5


def test_xoauth2() -> None:
    on_auth = Noting()
    with authenticating(on_auth) as client:
        client.expect(
            235, f"AUTH XOAUTH2 {encoded('user=tim' + chr(1) + 'auth=Bearer abc' + chr(1) * 2)}"
        )
    assert on_auth.seen == [XOAuth2Auth("XOAUTH2", "tim", "abc")]


def test_xclient_login() -> None:
    on_auth = Noting()
    with authenticating(on_auth, allow_insecure_auth=False, auth_optional=False) as client:
        client.expect(220, "XCLIENT LOGIN=tim")
        client.expect(250, "EHLO client.example")
        client.envelope()
    assert on_auth.seen == [XClientAuth("XCLIENT", "tim")]
    assert on_auth.seen[0].password is None
    assert on_auth.sessions[0].user == "me"


class User:
    """Somebody's own idea of a user."""


@pytest.mark.parametrize("user", ["me", 5, User(), ["me"], {"name": "me"}, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_user_is_kept_as_it_is(user: Any, wrapped: bool) -> None:
    on_auth = Noting(AuthResponse(user) if wrapped else user)
    with authenticating(on_auth) as client:
        client.expect(235, f"AUTH PLAIN {encoded(chr(0) + 'tim' + chr(0) + 'x')}")
        assert on_auth.sessions[0].user is user


ATTEMPT = f"AUTH PLAIN {encoded(chr(0) + 'tim' + chr(0) + 'x')}"


@pytest.mark.parametrize("user", [None, False, "", 0, (), {}])
def test_a_falsy_result_refuses(user: Any) -> None:
    on_auth = Noting(user)
    with authenticating(on_auth) as client:
        client.expect(535, ATTEMPT)
        assert on_auth.sessions[0].user is None


@pytest.mark.parametrize("user", ["", 0, False, ()])
def test_a_response_with_any_user_but_none_accepts(user: Any) -> None:
    """The number of a database row may be 0."""
    on_auth = Noting(AuthResponse(user))
    with authenticating(on_auth, auth_optional=False) as client:
        client.expect(235, ATTEMPT)
        client.envelope()
        assert on_auth.sessions[0].transmission_type == "ESMTPA"


@pytest.mark.parametrize(
    ("response", "reply"),
    [
        (AuthResponse("me", "Welcome back"), "235 2.7.0 Welcome back"),
        (AuthResponse("me", response_code=250), "250 2.0.0 Authentication successful"),
        (AuthResponse(message="Account locked"), "535 5.7.8 Account locked"),
        (AuthResponse(None, "Later", 454), "454 4.7.0 Later"),
        (AuthResponse(), "535 5.7.8 Error: Authentication credentials invalid"),
        # Only XOAUTH2 has a place for data.
        (AuthResponse(data={"a": 1}), "535 5.7.8 Error: Authentication credentials invalid"),
        (AuthResponse("me", "Two\r\nlines"), "235 2.7.0 Two lines"),
    ],
)
def test_message_and_code_go_to_the_client(response: AuthResponse, reply: str) -> None:
    with authenticating(Noting(response)) as client:
        assert client.command(ATTEMPT) == reply


def test_without_on_auth() -> None:
    with authenticating(None) as client:
        assert client.command(ATTEMPT) == "535 5.7.8 Authentication not implemented"


def test_data_that_is_no_json_is_a_defect() -> None:
    with authenticating(Noting(AuthResponse(data={"a": object()}))) as client:
        client.expect(451, ATTEMPT)


@pytest.mark.parametrize("name", ["a\0b", "a\r\nb", "a\x7fb", "a\x85b", "\x1b[2J"])
def test_a_user_name_with_control_characters_never_reaches_the_application(name: str) -> None:
    on_auth = Noting()
    with authenticating(on_auth) as client:
        client.expect(334, "AUTH LOGIN")
        assert client.command(encoded(name)).startswith("501 5.5.2 ")
        if "\0" not in name:
            assert client.command(f"AUTH PLAIN {encoded(f'{chr(0)}{name}{chr(0)}x')}").startswith(
                "501 5.5.2 "
            )
        client.expect(334, "AUTH CRAM-MD5")
        assert client.command(encoded(f"{name} {'0' * 32}")).startswith("501 5.5.2 ")
    assert on_auth.seen == []
