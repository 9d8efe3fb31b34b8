"""The machine: what its owner calls, and the states that a dialogue cannot show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksmtp.errors import SMTPError
from blocksmtp.options import COMMANDS as COMMAND_NAMES
from blocksmtp.protocol.commands import COMMANDS, Argument
from blocksmtp.protocol.replies import Next
from blocksmtp.session import SMTPSession
from tests.protocol.bench import Bench, GivenCallbacks, PlainBody


def raising(error: BaseException) -> Callable[..., None]:
    def raise_it(*_arguments: object) -> None:
        raise error

    return raise_it


# --- open() ------------------------------------------------------------------------------------


def test_the_greeting() -> None:
    sessions: list[SMTPSession] = []
    bench = Bench(callbacks=GivenCallbacks(on_connect=sessions.append))
    reply = bench.machine.open()
    assert (reply.encode(), reply.then) == (b"220 mx.example.org ESMTP\r\n", Next.COMMAND)
    assert sessions == [bench.session]
    assert bench.announced == 1


@pytest.mark.parametrize(
    ("error", "code", "enhanced"),
    [
        (SMTPError("no"), 554, "5.7.1"),
        (SMTPError("no", 554, "5.7.25"), 554, "5.7.25"),
        (SMTPError("no", 550), 554, "5.7.1"),
        (SMTPError("no", 521), 554, "5.3.2"),
        (SMTPError("no", 421), 421, "4.3.2"),
        (SMTPError("no", 450), 421, "4.2.0"),
        (SMTPError("no", 451, "4.7.1"), 421, "4.7.1"),
        (SMTPError("no", None, "4.7.1"), 421, "4.7.1"),
    ],
)
def test_on_connect_refuses(error: SMTPError, code: int, enhanced: str) -> None:
    bench = Bench(callbacks=GivenCallbacks(on_connect=raising(error)))
    reply = bench.machine.open()
    assert (reply.code, reply.enhanced, reply.lines) == (code, enhanced, ("no",))
    assert reply.then is Next.CLOSE
    assert (bench.announced, bench.defects) == (0, [])


def test_on_connect_fails() -> None:
    bench = Bench(callbacks=GivenCallbacks(on_connect=raising(RuntimeError("secret"))))
    reply = bench.machine.open()
    assert (reply.code, reply.enhanced, reply.then) == (421, "4.3.0", Next.CLOSE)
    assert "secret" not in reply.lines[0]
    assert (bench.announced, bench.defects) == (0, [("on_connect", "RuntimeError")])


def test_without_anybody_to_tell() -> None:
    """The owner of the wire need not care who connects."""
    from blocksmtp.protocol.machine import Machine

    bench = Bench()
    assert Machine(bench.session, bench.options, bench.application).open().code == 220


# --- TLS ---------------------------------------------------------------------------------------


def test_tls_started_forgets_and_asks() -> None:
    seen: list[Any] = []
    bench = Bench(
        callbacks=GivenCallbacks(
            on_auth=lambda auth, session: "alice",
            on_secure=lambda connection, session: seen.append((connection, session.secure)),
        ),
        allow_insecure_auth=True,
    )
    bench.session.state["kept"] = True
    bench.say("EHLO client", "AUTH PLAIN AGEAYg==", "MAIL FROM:<a@example.org>")
    assert bench.session.user == "alice"
    reply = bench.say("STARTTLS")
    assert (reply.code, reply.then) == (220, Next.TLS)
    assert bench.machine.tls_started("the connection")
    session = bench.session
    assert session.secure
    assert (session.host_name_appears_as, session.opening_command, session.user) == (None,) * 3
    assert session.envelope.mail_from is None
    assert session.state == {"kept": True}
    assert seen == [("the connection", True)]


@pytest.mark.parametrize(
    ("error", "defects"),
    [(SMTPError("no"), []), (RuntimeError(), [("on_secure", "RuntimeError")])],
    ids=["refused", "defect"],
)
def test_on_secure_lets_nobody_in(error: Exception, defects: list[tuple[str, str]]) -> None:
    bench = Bench(callbacks=GivenCallbacks(on_secure=raising(error)), secure=True)
    assert not bench.machine.tls_approved(object())
    assert bench.defects == defects
    assert not bench.machine.tls_started(object())


def test_no_on_secure_lets_all_in() -> None:
    assert Bench(secure=True).machine.tls_approved(object())


# --- lines -------------------------------------------------------------------------------------


@given(st.binary(max_size=100))
def test_no_line_breaks_the_machine(line: bytes) -> None:
    bench = Bench(allow_insecure_auth=True, max_bad_commands=None, use_xclient=True)
    bench.say("EHLO client")
    reply = bench.machine.feed(line)
    assert 200 <= reply.code < 600
    assert bench.defects == []
    assert reply.encode().endswith(b"\r\n")


@given(
    st.sampled_from(sorted(COMMANDS)),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from([(), ("EHLO c",), ("EHLO c", "MAIL FROM:<>"), ("EHLO c", "AUTH LOGIN")]),
)
def test_no_argument_breaks_a_command(verb: str, argument: str, before: tuple[str, ...]) -> None:
    bench = Bench(allow_insecure_auth=True, use_xclient=True, use_xforward=True)
    bench.codes(*before)
    reply = bench.machine.feed(f"{verb} {argument}".encode())
    assert 200 <= reply.code < 600
    assert bench.defects == []


def test_every_command_that_can_be_disabled_is_there() -> None:
    assert set(COMMANDS) == set(COMMAND_NAMES)


@pytest.mark.parametrize("verb", COMMAND_NAMES)
def test_disabled(verb: str) -> None:
    lmtp = verb == "LHLO"
    bench = Bench(disabled_commands=[verb], lmtp=lmtp, use_xclient=True, use_xforward=True)
    for line in (verb, verb.lower(), f"{verb} argument"):
        reply = bench.say(line)
        assert reply.encode() == b"502 5.5.1 Error: command not implemented\r\n"
        assert reply.bad
    if verb != "HELP":
        assert verb not in bench.say("HELP").lines[0].split()
    hello = next((each for each in ("EHLO", "LHLO") if bench.codes(f"{each} c") == [250]), None)
    if hello is not None:
        assert all(line.split()[0] != verb for line in bench.say(f"{hello} c").lines[1:])


@pytest.mark.parametrize("verb", sorted(COMMANDS))
@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
def test_the_table_is_obeyed(verb: str, lmtp: bool) -> None:
    """What no one may say before HELO, or without authentication, or TLS, is refused so."""
    command = COMMANDS[verb]
    argument = "" if command.argument is Argument.NONE else " argument"

    def code(hello: bool, **options: Any) -> int:
        bench = Bench(lmtp=lmtp, use_xclient=True, use_xforward=True, **options)
        if hello:
            assert bench.say("LHLO c" if lmtp else "EHLO c").code == 250
        return bench.say(verb + argument).code

    known = command.lmtp if lmtp else command.smtp
    assert (code(True) == 500) is not known
    if not known:
        return
    assert (code(False) == 503) is command.after_hello
    assert (code(True, needs_upgrade=True) == 530) is command.after_upgrade
    assert (code(True, auth_optional=False) == 530) is command.after_auth


@pytest.mark.parametrize(
    "beginning",
    [
        *(b"GET /", b"POST /" + b"x" * 5000, b"M-SEARCH * HTTP/1.1", b"OPTIONS *"),
        *(b"get http://x", b"CONNECT https://x"),
    ],
)
def test_http_is_seen_in_what_is_no_line(beginning: bytes) -> None:
    reply = Bench().machine.reject("Error: line too long", beginning)
    assert (reply.code, reply.then) == (421, Next.CLOSE)


@pytest.mark.parametrize("beginning", [b"", b"MAIL FROM:</>", b"NOOP x /", b"\xff /", b"/"])
def test_what_is_no_line_and_no_http(beginning: bytes) -> None:
    assert Bench().machine.reject("Error: line too long", beginning).code == 500


def test_reject_counts_as_a_bad_command() -> None:
    bench = Bench(max_bad_commands=3)
    assert bench.machine.reject("Error: line too long").encode() == (
        b"500 5.5.2 Error: line too long\r\n"
    )
    assert bench.say("WHAT").code == 500
    assert bench.machine.reject("Error: line too long").then is Next.CLOSE


def test_http_is_seen_before_all_else() -> None:
    bench = Bench(disabled_commands=["HELP"])
    reply = bench.say("HELP / HTTP/1.1")
    assert (reply.code, reply.then) == (421, Next.CLOSE)


@pytest.mark.parametrize("line", ["GET http/1.1", "HTTP/1.1", "HELP me with HTTP/1.1", "NOOP"])
def test_not_http(line: str) -> None:
    assert Bench().say(line).code in (214, 250, 500)


# --- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"auth_optional": True}, {"disabled_commands": ["AUTH"]}])
def test_unauthenticated_commands_count_where_they_are_a_fault(
    options: dict[str, Any],
) -> None:
    bench = Bench(**{"auth_optional": False, "max_allowed_unauthenticated_commands": 2, **options})
    assert bench.codes(*["NOOP"] * 5) == [250] * 5


def test_unauthenticated_commands_do_not_count_with_a_user() -> None:
    bench = Bench(
        callbacks=GivenCallbacks(on_auth=lambda auth, session: "alice"),
        auth_optional=False,
        allow_insecure_auth=True,
        max_allowed_unauthenticated_commands=3,
    )
    assert bench.codes("EHLO c", "NOOP", "AUTH PLAIN AGEAYg==") == [250, 250, 235]
    assert bench.codes(*["NOOP"] * 5) == [250] * 5


def test_unauthenticated_unknown_commands_have_their_own_limit() -> None:
    bench = Bench(auth_optional=False, max_allowed_unauthenticated_commands=2)
    assert bench.codes("WHAT", "WHAT", "NOOP", "QUIT") == [500, 500, 250, 221]


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("WHAT", True),
        ("", True),
        ("EHLO", True),
        ("RSET x", True),
        ("RCPT TO:<bob@example.org>", True),
        ("MAIL FROM:alice", True),
        ("MAIL FROM:<a@example.org> BY=1;R", True),
        ("AUTH NTLM", True),
        ("AUTH PLAIN !", True),
        ("XCLIENT NAME=x", True),
        ("NOOP", False),
        ("MAIL FROM:<refused@example.org>", False),
        ("MAIL FROM:<a@example.org> SIZE=1001", False),
        ("AUTH PLAIN AGEAYg==", False),
    ],
)
def test_what_is_a_bad_command(line: str, counts: bool) -> None:
    bench = Bench(
        callbacks=GivenCallbacks(on_mail_from=raising(SMTPError("no"))),
        allow_insecure_auth=True,
        max_bad_commands=3,
        max_auth_failures=None,
        size=1000,
    )
    bench.codes("EHLO c", "WHAT", line)
    assert (bench.say("WHAT").code == 421) is counts


# --- the session -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lmtp", "hello", "secure", "user", "expected"),
    [
        (False, "HELO", False, None, "SMTP"),
        (False, "HELO", True, None, "SMTPS"),
        (False, "EHLO", False, None, "ESMTP"),
        (False, "EHLO", True, None, "ESMTPS"),
        (False, "EHLO", False, "alice", "ESMTPA"),
        (False, "EHLO", True, "alice", "ESMTPSA"),
        (True, "LHLO", False, None, "LMTP"),
        (True, "LHLO", True, None, "LMTPS"),
        (True, "LHLO", False, "alice", "LMTPA"),
        (True, "LHLO", True, "alice", "LMTPSA"),
    ],
)
def test_transmission_type(
    lmtp: bool, hello: str, secure: bool, user: str | None, expected: str
) -> None:
    """RFC 3848."""
    bench = Bench(
        callbacks=GivenCallbacks(on_auth=lambda auth, session: user),
        lmtp=lmtp,
        secure=secure,
        allow_insecure_auth=True,
    )
    bench.say(f"{hello} c", *(["AUTH PLAIN AGEAYg=="] if user else []))
    assert bench.session.transmission_type == expected


def test_the_same_session_for_all_callbacks() -> None:
    seen = []
    bench = Bench()
    for name in ("on_connect", "on_mail_from", "on_rcpt_to", "on_data"):
        setattr(bench.callbacks, name, lambda *arguments: seen.append(arguments[-1]))
    bench.machine.open()
    bench.begin("bob@example.org")
    bench.machine.receive(PlainBody())
    assert seen == [bench.session] * 4


def test_recipients_are_there_once_they_are_accepted() -> None:
    seen = []

    def on_rcpt_to(address: Any, session: Any) -> None:
        seen.append((address.address, [each.address for each in session.envelope.rcpt_to]))

    Bench(callbacks=GivenCallbacks(on_rcpt_to=on_rcpt_to)).begin("a@example.org", "b@example.org")
    assert seen == [("a@example.org", []), ("b@example.org", ["a@example.org"])]


def test_dsn_of_a_recipient_is_there_for_the_callback() -> None:
    seen: list[Any] = []
    bench = Bench(
        callbacks=GivenCallbacks(on_rcpt_to=lambda address, session: seen.append(address))
    )
    bench.say("EHLO c", "MAIL FROM:<>")
    bench.say("RCPT TO:<bob@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+40example.com")
    assert seen[0].dsn.notify == ["SUCCESS", "DELAY"]
    assert seen[0].dsn.orcpt == "rfc822;Bob@example.com"
    assert seen[0].args == {"NOTIFY": "SUCCESS,DELAY", "ORCPT": "rfc822;Bob@example.com"}


@pytest.mark.parametrize(
    ("response", "line"),
    [
        ("%s Nice to meet you, %s", "mx.example.org Nice to meet you, [192.0.2.7]"),
        ("%s", "mx.example.org"),
        ("hello", "hello"),
        ("%s %s %s 100%", "mx.example.org [192.0.2.7] %s 100%"),
        ("%d %(name)s", "%d %(name)s"),
    ],
)
def test_helo_response(response: str, line: str) -> None:
    assert Bench(helo_response=response).say("HELO c").lines == (line,)


def test_starttls_is_never_last() -> None:
    """Some clients overlook what is."""
    for options in ({}, {"size": 10}, {"hide_size": True}, {"hide_pipelining": True}):
        lines = (
            Bench(
                hide_8bitmime=True,
                hide_enhanced_status_codes=True,
                disabled_commands=["AUTH"],
                **options,
            )
            .say("EHLO c")
            .lines
        )
        assert "STARTTLS" in lines[:-1]
