r"""What the application says, or fails with, found again as a line of its own.

CWE-93 and CWE-117, of the other side: a callback refuses with a text that holds what the client
sent ("no such user: ..."), or fails with an exception that does. CVE-2020-28021 (Exim) needed no
more than a line end that came back out of a name.

Here a reply keeps its form whatever text a callback gives it: control characters become spaces, too
much goes on in the next line of the reply, never under another code. Options whose text goes into
replies are refused with control characters when the server is made. In the log, the text of an
exception begins no line.
"""

from __future__ import annotations

import base64
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest

from blocksmtp import AuthResponse, SMTPError, SMTPServer
from tests.client import connect, serving, wait_until_idle
from tests.protocol.bench import GivenCallbacks

from .talk import Log, Talk, memory_log

FORGED = "250 2.0.0 forged"
TEXTS = {
    "CRLF": f"no\r\n{FORGED}",
    "LF": f"no\n{FORGED}",
    "CR": f"no\r{FORGED}",
    "many": f"\r\n\r\n{FORGED}\r\n\r\n",
    "NUL": "no\0way",
    "C0": "".join(map(chr, range(32))),
    "DEL": "no\x7f",
    "C1": "no" + "".join(map(chr, range(0x80, 0xA0))),
    "LS": f"no\u2028{FORGED}\u2029",
    "UTF-8": "Grüße 你好 \U0001f4a9",
    "half a surrogate": "no\ud800\udc80",
    "empty": "",
    "space": " ",
    "long": "x" * 5000,
    "long words": " ".join(["word"] * 2000),
    "long UTF-8": "é" * 3000,
    "all at once": f"é{'x' * 506}\r\n{FORGED} " * 9,
    "percent": "%s %d %(session_id)s {0}",
}
every_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)

TRANSACTION = [b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n", b"x\r\n.\r\n"]


def refusing(text: str) -> Callable[..., Any]:
    def refuse(*arguments: object) -> None:
        raise SMTPError(text, 550)

    return refuse


def returning(result: Any) -> Callable[..., Any]:
    return lambda *arguments: result


def failing(text: str) -> Callable[..., Any]:
    def fail(*arguments: object) -> None:
        raise LookupError(text)

    return fail


# The callback, what it does, what the client says, and the code of the last reply.
SAYING: dict[str, tuple[str, Callable[[str], Callable[..., Any]], list[bytes], int]] = {
    "on_connect": ("on_connect", refusing, [], 554),
    "on_mail_from": ("on_mail_from", refusing, TRANSACTION[:1], 550),
    "on_rcpt_to": ("on_rcpt_to", refusing, TRANSACTION[:2], 550),
    "on_data": ("on_data", refusing, TRANSACTION, 550),
    "on_auth": ("on_auth", refusing, [b"AUTH PLAIN AGEAYg==\r\n"], 550),
    "result of on_data": ("on_data", returning, TRANSACTION, 250),
    "AuthResponse, refusing": (
        "on_auth",
        lambda text: returning(AuthResponse(message=text)),
        [b"AUTH PLAIN AGEAYg==\r\n"],
        535,
    ),
    "AuthResponse, accepting": (
        "on_auth",
        lambda text: returning(AuthResponse("me", message=text)),
        [b"AUTH PLAIN AGEAYg==\r\n"],
        235,
    ),
    "on_mail_from fails": ("on_mail_from", failing, TRANSACTION[:1], 451),
    "on_data fails": ("on_data", failing, TRANSACTION, 451),
    "on_auth fails": ("on_auth", failing, [b"AUTH PLAIN AGEAYg==\r\n"], 451),
}


@every_text
@pytest.mark.parametrize("utf8", [False, True], ids=["ASCII", "SMTPUTF8"])
@pytest.mark.parametrize("saying", SAYING)
def test_no_text_of_a_callback_breaks_a_reply(saying: str, text: str, utf8: bool) -> None:
    name, does, lines, code = SAYING[saying]
    if utf8:
        lines = [line.replace(b"<a@b>", b"<a@b> SMTPUTF8") for line in lines]
    callbacks = GivenCallbacks(**{name: does(text)})
    with memory_log() as log:
        talk = Talk(b"EHLO a\r\n", *lines, callbacks=callbacks, secure=True)
    # One reply to each line, as there would be without any text.
    before = [220, 250, 250, 250, 354] if name != "on_auth" else [220, 250]
    assert talk.codes == [*before[: 1 + len(lines) if name != "on_connect" else 0], code]
    if does is failing:
        assert FORGED not in talk.answers.decode()
    for shown in log.shown:
        assert shown.isascii()
        assert shown.isprintable(), shown


@every_text
@pytest.mark.parametrize("mapping", [False, True], ids=["list", "mapping"])
def test_no_text_of_a_recipient_s_breaks_a_reply(text: str, mapping: bool) -> None:
    results: Any = [text, SMTPError(text, 452), None]
    if mapping:
        results = {"c@d": text, "e@f": SMTPError(text, 452)}
    talk = Talk(
        b"LHLO a\r\nMAIL FROM:<a@b>\r\n",
        *(b"RCPT TO:<%s>\r\n" % address for address in (b"c@d", b"e@f", b"g@h")),
        b"DATA\r\n",
        b"x\r\n.\r\nNOOP\r\n",
        callbacks=GivenCallbacks(on_data=returning(results)),
        lmtp=True,
    )
    assert talk.codes == [220, *[250] * 5, 354, 250, 452, 250, 250]


@every_text
def test_no_text_breaks_a_challenge(text: str) -> None:
    """The data of an AuthResponse is JSON in base64, which is one line whatever it holds."""
    data = {"status": text, text: "scope"}
    talk = Talk(
        b"EHLO a\r\n",
        b"AUTH XOAUTH2 " + base64.b64encode(b"user=a\1auth=Bearer t\1\1") + b"\r\n",
        b"\r\nNOOP\r\n",
        callbacks=GivenCallbacks(on_auth=returning(AuthResponse(data=data))),
        auth_methods=["XOAUTH2"],
        secure=True,
    )
    if len(json.dumps(data)) > 9000:
        assert talk.codes[2] == 451
        return
    assert talk.codes[2:] == [334, 535, 250]
    assert base64.b64decode(talk.turns[2][4:]) == json.dumps(data).encode()


BREAKING = ["CRLF", "LF", "CR", "NUL", "C0", "DEL", "C1", "LS"]


@pytest.mark.parametrize("option", ["name", "banner", "helo_response", "auth_required_message"])
@pytest.mark.parametrize("text", [TEXTS[name] for name in BREAKING], ids=BREAKING)
def test_an_option_that_would_break_a_reply_is_refused(option: str, text: str) -> None:
    with pytest.raises(ValueError, match=option):
        SMTPServer(**{option: text})


@pytest.mark.parametrize("text", [TEXTS[name] for name in BREAKING], ids=BREAKING)
def test_a_name_from_the_dns_is_a_host_name(text: str) -> None:
    """Whoever has an address decides what its reverse lookup says."""

    class Names:
        def reverse(self, ip: str) -> list[str]:
            return [text, f"a{text}.example", f"{text}.example"]

    log = Log()
    with serving(resolver=Names(), disable_reverse_lookup=False, logger=log.logger) as server:
        with connect(server) as client:
            assert client.hello().lines[0].endswith("[127.0.0.1]")
            assert server.connections[0].client_hostname == "[127.0.0.1]"
        wait_until_idle(server)
    assert all(shown.isprintable() for shown in log.shown)


# --- tracebacks ---------------------------------------------------------------------------------

CLIENT_SAYS = "INFO [admin] user root authenticated"
LINE_ENDS = ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"]


class SaysItself(Exception):
    """Shows in its repr as well as its text what it is about."""

    def __repr__(self) -> str:
        return str(self)


def raised_with_a_cause(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError as error:
        raise SaysItself(text) from error


def raised_with_a_note(text: str) -> None:
    error = LookupError("of the application")
    error.__notes__ = [text]  # type: ignore[attr-defined]  # add_note() is new in 3.11
    raise error


RAISING: dict[str, Callable[[str], None]] = {
    "as it is": lambda text: failing(text)(),
    "with a cause": raised_with_a_cause,
}
if sys.version_info >= (3, 11):  # which shows notes
    RAISING["with a note"] = raised_with_a_note


@pytest.mark.parametrize("line_end", LINE_ENDS, ids=ascii)
@pytest.mark.parametrize("how", RAISING)
@pytest.mark.parametrize("where", ["on_data", "on_auth", "on_close", "event", "context"])
def test_no_exception_lets_the_client_write_the_log(where: str, how: str, line_end: str) -> None:
    """A callback fails with a text that quotes the message, or a password.

    The record of it has many lines, and none but the first may begin as a record does.
    """
    quoted = f"cannot parse: {line_end}{CLIENT_SAYS}{line_end}"

    def fail(*arguments: object) -> Any:
        RAISING[how](quoted)

    log = Log()
    options: dict[str, Any] = {"logger": log.logger, "allow_insecure_auth": True}
    if where in ("on_data", "on_auth", "on_close"):
        options[where] = fail
    if where == "context":
        options |= {"callback_context": fail, "on_close": lambda session: None}
    with serving(**options) as server:
        if where == "event":
            server.on("connect", fail)
        with connect(server) as client:
            client.send_lines("EHLO a", "AUTH PLAIN AGEAYg==", "MAIL FROM:<a@b>", "RCPT TO:<c@d>")
            client.send_lines("DATA", "x", ".", "QUIT")
            client.rest()
        wait_until_idle(server)
    failures = [shown for shown in log.shown if CLIENT_SAYS in shown]
    assert failures, "the failure is told"
    for shown in failures:
        first, *others = shown.splitlines()
        assert first.startswith("ERROR ")
        assert not [line for line in others if line.startswith(CLIENT_SAYS)]


class Uncountable(Exception):
    """Has an attribute of the name that ExceptionGroup uses, for something else."""

    exceptions = 5


class Endless(Exception):
    """Is said to consist of itself."""

    @property
    def exceptions(self) -> list[Exception]:
        return [self]


class Speechless(Exception):
    def __str__(self) -> str:
        raise LookupError("no words")


class Quarrelsome(Exception):
    def __eq__(self, other: object) -> bool:
        raise LookupError("not to be compared")

    __hash__ = Exception.__hash__


ODD = [Uncountable, Endless, Speechless, Quarrelsome]


@pytest.mark.parametrize("kind", ODD, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("led_to", [False, True], ids=["alone", "with a cause"])
def test_no_exception_is_too_odd_to_be_told(kind: type[Exception], led_to: bool) -> None:
    """Or a client that can provoke it fails where nobody sees it."""

    def on_mail_from(*arguments: object) -> None:
        if led_to:
            raise kind("odd") from kind("the cause")
        raise kind("odd")

    log = Log()
    told: list[Exception] = []
    with serving(logger=log.logger, on_mail_from=on_mail_from) as server:
        server.on("error", told.append)
        with connect(server) as client:
            client.hello()
            client.expect(451, "MAIL FROM:<a@b>")
            client.expect(250, "NOOP")
        wait_until_idle(server)
    assert [type(error) for error in told] == [kind]
    assert [each for each in log.at_least(logging.ERROR) if each == "on_mail_from failed"]
