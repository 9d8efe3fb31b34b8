"""What is logged: one line a record, with the session's id, and never a secret."""

from __future__ import annotations

import base64
import builtins
import contextlib
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksmtp import AuthResponse, SMTPError, SMTPSession
from blocksmtp.logs import ServerLogger, SessionLogger, shown_command, shown_traceback
from blocksmtp.text import CONTROL_CHARACTERS
from tests.client import Client, connect, serving, trusting, wait_until_idle
from tests.scram_client import ScramClient


class Log(logging.Handler):
    """Everything that a server logs at any level."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.logger = logging.Logger("of the test", logging.DEBUG)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        record.getMessage()  # now: what is shown must not depend on when it is shown
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    @property
    def everything(self) -> str:
        """Messages, tracebacks, and all that hangs on the records."""
        formatter = logging.Formatter("%(message)s")
        return "\n".join(
            f"{formatter.format(record)}\n{record.args!r}\n{vars(record)!r}"
            for record in self.records
        )


@contextlib.contextmanager
def logged(**options: Any) -> Iterator[tuple[Log, Client]]:
    """A client in clear, allowed to say AUTH there, and the server's log."""
    log = Log()
    given = {"allow_insecure_auth": True, "logger": log.logger, **options}
    with serving(**given) as server:
        with connect(server) as client:
            client.hello()
            yield log, client
        wait_until_idle(server)


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# --- the session's id --------------------------------------------------------------------------


def test_every_record_has_a_session_id() -> None:
    log = Log()
    formatter = logging.Formatter("%(session_id)s %(message)s")
    sessions: list[SMTPSession] = []

    def failing(*arguments: object) -> None:
        raise LookupError("of the application")

    with serving(
        logger=log.logger, on_connect=sessions.append, on_rcpt_to=failing, disabled_commands=()
    ) as server:
        server.on("listening", failing)
        server.listen(0, "127.0.0.1", secure=True)
        with connect(server) as client:
            client.hello()
            client.upgrade()
            client.expect(250, "EHLO client.example")
            client.expect(250, "MAIL FROM:<a@client.example>")
            client.expect(451, "RCPT TO:<b@server.example>")
        with connect(server.addresses[1]) as client:
            client.send_lines("this is no TLS")
            client.rest()
    (session,) = sessions
    shown = [formatter.format(record) for record in log.records]
    assert any(line.startswith(f"{session.id} [{session.id}] C: ") for line in shown)
    assert any(line.startswith("- listening on ") for line in shown)
    assert any(line.startswith("- a listener of listening failed") for line in shown)
    assert len({line.split(" ")[0] for line in shown}) == 3  # the failed handshake's, too
    for record in log.records:
        identifier = record.session_id  # type: ignore[attr-defined]
        prefix = re.match(r"\[(\w+)\] ", record.getMessage())
        assert identifier == (prefix[1] if prefix else "-")


def test_what_else_is_given_is_kept() -> None:
    log = Log()
    SessionLogger(log.logger, "abc").info("%d octets", 5, extra={"size": 5})
    (record,) = log.records
    assert record.getMessage() == "[abc] 5 octets"
    assert (record.size, record.session_id) == (5, "abc")  # type: ignore[attr-defined]


def test_the_whole_dialogue_at_debug() -> None:
    with logged() as (log, client):
        client.envelope()
        client.message()
        client.expect(221, "QUIT")
    dialogue = [message.partition("] ")[2] for message in log.messages]
    for line in (
        "C: EHLO client.example",
        "C: MAIL FROM:<a@client.example>",
        "S: 250 2.1.0 Accepted\\r\\n",
        "message of 23 octets: 250",
        "S: 221 2.0.0 Bye\\r\\n",
        "connection closed",
    ):
        assert line in dialogue


def test_messages_are_not_logged() -> None:
    with logged() as (log, client):
        client.envelope()
        client.message(b"Subject: confidential\r\n\r\nthe plan\r\n")
    assert "confidential" not in log.everything
    assert "the plan" not in log.everything


# --- secrets -----------------------------------------------------------------------------------

SECRET = "swordfish-0123456789"
PLAIN = base64_of(f"\0user\0{SECRET}")
TOKEN = base64_of(f"user=user\x01auth=Bearer {SECRET}\x01\x01")
DIGEST = "0123456789abcdef0123456789abcdef"
CRAM = base64_of(f"user {DIGEST}")
USER, PASSWORD = base64_of("user"), base64_of(SECRET)
SECRETS = [SECRET, PLAIN, TOKEN, DIGEST, CRAM, PASSWORD, PLAIN[:-4], PASSWORD[:-4], TOKEN[10:-4]]

METHODS = ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"]

DIALOGUES = {
    "PLAIN at once": [f"AUTH PLAIN {PLAIN}"],
    "PLAIN": ["AUTH PLAIN", PLAIN],
    "LOGIN": ["AUTH LOGIN", USER, PASSWORD],
    "LOGIN with the name": [f"AUTH LOGIN {USER}", PASSWORD],
    "CRAM-MD5": ["AUTH CRAM-MD5", CRAM],
    "XOAUTH2 at once": [f"AUTH XOAUTH2 {TOKEN}", ""],
    "XOAUTH2": ["AUTH XOAUTH2", TOKEN, ""],
    "lower case": [f"auth plain {PLAIN}"],
    "aborted": ["AUTH LOGIN", USER, "*", PASSWORD],
    "password for a name": ["AUTH LOGIN", PASSWORD, "*"],
    "no base64": ["AUTH PLAIN", f"{SECRET}!"],
    "no base64 at once": [f"AUTH PLAIN {SECRET}!"],
    "bare": ["AUTH LOGIN", USER, SECRET],
    "broken padding": ["AUTH PLAIN", PLAIN.rstrip("=") + "=", PLAIN],
    "malformed": ["AUTH PLAIN", base64_of(SECRET), PASSWORD],
    "unknown mechanism": [f"AUTH NTLM {PLAIN}", PASSWORD],
    "mechanism forgotten": [f"AUTH {PLAIN}", f"AUTH {SECRET}"],
    "no space": [f"AUTH PLAIN\t{PLAIN}", f"AUTH\tPLAIN {PLAIN}", f"AUTHPLAIN {PLAIN}"],
    "space in front": [f" AUTH PLAIN {PLAIN}"],
    "too many words": [f"AUTH PLAIN {USER} {PASSWORD}", f"AUTH LOGIN {USER} {PASSWORD}"],
    "initial response that may not be": [f"AUTH CRAM-MD5 {CRAM}", CRAM],
    "no AUTH at all": [PLAIN, PASSWORD, SECRET, CRAM, TOKEN],
    "twice": [f"AUTH PLAIN {PLAIN}", f"AUTH PLAIN {PLAIN}", f"AUTH PLAIN {PLAIN}"],
    "in a transaction": ["MAIL FROM:<a@client.example>", f"AUTH PLAIN {PLAIN}", "RSET"],
    "control characters": ["AUTH LOGIN", base64_of(f"\r\n{SECRET}"), PASSWORD],
    "not UTF-8": ["AUTH LOGIN", USER, base64.b64encode(b"\xff" + SECRET.encode()).decode()],
    "too long": ["AUTH PLAIN", PLAIN + "x" * 20_000, PLAIN],
    "too long at once": [f"AUTH PLAIN {PLAIN}{'x' * 20_000}", PLAIN],
    "challenge answered": [f"AUTH XOAUTH2 {TOKEN}", TOKEN],
}


class Answers:
    """What on_auth answers."""

    @staticmethod
    def accept(auth: Any, session: SMTPSession) -> str:
        return "user"

    @staticmethod
    def refuse(auth: Any, session: SMTPSession) -> AuthResponse:
        return AuthResponse(data={"status": "401"})

    @staticmethod
    def error(auth: Any, session: SMTPSession) -> None:
        raise SMTPError("No", 535)

    @staticmethod
    def defect(auth: Any, session: SMTPSession) -> None:
        raise LookupError(f"no such user: {auth}")

    @staticmethod
    def validate(auth: Any, session: SMTPSession) -> str | None:
        valid = getattr(auth, "validate_password", lambda password: False)
        return "user" if valid("another password") else None


@pytest.mark.parametrize("answer", ["accept", "refuse", "error", "defect", "validate"])
@pytest.mark.parametrize("lines", DIALOGUES.values(), ids=DIALOGUES)
def test_no_secret_is_ever_logged(lines: list[str], answer: str) -> None:
    options: dict[str, Any] = {
        "auth_methods": METHODS,
        "on_auth": getattr(Answers, answer),
        "max_auth_failures": None,
        "max_bad_commands": None,
    }
    with logged(**options) as (log, client):
        client.send_lines(*lines)
        client.send_lines("QUIT")
        client.rest()
    assert log.messages
    found = [secret for secret in SECRETS if secret in log.everything]
    assert found == []


def test_no_secret_before_tls_is_logged() -> None:
    options = {"allow_insecure_auth": False, "disabled_commands": ()}
    with logged(**options) as (log, client):
        client.expect(538, f"AUTH PLAIN {PLAIN}")
        client.expect(500, PLAIN)
        client.upgrade(trusting())
        client.expect(503, f"AUTH PLAIN {PLAIN}")
        client.expect(250, "EHLO client.example")
        client.expect(535, f"AUTH PLAIN {PLAIN}")
    assert [secret for secret in SECRETS if secret in log.everything] == []
    assert "C: AUTH PLAIN ***" in "\n".join(log.messages)


def test_no_secret_after_a_break_is_logged() -> None:
    with logged(socket_timeout=0.4) as (log, client):
        client.expect(334, "AUTH PLAIN")
        client.send(PLAIN)  # and no line end
        assert client.rest().startswith(b"421 4.4.2 ")
    assert [secret for secret in SECRETS if secret in log.everything] == []


def test_no_challenge_of_scram_is_logged() -> None:
    """With the server's last one, and the rest, passwords could be tried at leisure."""
    with logged(
        auth_methods=["SCRAM-SHA-256"],
        on_auth=lambda auth, session: auth.username if auth.validate_password("secret") else None,
    ) as (log, client):
        scram = ScramClient("alice", "secret")
        first = base64.b64encode(scram.first).decode()
        challenge = client.expect(334, f"AUTH SCRAM-SHA-256 {first}").lines[0]
        final = base64.b64encode(scram.final(base64.b64decode(challenge)))
        signature = client.expect(334, final).lines[0]
        client.expect(235, "")
    lines = "\n".join(log.messages)
    assert lines.count("S: 334 ***") == 2
    for secret in (first, challenge, final.decode(), signature):
        assert secret not in lines


def test_what_the_client_may_see_of_a_refusal_is_logged() -> None:
    data = {"status": "401", "scope": "mail"}
    with logged(
        auth_methods=["XOAUTH2"], on_auth=lambda auth, session: AuthResponse(data=data)
    ) as (log, client):
        challenge = client.expect(334, f"AUTH XOAUTH2 {TOKEN}").lines[0]
        assert json.loads(base64.b64decode(challenge)) == data
        client.expect(535, "")
    assert f"S: 334 {challenge}\\r\\n" in "\n".join(log.messages)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"NOOP\r\n", "NOOP"),
        (b"noop  x \n", "noop  x "),
        (b"MAIL FROM:<a@b>\r\n", "MAIL FROM:<a@b>"),
        (b"AUTH PLAIN\r\n", "AUTH PLAIN ***"),
        (b"auth xoauth2 secret\r\n", "AUTH XOAUTH2 ***"),
        (b"AUTH secret\r\n", "AUTH  ***"),
        (b"AUTH\r\n", "AUTH  ***"),
        (b"secret\r\n", "***"),
        (b"\r\n", "***"),
        (b"NOOPsecret\r\n", "***"),
        (b"NOOP\tsecret\r\n", "***"),
        (b"XCLIENT LOGIN=me\r\n", "XCLIENT LOGIN=me"),
        (b"EHLO \xff\x00\x1b[2J\r\n", "EHLO \\xff\\x00\\x1b[2J"),
    ],
)
def test_shown_command(line: bytes, shown: str) -> None:
    assert shown_command(line) == shown


@given(st.binary())
def test_shown_commands_are_printable(line: bytes) -> None:
    assert all(" " <= char <= "~" for char in shown_command(line))


# --- one line a record -------------------------------------------------------------------------

NASTY = [
    "\r", "\0", "\x1b[2J", "\x7f", "\x85", "\u2028", "\u2029", "\v", "\f", "\x1c", "é", "\u202e",
]  # fmt: skip


@pytest.mark.parametrize("nasty", NASTY, ids=ascii)
def test_nothing_that_a_client_says_breaks_a_record(nasty: str) -> None:
    def on_rcpt_to(address: Any, session: SMTPSession) -> None:
        raise SMTPError(f"No such user: {address}\r\n250 {nasty}")

    with logged(on_rcpt_to=on_rcpt_to, use_xclient=True, max_bad_commands=None) as (log, client):
        for line in (
            f"NOOP a{nasty}b",
            f"{nasty}",
            f"HELO a{nasty}b",
            f"XCLIENT NAME=a{nasty}b",
            "XCLIENT NAME=a+0D+0Ab HELO=+1B+00",
            f"MAIL FROM:<a{nasty}b@client.example>",
            f"MAIL FROM:<a@client.example> SMTPUTF8 X=a{nasty}b",
            "MAIL FROM:<a@client.example>",
            f"RCPT TO:<b{nasty}@server.example>",
            "RCPT TO:<b@server.example>",
            f"AUTH {nasty}",
            f"AUTH LOGIN {base64_of(nasty)}",
        ):
            client.send_lines(line)
        client.send(b"NOOP \xff\xfe\xc0\x80\r\n")
        client.send_lines("QUIT")
        client.rest()
    check_lines(log)


@pytest.mark.parametrize("options", [{"use_proxy": True}, {"secure": True}], ids=str)
@pytest.mark.parametrize(
    "octets",
    [
        b"PROXY TCP4 \x1b[2J\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\0\r\n",
        b"GET /\x1b[2J HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\xff\xff\xff\xff",
        b"\x16\x03\x01\x00\x05hello",
    ],
)
def test_nothing_before_the_dialogue_breaks_a_record(
    options: dict[str, Any], octets: bytes
) -> None:
    log = Log()
    with serving(logger=log.logger, **options) as server:
        with connect(server) as client:
            client.send(octets)
            client.rest()
        wait_until_idle(server)
    assert len(log.messages) > 2
    check_lines(log)


def check_lines(log: Log) -> None:
    for message in log.messages:
        assert CONTROL_CHARACTERS.search(message) is None
        assert message.isascii()
        assert len(message.splitlines()) == 1


# --- tracebacks --------------------------------------------------------------------------------

FORGED = "first\n2026-01-01 INFO [session] all is well\r\n\x1b[2J\u2028second"


def raised(make: Any, cause: BaseException | None = None) -> BaseException:
    try:
        if cause is not None:
            raise make(FORGED) from cause
        raise make(FORGED)
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return error


@pytest.mark.parametrize("make", [ValueError, KeyError, SMTPError, SyntaxError, SystemExit])
def test_a_traceback_quotes_the_client_on_one_line(make: Any) -> None:
    lines = shown_traceback(raised(make)).split("\n")
    assert lines[0] == "Traceback (most recent call last):"
    assert 'test_logs.py", line' in lines[1]
    (text,) = (line for line in lines if "all is well" in line)
    assert text.split(":")[0].endswith(make.__name__)
    assert "second" in text
    assert text.isascii()
    assert CONTROL_CHARACTERS.search(text) is None
    # What Python shows of the frame is the program's own.
    assert all(line.startswith(("  ", "Traceback ", text)) for line in lines)


def test_a_traceback_tells_what_led_to_it() -> None:
    cause = raised(KeyError, raised(LookupError))
    text = shown_traceback(raised(ValueError, cause))
    order = ["\nLookupError: ", "\nKeyError: ", "\nValueError: "]
    assert [text.index(name) for name in order] == sorted(text.index(name) for name in order)
    assert text.count("all is well") == text.count("Traceback") == 3


def test_a_traceback_that_leads_to_itself_ends() -> None:
    first, second = raised(KeyError), raised(ValueError)
    first.__cause__, second.__cause__ = second, first
    assert shown_traceback(first).count("Traceback") == 2


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_a_traceback_of_a_group_tells_of_each() -> None:
    # By its name, which Python 3.10 does not know.
    group = vars(builtins)["ExceptionGroup"](FORGED, [raised(KeyError), raised(ValueError)])
    text = shown_traceback(group)
    assert text.count("all is well") == 3
    assert len(text.split("\n")) == len(text.splitlines())


def test_a_formatter_shows_this_traceback_and_handlers_get_the_exception() -> None:
    def on_mail_from(address: Any, session: SMTPSession) -> None:
        raise ValueError(FORGED)

    with logged(on_mail_from=on_mail_from) as (log, client):
        client.expect(451, "MAIL FROM:<a@client.example>")
    (record,) = (each for each in log.records if each.levelno == logging.ERROR)
    shown = logging.Formatter("%(asctime)s %(message)s").format(record)
    assert not any(line.startswith("2026-01-01 INFO") for line in shown.splitlines())
    assert "\nValueError: first\\n2026-01-01 INFO" in shown
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == FORGED
    # Where it happened.
    assert (record.filename, record.funcName) == ("test_logs.py", "on_mail_from")


def test_nothing_is_formatted_for_a_log_that_takes_no_errors() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise AssertionError("formatted in vain")

    log = Log()
    log.logger.setLevel(logging.CRITICAL)
    ServerLogger(log.logger).failure("%s failed", "nothing", Unprintable())
    assert log.records == []


def test_a_failure_that_was_never_raised_is_logged_as_well() -> None:
    log = Log()
    ServerLogger(log.logger).failure("%s failed", "something", ValueError(FORGED))
    assert "ValueError: first\\n2026" in log.everything


def test_a_traceback_does_not_quote_a_whole_message() -> None:
    assert len(shown_traceback(raised(lambda text: ValueError("\u00e9" * 10_000_000)))) < 100_000


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_a_traceback_of_groups_without_end_is_cut() -> None:
    group = raised(ValueError)
    for _ in range(3000):
        group = vars(builtins)["ExceptionGroup"]("group", [group])
    text = shown_traceback(group)
    assert 5 < text.count("Traceback") < 20
