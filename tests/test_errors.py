"""SMTPError, and what becomes of any other exception of the application."""

from __future__ import annotations

import contextlib
import enum
import logging
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from blocksmtp import AuthResponse, DataStream, SMTPError, SMTPServer, SMTPSession
from blocksmtp import errors as all_errors
from tests.client import connect, serving, trusting, wait_until_idle

SECRET = "hunter2 in the exception"
ATTEMPT = "AUTH PLAIN AHVzZXIAc2VjcmV0"

# --- SMTPError ---------------------------------------------------------------------------------


def test_what_it_holds() -> None:
    error = SMTPError("No such user", 550, "5.1.1")
    assert (error.message, error.response_code, error.enhanced_code) == (
        "No such user",
        550,
        "5.1.1",
    )
    assert str(error) == "No such user"
    bare = SMTPError("No")
    assert (bare.response_code, bare.enhanced_code) == (None, None)
    assert isinstance(error, Exception)
    keywords = SMTPError(message="No", response_code=421, enhanced_code="4.7.0")
    assert keywords.response_code == 421


@pytest.mark.parametrize("code", [400, 421, 450, 499, 500, 554, 599])
def test_codes_in_range(code: int) -> None:
    assert SMTPError("No", code).response_code == code


@pytest.mark.parametrize("code", [0, -1, 200, 250, 354, 399, 600, 5500])
def test_codes_out_of_range(code: int) -> None:
    with pytest.raises(ValueError, match="must be from 400 to 599"):
        SMTPError("No", code)


@pytest.mark.parametrize("code", ["550", 550.0, True, [550]])
def test_codes_of_the_wrong_type(code: Any) -> None:
    with pytest.raises(TypeError, match="response_code must be int"):
        SMTPError("No", code)


@pytest.mark.parametrize("message", [None, b"No", 550, SMTPError("No")])
def test_messages_of_the_wrong_type(message: Any) -> None:
    with pytest.raises(TypeError, match="message must be str"):
        SMTPError(message)


@pytest.mark.parametrize("code", ["", "5.7", "5.7.1 ", "6.1.1", "3.1.1", "5.1111.1", "5.1.1\r\n"])
def test_enhanced_codes_that_are_none(code: str) -> None:
    with pytest.raises(ValueError, match="must look like"):
        SMTPError("No", 550, code)


def test_enhanced_codes_of_the_wrong_type() -> None:
    with pytest.raises(TypeError, match="enhanced_code must be str"):
        SMTPError("No", 550, 571)  # type: ignore[arg-type]


@pytest.mark.parametrize(("code", "enhanced"), [(550, "4.7.1"), (450, "5.7.1")])
def test_codes_of_different_classes(code: int, enhanced: str) -> None:
    with pytest.raises(ValueError, match="different classes"):
        SMTPError("No", code, enhanced)


@pytest.mark.parametrize("code", [None, 550])
def test_success_is_no_error(code: int | None) -> None:
    with pytest.raises(ValueError, match="tells of success"):
        SMTPError("No", code, "2.0.0")


def test_an_error_inside_a_callback_that_constructs_a_bad_one() -> None:
    """A code out of range is a defect of the application, told where it is made."""

    def on_mail_from(address: object, session: SMTPSession) -> None:
        raise SMTPError("Fine, in fact", 250)

    with serving(on_mail_from=on_mail_from) as server, connect(server) as client:
        client.hello()
        assert client.command("MAIL FROM:<a@client.example>").code == 451


@pytest.mark.parametrize(
    "kind",
    [
        *(all_errors.ClientGone, all_errors.ClientTooSlow, all_errors.ServerClosing),
        *(all_errors.HandshakeFailed, all_errors.ProxyHeaderBroken),
    ],
)
def test_what_ends_a_connection_is_a_connection_error(kind: type[Exception]) -> None:
    assert issubclass(kind, ConnectionError)


# --- defects of the application ----------------------------------------------------------------

FIXED = "4.3.0 Error: internal server error, try again later"


def failing(*arguments: object) -> None:
    raise LookupError(SECRET)


class FailingContext:
    """A context that fails where it is told to."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __call__(self, session: SMTPSession) -> FailingContext:
        if self.where == "call":
            raise LookupError(SECRET)
        return self

    def __enter__(self) -> None:
        if self.where == "enter":
            raise LookupError(SECRET)

    def __exit__(self, *error: object) -> None:
        if self.where == "exit":
            raise LookupError(SECRET)


def talk(server: SMTPServer) -> list[str]:
    """A whole dialogue with STARTTLS and AUTH, as far as it goes: what the server said."""
    said: list[str] = []
    with connect(server) as client:
        with contextlib.suppress(ConnectionError):
            said.append(client.reply())
            for line in (
                *("EHLO client.example", "STARTTLS", "EHLO client.example", ATTEMPT),
                *("MAIL FROM:<a@client.example>", "RCPT TO:<b@server.example>", "DATA"),
                "QUIT",
            ):
                said.append(client.command(line))
                if line == "STARTTLS" and said[-1].startswith("220"):
                    client.start_tls()
                elif line == "DATA" and said[-1].startswith("354"):
                    client.send("text\r\n.\r\n")
                    said.append(client.reply())
        said.append(client.rest().decode())
    return said


OPTIONS: dict[str, Any] = {
    "disabled_commands": (),
    "on_auth": lambda auth, session: "user",
    "auth_optional": True,
}


@contextlib.contextmanager
def observed(**options: Any) -> Iterator[tuple[SMTPServer, list[BaseException]]]:
    """A server, and what its "error" event tells."""
    seen: list[BaseException] = []
    with serving(**{**OPTIONS, **options}) as server:
        server.on("error", seen.append)
        yield server, seen


# callback -> the reply to which its failure leads; "" where the connection is only closed
REPLIES = {
    "on_connect": f"421 {FIXED}",
    "on_secure": "",
    "on_auth": f"451 {FIXED}",
    "on_mail_from": f"451 {FIXED}",
    "on_rcpt_to": f"451 {FIXED}",
    "on_data": f"451 {FIXED}",
    "on_close": "221 2.0.0 Bye",
}


@pytest.mark.parametrize("name", REPLIES)
@pytest.mark.parametrize(
    "kind", [LookupError, SystemExit, OSError, RecursionError, ConnectionError, TimeoutError]
)
def test_an_exception_in_a_callback(
    name: str, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    error = kind(SECRET)

    def callback(*arguments: object) -> None:
        raise error

    with observed(**{name: callback}) as (server, seen):
        said = talk(server)
        wait_until_idle(server)
        # It is told of once, to the application alone.
        assert seen == [error]
        assert SECRET not in "".join(said)
        if REPLIES[name]:
            assert REPLIES[name] in said
        records = [each for each in caplog.records if each.levelno == logging.ERROR]
        assert [record.getMessage().split("] ")[1] for record in records] == [f"{name} failed"]
        assert records[0].exc_info is not None
        assert "in callback" in "".join(traceback.format_exception(*records[0].exc_info))
        # The next client is served.
        setattr(server, name, None if name != "on_auth" else OPTIONS["on_auth"])
        assert "250 2.6.0 OK: message queued" in talk(server)


def test_the_connection_goes_on_after_a_defect() -> None:
    for name in ("on_auth", "on_mail_from", "on_rcpt_to", "on_data"):
        with (
            observed(**{name: failing}, allow_insecure_auth=True) as (server, _),
            connect(server) as client,
        ):
            client.hello()
            for line in ("MAIL FROM:<a@client.example>", "RCPT TO:<b@server.example>"):
                client.command(line)
            if name == "on_auth":
                client.expect(250, "RSET")
                client.expect(451, ATTEMPT)
            elif name == "on_data":
                assert client.message().code == 451
            setattr(server, name, None)
            client.expect(250, "RSET")
            client.envelope()
            assert client.message().code == 250
            (session,) = server.connections
            assert session.transaction == 1


def test_a_defect_in_on_secure_closes_the_connection() -> None:
    for implicit in (False, True):
        with observed(on_secure=failing, secure=implicit) as (server, seen):
            with connect(server, tls=trusting() if implicit else None) as client:
                if not implicit:
                    client.hello()
                    client.upgrade()
                assert client.rest() == b""
            wait_until_idle(server)
            assert len(seen) == 1


@pytest.mark.parametrize("where", ["call", "enter", "exit"])
def test_a_failing_callback_context(where: str) -> None:
    """It fails the callback that it is entered for, whatever that would have said."""

    def accept(*arguments: object) -> None:
        """Accept."""

    callbacks = dict.fromkeys(("on_connect", "on_mail_from", "on_close"), accept)
    with observed(**callbacks, callback_context=FailingContext(where)) as (server, seen):
        assert talk(server)[0] == f"421 {FIXED}"
        wait_until_idle(server)
        assert [str(error) for error in seen] == [SECRET, SECRET]  # on_connect and on_close
        server.callback_context = None
        with connect(server) as client:
            client.hello()
            server.callback_context = FailingContext(where)
            client.expect(451, "MAIL FROM:<a@client.example>")
            server.callback_context = None
            client.envelope()


def test_a_context_that_swallows_a_refusal_accepts_nothing() -> None:
    def on_rcpt_to(address: Any, session: SMTPSession) -> None:
        if address.address == "no@server.example":
            raise SMTPError("No such user")
        raise LookupError(SECRET)

    context = {"callback_context": lambda session: contextlib.suppress(Exception)}
    with observed(on_rcpt_to=on_rcpt_to, **context) as (server, seen):
        with connect(server) as client:
            client.hello()
            client.expect(250, "MAIL FROM:<a@client.example>")
            client.expect(550, "RCPT TO:<no@server.example>")
            client.expect(451, "RCPT TO:<yes@server.example>")
        assert len(seen) == 1


class FailingResolver:
    def reverse(self, ip: str) -> list[str]:
        raise LookupError(SECRET)


def test_a_failing_resolver(caplog: pytest.LogCaptureFixture) -> None:
    """A name that cannot be found is no defect: it is logged, and the address stands for it."""
    with observed(resolver=FailingResolver(), disable_reverse_lookup=False) as (server, seen):
        said = talk(server)
        assert said[1].splitlines()[0] == "250-mx.example Nice to meet you, [127.0.0.1]"
        assert SECRET not in "".join(said)
        assert seen == []
    assert "resolver failed: LookupError" in caplog.text


@pytest.mark.parametrize("value", [1, True, b"queued", ["queued"], {"b": None}, 0, False, b""])
def test_a_result_of_another_type_is_a_defect(value: Any) -> None:
    with observed(on_data=lambda stream, session: value) as (server, seen):
        with connect(server) as client:
            client.hello()
            client.envelope()
            assert client.message() == f"451 {FIXED}"
            assert server.connections[0].transaction == 0
        assert [type(error) for error in seen] == [TypeError]


@pytest.mark.parametrize("name", ["on_connect", "on_secure", "on_mail_from", "on_rcpt_to"])
@pytest.mark.parametrize("value", [False, "No, thank you", b"550"])
def test_a_refusal_that_is_returned_is_a_defect(name: str, value: Any) -> None:
    """Who meant to refuse shall not have accepted."""
    with observed(**{name: lambda *arguments: value}) as (server, seen):
        said = talk(server)
        wait_until_idle(server)
        if REPLIES[name]:
            assert REPLIES[name] in said
        assert "250 2.6.0 OK: message queued" not in said
        assert {type(error) for error in seen} == {TypeError}


def test_what_turns_out_to_be_asynchronous_is_a_defect() -> None:
    async def later() -> None:
        raise AssertionError("nobody runs this")

    with observed(on_mail_from=lambda address, session: later()) as (server, seen):
        with connect(server) as client:
            client.hello()
            client.expect(451, "MAIL FROM:<a@client.example>")
        assert "plain functions" in str(seen[0])


# --- errors of the stream ----------------------------------------------------------------------


@pytest.mark.parametrize("swallow", [False, True])
def test_the_error_of_a_read_is_no_defect(swallow: bool, caplog: pytest.LogCaptureFixture) -> None:
    def on_data(stream: DataStream, session: SMTPSession) -> str:
        try:
            stream.read()
        except ConnectionError:
            if not swallow:
                raise
        return "stored all the same"

    with observed(on_data=on_data) as (server, seen):
        with connect(server) as client:
            client.hello()
            client.envelope()
            client.expect(354, "DATA")
            client.send("half of")
        wait_until_idle(server)
    assert seen == []
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("explained", [True, False])
def test_what_the_application_makes_of_a_broken_read(explained: bool) -> None:
    """Raised from it, it says nothing new; beside it, it is a defect."""

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        try:
            stream.read()
        except ConnectionError as error:
            if explained:
                raise LookupError(SECRET) from error
            raise LookupError(SECRET) from None

    with observed(on_data=on_data) as (server, seen):
        with connect(server) as client:
            client.hello()
            client.envelope()
            client.expect(354, "DATA")
            client.send("half of")
        wait_until_idle(server)
        assert [type(error) for error in seen] == ([] if explained else [LookupError])


class Codes(int, enum.Enum):
    """Codes of an application's own."""

    NO = 550


def test_a_code_may_be_a_member_of_an_enumeration() -> None:
    def on_mail_from(address: Any, session: SMTPSession) -> None:
        raise SMTPError("no", Codes.NO)

    with serving(on_mail_from=on_mail_from) as server, connect(server) as client:
        client.hello()
        assert client.command("MAIL FROM:<a@client.example>") == "550 5.7.1 no"


def test_an_answer_may_have_a_member_of_an_enumeration() -> None:
    answer = AuthResponse(response_code=Codes.NO)
    with (
        serving(on_auth=lambda auth, session: answer, allow_insecure_auth=True) as server,
        connect(server) as client,
    ):
        client.hello()
        assert client.command("AUTH PLAIN AHVzZXIAcHc=").startswith("550 5.7.1 ")
