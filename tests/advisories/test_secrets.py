"""Passwords and tokens where somebody may read them who should not.

CWE-532 (in logs), CWE-209 (in error messages): a mail server's log is read by more people, and kept
longer, than any password should be; so are the reports of the exceptions that an application sends
away, with the repr of each object in sight.

Here no credential is logged at any level, whether right or wrong, whole or broken, at its place or
not; none stands in a reply, in an exception of ours, in what an exception was raised from, or in
the repr of anything that the package hands out. The key and its passphrase neither. (What an
application's own exception says is the application's.)

What tests/test_logs.py shows for a running server is the same list of dialogues as here.
"""

from __future__ import annotations

import base64
import dataclasses
import pprint
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import blocksmtp
from blocksmtp import AuthResponse, SMTPError, SMTPServer, SMTPSession, TLSOptions
from blocksmtp.options import Options
from tests.certificates import Leaf
from tests.client import connect, serving, trusting, wait_until_idle
from tests.protocol.bench import GivenCallbacks
from tests.test_logs import DIALOGUES, METHODS, PLAIN, SECRET, SECRETS, TOKEN, base64_of

from .talk import Heard, Log, Talk, memory_log

# Also where only one octet is wrong, or they stand where they should not.
MORE_DIALOGUES = {
    "user and password in one line": [f"AUTH LOGIN {base64_of('user')} {base64_of(SECRET)}"],
    "after a command": [f"NOOP\r\nAUTH LOGIN\r\n{base64_of('user')}\r\n{base64_of(SECRET)}"],
    "a command for a response": ["AUTH LOGIN", f"NOOP {base64_of('x')}", base64_of(SECRET)],
    "with a bare LF": [f"AUTH PLAIN\n{PLAIN}"],
    "with a bare CR": [f"AUTH PLAIN\r{PLAIN}"],
    "with NUL": [f"AUTH PLAIN\0{PLAIN}", f"\0AUTH PLAIN {PLAIN}"],
    "in upper case": [f"AUTH XOAUTH2 {TOKEN}", "", f"AUTH xoauth2 {TOKEN}", ""],
    "as the name": [f"AUTH PLAIN {base64_of(SECRET)}", f"AUTH PLAIN {base64_of(chr(0) * 2)}"],
    "HTTP": [f"AUTH PLAIN {PLAIN} HTTP/1.1"],
    "a header of HTTP": [f"Authorization: Basic {base64_of(f'user:{SECRET}')}"],
    "with another verb": [f"AUTHENTICATE PLAIN {PLAIN}", f"LOGIN user {SECRET}", f"PASS {SECRET}"],
    "a misspelt verb": [f"AUHT PLAIN {PLAIN}", f"ＡＵＴＨ PLAIN {PLAIN}"],  # noqa: RUF001
    "an unknown mechanism": [f"AUTH SCRAM-SHA-1 {PLAIN}", f"AUTH PLAIN{PLAIN[:9]} {PLAIN}"],
    "cancelled in one line": [f"AUTH PLAIN * {PLAIN}", f"AUTH PLAIN {PLAIN} *"],
}
ALL_DIALOGUES = {**DIALOGUES, **MORE_DIALOGUES}


def accept(auth: Any, session: SMTPSession) -> Any:
    """The user is an object whose repr tells all, as an application's may."""
    return {"name": auth.username, "secret": SECRET}


def refuse(auth: Any, session: SMTPSession) -> AuthResponse:
    return AuthResponse(data={"status": "401"})


def refuse_by_raising(auth: Any, session: SMTPSession) -> None:
    raise SMTPError("No", 535)


def return_nothing_useful(auth: Any, session: SMTPSession) -> AuthResponse:
    """A defect: this is no JSON, and its repr holds the password."""
    return AuthResponse(data={"seen": {SECRET}})


def return_too_much(auth: Any, session: SMTPSession) -> AuthResponse:
    """A defect: too long for a challenge."""
    return AuthResponse(data={SECRET: "x" * 10_000})


def fail(auth: Any, session: SMTPSession) -> None:
    raise LookupError(f"no such user: {auth!r} of {session!r}")


ANSWERS = [accept, refuse, refuse_by_raising, return_nothing_useful, return_too_much, fail]


def told(error: BaseException) -> str:
    """All that a report of `error` shows: the traceback, and what led to it."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def found_in(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.__name__)
@pytest.mark.parametrize("lines", ALL_DIALOGUES.values(), ids=ALL_DIALOGUES)
def test_credentials_are_nowhere(lines: list[str], answer: Callable[..., Any]) -> None:
    """Not in the log, a reply, an exception of ours or the repr of the session."""
    shown: list[str] = []

    def on_auth(auth: Any, session: SMTPSession) -> Any:
        shown.extend((repr(auth), str(auth), pprint.pformat(auth), repr(session)))
        result = answer(auth, session)
        shown.append(repr(result) if isinstance(result, AuthResponse) else "")
        return result

    for secure in (True, False):
        with memory_log() as log:
            talk = Talk(
                b"EHLO client.example\r\n",
                *(f"{line}\r\n".encode() for line in lines),
                callbacks=GivenCallbacks(on_auth=on_auth, on_close=lambda session: None),
                secure=secure,
                auth_methods=METHODS,
                max_auth_failures=None,
            )
        assert found_in(log.everything) == []
        assert found_in(talk.answers.decode()) == []
        assert found_in(repr(talk.session)) == []
        assert found_in("".join(map(told, talk.errors))) == []
    assert found_in("\n".join(shown)) == []


def test_a_password_before_tls_is_nowhere_either(leaf: Leaf) -> None:
    """A client sends it although AUTH was not offered, with STARTTLS, or in its place."""
    heard = Heard(leaf)
    with heard.serving() as server:
        for line in (f"AUTH PLAIN {PLAIN}", f"STARTTLS\r\nAUTH PLAIN {PLAIN}", PLAIN, SECRET):
            with connect(server) as client:
                client.hello()
                client.send_lines(line, "QUIT")
                assert found_in(client.rest().decode()) == []
            wait_until_idle(server)
        with connect(server) as client:
            client.hello()
            client.expect(220, "STARTTLS")
            client.send_lines(f"AUTH PLAIN {PLAIN}")
            client.rest()
        wait_until_idle(server)
    assert "on_auth" not in heard.calls
    assert found_in(heard.log.everything) == []


def test_a_name_that_a_proxy_vouches_for_is_no_secret_but_its_neighbours_are() -> None:
    """XCLIENT LOGIN holds a name only; whoever adds a password to it is refused unseen."""
    asked: list[str] = []

    def on_auth(auth: Any, session: SMTPSession) -> str:
        asked.append(repr(auth))
        return "user"

    callbacks = GivenCallbacks(on_auth=on_auth)
    lines = [b"XCLIENT LOGIN=user\r\n", f"XCLIENT LOGIN=user PASS={SECRET}\r\n".encode()]
    talk = Talk(b"EHLO a\r\n", *lines, callbacks=callbacks, use_xclient=True)
    assert talk.codes == [220, 250, 220, 501]
    assert asked == ["XClientAuth(method='XCLIENT', username='user', password=None)"]
    assert SECRET.encode() not in talk.answers


@pytest.mark.parametrize("response", ["HELP", "DATA", "QUIT", "helo", "RSET", "MAIL FROM:<a@b>"])
def test_a_response_that_looks_like_a_command_is_still_a_secret(response: str) -> None:
    """Base64 has words of four letters, too."""
    with memory_log() as log:
        Talk(
            b"EHLO a\r\n",
            b"AUTH LOGIN dXNlcg==\r\n",
            f"{response}\r\n".encode(),
            callbacks=GivenCallbacks(on_auth=accept),
            secure=True,
        )
    assert response not in log.everything.replace("S: ", "").partition("AUTH LOGIN ***")[2]


# --- results of a wrong type --------------------------------------------------------------------

WRONG: list[Any] = [SECRET, SECRET.encode(), [SECRET], {"password": SECRET}, (SECRET, SECRET)]


@pytest.mark.parametrize("result", WRONG, ids=lambda result: type(result).__name__)
def test_an_exception_of_ours_names_types_and_no_values(result: Any) -> None:
    """A callback that returns what it may not: its value may be anything."""
    for name in ("on_connect", "on_mail_from", "on_rcpt_to", "on_data"):
        for lmtp in (False, True):
            talk = Talk(
                b"LHLO a\r\n" if lmtp else b"EHLO a\r\n",
                b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nRCPT TO:<g@h>\r\nDATA\r\n",
                b"x\r\n.\r\n",
                callbacks=GivenCallbacks(**{name: lambda *arguments: result}),
                lmtp=lmtp,
            )
            assert found_in("".join(map(str, talk.errors))) == []
            if not (name == "on_data" and isinstance(result, (str, dict))):
                assert found_in(talk.answers.decode()) == []


# --- what the package hands out -----------------------------------------------------------------


def test_no_repr_of_an_auth_object_shows_more_than_names() -> None:
    """Of every class that there is, and will be: a secret in each field but the names."""
    kinds = [each for each in vars(blocksmtp).values() if isinstance(each, type)]
    auths = [kind for kind in kinds if issubclass(kind, blocksmtp.Auth)]
    assert len(auths) >= 5
    names = {"method", "username", "authzid", "authcid"}
    for kind in auths:
        fields = [row.name for row in dataclasses.fields(kind) if row.init]
        values = {name: name if name in names else SECRET for name in fields}
        for show in (repr, str, pprint.pformat, format):
            assert SECRET not in show(kind(**values)) or kind is blocksmtp.XClientAuth


def test_no_repr_of_a_session_shows_what_the_application_keeps() -> None:
    session = SMTPSession(id="1", user=SECRET, state={SECRET: SECRET})
    for show in (repr, str, pprint.pformat, format):
        assert SECRET not in show(session)


def test_no_repr_of_an_answer_shows_what_it_holds() -> None:
    for answer in (
        AuthResponse(SECRET, SECRET, 235, {SECRET: SECRET}),
        AuthResponse(None, SECRET, 535, {SECRET: SECRET}),
    ):
        assert SECRET not in f"{answer!r}{answer}"


# --- keys ---------------------------------------------------------------------------------------

PASSPHRASE = "passphrase-9876543210"


@pytest.fixture
def key_secrets(leaf: Leaf) -> list[str]:
    """The passphrase, and every line of the key."""
    lines = leaf.key.decode().splitlines()[1:-1]
    assert lines
    return [PASSPHRASE, *lines]


def test_no_repr_of_options_shows_a_key(leaf: Leaf, key_secrets: list[str]) -> None:
    given: dict[str, Any] = {"cert": leaf.cert, "key": leaf.key, "passphrase": PASSPHRASE}
    tls = TLSOptions(**given)
    log = Log()
    with serving(
        **{**given, "key": leaf.encrypted_key(PASSPHRASE.encode())},
        sni_options={"other.example": {"cert": leaf.cert, "key": leaf.key}},
        logger=log.logger,
        secure=True,
    ) as server:
        server.update_secure_context(cert=leaf.cert, key=leaf.key)
        with connect(server, tls=trusting()) as client:
            client.hello()
        objects = [tls, Options(**given, sni_options={"a.example": tls}), server, server.options]
        for show in (repr, str, pprint.pformat, format):
            text = "".join(map(show, objects))
            assert [secret for secret in key_secrets if secret in text] == []
        wait_until_idle(server)
    assert [secret for secret in key_secrets if secret in log.everything] == []


def wrong_options(leaf: Leaf, folder: Path) -> dict[str, dict[str, Any]]:
    """What may be wrong with key, certificate and passphrase."""
    encrypted = leaf.encrypted_key(PASSPHRASE.encode())
    body = leaf.key.decode().splitlines()
    key_file = leaf.write(folder)[1]
    cut_file = folder / "cut.key"
    cut_file.write_bytes(leaf.key[: len(leaf.key) // 2])
    good = {"cert": leaf.cert}
    return {
        "wrong passphrase": {**good, "key": encrypted, "passphrase": PASSPHRASE + "!"},
        "no passphrase": {**good, "key": encrypted},
        "passphrase of a wrong type": {**good, "key": encrypted, "passphrase": [PASSPHRASE]},
        "passphrase that is no UTF-8": {**good, "passphrase": PASSPHRASE + "\ud800"},
        "passphrase alone": {"passphrase": PASSPHRASE},
        "damaged key": {**good, "key": leaf.key.replace(b"A", b"!")},
        "half a key": {**good, "key": leaf.key[: len(leaf.key) // 2]},
        "half a key in a file": {**good, "key": cut_file},
        "key without its first line": {**good, "key": "\n".join(body[1:])},
        "key as a list": {**good, "key": body},
        "key for the certificate": {"cert": leaf.key, "key": leaf.key},
        "key for the authorities": {**good, "key": leaf.key, "ca": leaf.key},
        "key file as a certificate": {"cert": key_file, "key": key_file},
        "key for a name": {"name": leaf.key.decode()},
        "key for another name": {"sni_options": {"a.example": {"key": leaf.key}}},
        "wrong passphrase for another name": {
            "sni_options": {"a.example": {**good, "key": encrypted, "passphrase": PASSPHRASE + "!"}}
        },
        "no TLSOptions": {"sni_options": {"a.example": [leaf.key, PASSPHRASE]}},
        "unknown option": {"pass_phrase": PASSPHRASE},
        "given twice": {"passphrase": PASSPHRASE, "session_id_context": PASSPHRASE * 9},
    }


WRONG_OPTIONS = [
    *("wrong passphrase", "no passphrase", "passphrase of a wrong type", "damaged key"),
    *("passphrase that is no UTF-8", "passphrase alone", "half a key", "half a key in a file"),
    *("key without its first line", "key as a list"),
    *("key for the certificate", "key for the authorities", "key file as a certificate"),
    *("key for another name", "wrong passphrase for another name", "no TLSOptions"),
    *("unknown option", "given twice", "key for a name"),
]


@pytest.mark.parametrize("wrong", WRONG_OPTIONS)
def test_no_error_about_a_key_shows_it(
    leaf: Leaf, key_secrets: list[str], wrong: str, tmp_path: Path
) -> None:
    """Neither when the server is made, nor with what led to the error."""
    with pytest.raises((TypeError, ValueError, OSError)) as caught:
        SMTPServer(**wrong_options(leaf, tmp_path)[wrong])
    shown = told(caught.value).replace(repr(str(tmp_path)), "")
    shown += "".join(repr(each) for each in chain(caught.value))
    assert [secret for secret in key_secrets if secret in shown] == []


def chain(error: BaseException | None) -> list[BaseException]:
    """The exception, and those that a report shows as what led to it."""
    if error is None:
        return []
    context = None if error.__suppress_context__ else error.__context__
    return [error, *chain(error.__cause__ or context)]


def test_those_are_all_that_may_be_wrong(leaf: Leaf, tmp_path: Path) -> None:
    assert sorted(wrong_options(leaf, tmp_path)) == sorted(WRONG_OPTIONS)


def test_secrets_are_what_they_are_taken_for() -> None:
    """The list that is looked for holds the password in each form that it was sent in."""
    assert base64.b64encode(f"\0user\0{SECRET}".encode()).decode() in SECRETS
    assert {SECRET, TOKEN, base64_of(SECRET)} <= set(SECRETS)
