"""AUTH exchanges that are left, begun anew, and mixed up.

CVE-2011-1720 (Postfix with Cyrus SASL): after AUTH had failed with one mechanism, what the library
kept of it was used for the next. A name from one exchange and a password from another, or a
challenge that is good twice, are of the same kind.

Here an exchange is an object of its own, which ends with the reply to it, however it ends. Nobody
is authenticated but by an answer of the application's to a whole exchange.
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import Any

import pytest

from blocksmtp import CramMD5Auth, SMTPSession
from tests.protocol.bench import Bench, GivenCallbacks

from .talk import Talk

METHODS = ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"]


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# What a client presents to each mechanism: the first lines of an exchange, and what it comes to.
WHOLE: dict[str, tuple[list[str], dict[str, str]]] = {
    "PLAIN": (
        ["AUTH PLAIN", b64("\0bob\0secret")],
        {"username": "bob", "password": "secret", "authcid": "bob", "authzid": ""},
    ),
    "LOGIN": (
        ["AUTH LOGIN", b64("bob"), b64("secret")],
        {"username": "bob", "password": "secret"},
    ),
    "CRAM-MD5": (
        ["AUTH CRAM-MD5", b64("bob " + "0" * 32)],
        {"username": "bob", "challenge_response": "0" * 32},
    ),
    "XOAUTH2": (
        ["AUTH XOAUTH2", b64("user=bob\1auth=Bearer token\1\1")],
        {"username": "bob", "access_token": "token"},
    ),
}

# What came before, of another user's.
LEFT: dict[str, list[str]] = {
    "nothing": [],
    "PLAIN": ["AUTH PLAIN"],
    "LOGIN": ["AUTH LOGIN"],
    "LOGIN with a name": ["AUTH LOGIN", b64("mallory")],
    "LOGIN with the name at once": [f"AUTH LOGIN {b64('mallory')}"],
    "CRAM-MD5": ["AUTH CRAM-MD5"],
    "XOAUTH2": ["AUTH XOAUTH2"],
}
ENDS: dict[str, str] = {
    "cancelled": "*",
    "no base64": "!",
    "a command": "NOOP",
    "too long": "A" * 20_000,
    "malformed": b64("\0\r\n"),
    "STARTTLS": "STARTTLS",
}


class Noting:
    """Notes what it is asked, and accepts bob."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def on_auth(self, auth: Any, session: SMTPSession) -> str | None:
        self.asked.append(auth)
        return "bob" if auth.username == "bob" else None


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("method", WHOLE)
def test_an_exchange_that_was_left_leaves_nothing(left: list[str], end: str, method: str) -> None:
    noting = Noting()
    lines, expected = WHOLE[method]
    before = [*left, end] if left else []
    talk = Talk(
        b"EHLO a\r\n",
        *(f"{line}\r\n".encode() for line in [*before, *lines]),
        callbacks=GivenCallbacks(on_auth=noting.on_auth),
        secure=True,
        auth_methods=METHODS,
        max_auth_failures=None,
    )
    assert talk.codes[-1] == 235
    *others, auth = noting.asked
    assert auth.method == method
    assert {name: getattr(auth, name) for name in expected} == expected
    # A name and a password of two exchanges never came together.
    assert all(other.username != "bob" for other in others)
    assert talk.session.user == "bob"


@pytest.mark.parametrize("first", WHOLE)
@pytest.mark.parametrize("second", WHOLE)
def test_a_refusal_is_forgotten_by_the_next(first: str, second: str) -> None:
    answers = iter([None, "bob"])
    bench = Bench(
        callbacks=GivenCallbacks(on_auth=lambda auth, session: next(answers)),
        secure=True,
        auth_methods=METHODS,
        auth_optional=False,
    )
    bench.say("EHLO a")
    assert bench.codes(*WHOLE[first][0])[-1] == 535
    assert bench.session.user is None
    assert bench.codes("MAIL FROM:<a@b>") == [530]
    assert bench.codes(*WHOLE[second][0])[-1] == 235
    assert bench.codes("MAIL FROM:<a@b>") == [250]


def challenge_of(bench: Bench) -> str:
    (line,) = bench.say("AUTH CRAM-MD5").lines
    return base64.b64decode(line).decode()


def test_no_challenge_is_good_twice() -> None:
    """Who has overheard an answer has nothing that would do again."""

    def on_auth(auth: CramMD5Auth, session: SMTPSession) -> str | None:
        return auth.username if auth.validate_password("secret") else None

    overheard = ""
    seen = set()
    for _ in range(20):
        bench = Bench(
            callbacks=GivenCallbacks(on_auth=on_auth), secure=True, auth_methods=["CRAM-MD5"]
        )
        bench.say("EHLO a")
        challenge = challenge_of(bench)
        seen.add(challenge)
        assert re.fullmatch(r"<\d+\.\d+@mx\.example\.org>", challenge)
        if overheard:
            assert bench.codes(overheard) == [535]
            challenge = challenge_of(bench)
            seen.add(challenge)
        digest = hmac.new(b"secret", challenge.encode(), "md5").hexdigest()
        overheard = b64(f"bob {digest}")
        assert bench.codes(overheard) == [235]
    assert len(seen) == 39


NOBODY: list[Any] = [None, "", 0, False, [], {}, b""]


@pytest.mark.parametrize("method", WHOLE)
@pytest.mark.parametrize("result", NOBODY, ids=repr)
def test_what_is_no_user_is_nobody(method: str, result: Any) -> None:
    bench = Bench(
        callbacks=GivenCallbacks(on_auth=lambda auth, session: result),
        secure=True,
        auth_methods=METHODS,
        auth_optional=False,
    )
    bench.say("EHLO a")
    assert bench.codes(*WHOLE[method][0])[-1] == 535
    assert bench.codes("MAIL FROM:<a@b>") == [530]


@pytest.mark.parametrize("method", WHOLE)
def test_a_defect_lets_nobody_in(method: str) -> None:
    def fail(*arguments: object) -> None:
        raise LookupError("the directory is down")

    bench = Bench(
        callbacks=GivenCallbacks(on_auth=fail),
        secure=True,
        auth_methods=METHODS,
        auth_optional=False,
    )
    bench.say("EHLO a")
    assert bench.codes(*WHOLE[method][0])[-1] == 451
    assert bench.codes("MAIL FROM:<a@b>") == [530]
    assert bench.defects == [("on_auth", "LookupError")]


def test_a_response_after_the_exchange_is_a_command() -> None:
    """And an unknown one: no octet of it counts for anything."""
    noting = Noting()
    bench = Bench(
        callbacks=GivenCallbacks(on_auth=noting.on_auth), secure=True, auth_methods=METHODS
    )
    bench.say("EHLO a")
    assert bench.codes("AUTH LOGIN", b64("mallory"), b64("wrong")) == [334, 334, 535]
    assert bench.codes(b64("secret"), b64("bob"), "*", "=") == [500] * 4
    assert [auth.username for auth in noting.asked] == ["mallory"]
