"""AUTH in the machine, where a dialogue cannot look."""

from __future__ import annotations

import base64
import gc
from typing import Any

import pytest

from blocksmtp.auth import Auth, AuthResponse, PlainAuth
from blocksmtp.errors import SMTPError
from blocksmtp.protocol.replies import LONGEST_SASL_LINE, Next
from blocksmtp.session import SMTPSession
from tests.protocol.bench import Bench, Callback, GivenCallbacks


def b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


PLAIN = f"AUTH PLAIN {b64(bytes(1) + b'alice' + bytes(1) + b'secret')}"
XOAUTH2 = f"AUTH XOAUTH2 {b64(b'user=alice' + bytes([1]) + b'auth=Bearer t' + bytes([1, 1]))}"


def bench_with(on_auth: Callback | None, **options: Any) -> Bench:
    options.setdefault("auth_optional", False)
    bench = Bench(callbacks=GivenCallbacks(on_auth=on_auth), secure=True, **options)
    assert bench.codes("EHLO client") == [250]
    return bench


def returning(result: Any) -> Callback:
    return lambda auth, session: result


def test_the_callback_gets_credentials_and_session() -> None:
    seen: list[tuple[Auth, SMTPSession]] = []

    def on_auth(auth: Auth, session: SMTPSession) -> str:
        seen.append((auth, session))
        assert session.user is None, "not before the callback has accepted"
        return "alice"

    bench = bench_with(on_auth)
    assert bench.say(PLAIN).encode() == b"235 2.7.0 Authentication successful\r\n"
    assert seen == [(PlainAuth("PLAIN", "alice", "secret", "", "alice"), bench.session)]
    assert bench.session.user == "alice"


@pytest.mark.parametrize("user", ["alice", 1, {"id": 7}, True, object()], ids=type)
def test_any_truthy_user_accepts(user: Any) -> None:
    bench = bench_with(returning(user))
    assert bench.say(PLAIN).code == 235
    assert bench.session.user is user


@pytest.mark.parametrize("result", [None, False, 0, "", [], {}], ids=repr)
def test_anything_falsy_refuses(result: Any) -> None:
    bench = bench_with(returning(result))
    assert bench.say(PLAIN).encode() == b"535 5.7.8 Error: Authentication credentials invalid\r\n"
    assert bench.session.user is None
    assert bench.codes("MAIL FROM:<alice@example.org>") == [530]


@pytest.mark.parametrize("user", [0, "", False, [], "alice"], ids=repr)
def test_a_response_accepts_any_user_but_none(user: Any) -> None:
    bench = bench_with(returning(AuthResponse(user)))
    assert bench.say(PLAIN).code == 235
    assert bench.session.user is user
    assert bench.codes("MAIL FROM:<alice@example.org>", "RSET", PLAIN) == [250, 250, 503]


@pytest.mark.parametrize(
    ("response", "octets"),
    [
        (AuthResponse(), b"535 5.7.8 Error: Authentication credentials invalid\r\n"),
        (AuthResponse(message="no"), b"535 5.7.8 no\r\n"),
        (
            AuthResponse(response_code=454),
            b"454 4.7.0 Error: Authentication credentials invalid\r\n",
        ),
        (AuthResponse(message="no", response_code=534), b"534 5.7.9 no\r\n"),
        (AuthResponse("alice", "hello"), b"235 2.7.0 hello\r\n"),
        (AuthResponse("alice", "hello", 200), b"200 2.0.0 hello\r\n"),
        (AuthResponse("alice", ""), b"235 2.7.0 Authentication successful\r\n"),
        # Only XOAUTH2 has a place for data.
        (
            AuthResponse(data={"status": "401"}),
            b"535 5.7.8 Error: Authentication credentials invalid\r\n",
        ),
    ],
)
def test_response(response: AuthResponse, octets: bytes) -> None:
    assert bench_with(returning(response)).say(PLAIN).encode() == octets


def test_421_closes_and_is_no_refusal_of_credentials() -> None:
    bench = bench_with(returning(AuthResponse(response_code=421)))
    assert bench.say(PLAIN).then is Next.CLOSE
    assert bench.session.auth_failures == 0


@pytest.mark.parametrize(
    ("error", "octets", "failures"),
    [
        (SMTPError("no"), b"535 5.7.8 no\r\n", 1),
        (SMTPError("no", 550), b"550 5.7.1 no\r\n", 1),
        (SMTPError("no", 534, "5.7.9"), b"534 5.7.9 no\r\n", 1),
        (SMTPError("later", 454), b"454 4.7.0 later\r\n", 0),
        (SMTPError("later", None, "4.7.0"), b"451 4.7.0 later\r\n", 0),
    ],
)
def test_refused_by_raising(error: SMTPError, octets: bytes, failures: int) -> None:
    def on_auth(auth: Auth, session: SMTPSession) -> None:
        raise error

    bench = bench_with(on_auth)
    assert bench.say(PLAIN).encode() == octets
    assert bench.session.auth_failures == failures
    assert bench.defects == []


def test_a_defect_is_reported_once() -> None:
    bench = bench_with(lambda auth, session: 1 / 0)
    assert bench.say(PLAIN).code == 451
    assert bench.defects == [("on_auth", "ZeroDivisionError")]
    assert bench.session.user is None
    assert bench.session.auth_failures == 0


def test_data_that_is_no_json_is_a_defect() -> None:
    """With any mechanism, so that it shows before the first client with XOAUTH2 comes."""
    bench = bench_with(returning(AuthResponse(data={"x": object()})))
    assert bench.say(PLAIN).code == 451
    assert bench.defects == [("on_auth", "TypeError")]


def test_data_that_no_challenge_can_hold_is_a_defect() -> None:
    fits = bench_with(returning(AuthResponse(data={"x": "y" * 8_900})), auth_methods=["XOAUTH2"])
    assert fits.say(XOAUTH2).encode().count(b"\r\n") == 1
    bench = bench_with(returning(AuthResponse(data={"x": "y" * 9_000})))
    assert bench.say(PLAIN).code == 451
    assert bench.defects == [("on_auth", "ValueError")]


def test_without_callback() -> None:
    bench = bench_with(None)
    assert bench.say(PLAIN).encode() == b"535 5.7.8 Authentication not implemented\r\n"
    assert bench.session.user is None


def test_the_failures_of_a_connection_add_up() -> None:
    bench = bench_with(returning(None), max_auth_failures=3)
    login = f"AUTH LOGIN {b64(b'alice')}"
    assert bench.codes(PLAIN, login, b64(b"x")) == [535, 334, 535]
    assert bench.session.auth_failures == 2
    last = bench.say(PLAIN)
    assert (last.code, last.then) == (421, Next.CLOSE)


def test_success_does_not_reset_the_failures() -> None:
    answers = iter([None, "alice"])
    bench = bench_with(lambda auth, session: next(answers))
    assert bench.codes(PLAIN, PLAIN) == [535, 235]
    assert bench.session.auth_failures == 1


def test_one_exchange_at_a_time() -> None:
    bench = bench_with(returning("alice"))
    assert bench.machine.authentication is None
    assert bench.codes("AUTH LOGIN") == [334]
    assert bench.machine.authentication is not None
    assert bench.codes(b64(b"alice")) == [334]
    assert bench.codes(b64(b"secret")) == [235]
    assert bench.machine.authentication is None


@pytest.mark.parametrize("end", ["*", "!", b64(b"\xff")])
def test_an_exchange_that_ends_leaves_nothing(end: str) -> None:
    bench = bench_with(returning("alice"))
    assert bench.codes("AUTH PLAIN", end, "NOOP") == [334, 501, 250]
    assert bench.machine.authentication is None
    assert bench.session.user is None
    assert bench.codes(PLAIN) == [235]


def test_exchanges_that_come_to_nothing_are_bad_commands() -> None:
    """The challenge in between does not begin the row anew: it is no end of a command."""
    bench = bench_with(returning("alice"), max_bad_commands=3)
    assert bench.codes(*["AUTH PLAIN", "*"] * 3) == [334, 501, 334, 501, 334, 421]
    bench = bench_with(returning("alice"), max_bad_commands=2)
    assert bench.codes("AUTH PLAIN", "*", "NOOP", "AUTH PLAIN", "*") == [334, 501, 250, 334, 501]


def test_what_is_not_utf8_is_no_base64() -> None:
    bench = bench_with(returning("alice"))
    assert bench.codes("AUTH PLAIN") == [334]
    assert bench.machine.feed(b"\xff\xfe").code == 501
    assert bench.machine.authentication is None


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("", True),
        ("QQ==", True),
        ("QUI=", True),
        ("QUJD", True),
        ("QUJDQQ==", True),
        ("Q", False),
        ("QQ", False),
        ("QQ=", False),
        ("QQ===", False),
        ("QQ==QQ==", False),
        ("QUJD\n", False),
        (" QUJD", False),
        ("QU JD", False),
        ("QU-_", False),
        ("\uff31\uff31==", False),
        ("=", False),
    ],
)
def test_base64(text: str, valid: bool) -> None:
    """RFC 4648, section 4. The name of LOGIN is asked for: what is base64 goes one step on."""
    bench = bench_with(returning("alice"))
    bench.say(f"AUTH LOGIN {b64(b'alice')}")
    assert bench.say(text).code == (235 if valid else 501)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("AUTH   PLAIN  " + b64(b"\0alice\0secret"), 235),
        ("AUTH PLAIN = =", 501),
        ("AUTH \u3000", 504),
        ("AUTH \x0c", 504),
        ("AUTH PLAIN\u3000QQ==", 504),
        ("AUTH", 501),
        ("AUTH PLA\u0131N", 504),
    ],
)
def test_the_command(command: str, code: int) -> None:
    assert bench_with(returning("alice")).say(command).code == code


def test_line_limits() -> None:
    """RFC 4954, section 4: only AUTH and responses may be that long."""
    bench = bench_with(returning("alice"), max_command_length=1000)
    assert bench.machine.line_limit(b"NOOP") == 1000
    assert bench.machine.line_limit(b"AUTHOR ") == 1000
    assert bench.machine.line_limit(b"auth PLAIN") == LONGEST_SASL_LINE
    bench.say("AUTH PLAIN")
    assert bench.machine.line_limit(b"NOOP") == LONGEST_SASL_LINE
    bench.say("*")
    assert bench.machine.line_limit(b"NOOP") == 1000


def test_line_limits_above_that_of_auth() -> None:
    bench = bench_with(returning("alice"), max_command_length=20_000)
    assert bench.machine.line_limit(b"AUTH PLAIN") == 20_000


def test_a_line_that_is_none_ends_the_exchange() -> None:
    bench = bench_with(returning("alice"))
    bench.say("AUTH LOGIN")
    assert bench.machine.reject("Error: line too long").code == 500
    assert bench.machine.authentication is None
    assert bench.codes(b64(b"alice")) == [500]
    gc.collect()  # an exchange that was left must not complain


@pytest.mark.parametrize(
    ("options", "secure", "lines", "codes"),
    [
        ({}, True, ["AUTH PLAIN"], [503]),
        ({}, False, ["EHLO c", "AUTH PLAIN"], [250, 538]),
        ({"allow_insecure_auth": True}, False, ["EHLO c", "AUTH PLAIN"], [250, 334]),
        ({"needs_upgrade": True}, False, ["AUTH PLAIN", "EHLO c", "AUTH PLAIN"], [503, 250, 530]),
        (
            {"needs_upgrade": True, "allow_insecure_auth": True},
            False,
            ["EHLO c", "AUTH PLAIN"],
            [250, 530],
        ),
        (
            {"disabled_commands": ["AUTH"]},
            True,
            ["AUTH PLAIN", "EHLO c", "AUTH X"],
            [502, 250, 502],
        ),
        ({"auth_methods": ["LOGIN"]}, True, ["EHLO c", "AUTH PLAIN"], [250, 504]),
        ({"auth_methods": []}, True, ["EHLO c", "AUTH PLAIN"], [250, 504]),
    ],
)
def test_when_it_may_come(
    options: dict[str, Any], secure: bool, lines: list[str], codes: list[int]
) -> None:
    assert Bench(secure=secure, **options).codes(*lines) == codes


def test_no_mechanism_is_not_offered() -> None:
    bench = Bench(secure=True, auth_methods=[])
    assert not any(line.startswith("AUTH") for line in bench.say("EHLO c").lines)
