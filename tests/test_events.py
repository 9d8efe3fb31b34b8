"""Events: when they come, once each, and that no listener harms anything."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from blocksmtp import (
    ConnectionInfo,
    DataStream,
    MessageInfo,
    SMTPError,
    SMTPServer,
    SMTPSession,
)
from blocksmtp.events import EVENTS, Events
from tests.client import TIMEOUT, Client, connect, serving, trusting, wait_until_idle

# --- the register ------------------------------------------------------------------------------


def test_listeners_are_called_in_order_each_time() -> None:
    events = Events()
    seen: list[tuple[str, Any]] = []
    events.add("error", lambda error: seen.append(("first", error)))
    events.add("error", lambda error: seen.append(("second", error)))
    for number in (1, 2):
        events.emit("error", number)
    assert seen == [("first", 1), ("second", 1), ("first", 2), ("second", 2)]


def test_once_is_once() -> None:
    events = Events()
    seen: list[str] = []
    events.add("close", lambda: seen.append("once"), once=True)
    events.add("close", lambda: seen.append("always"))
    events.emit("close")
    events.emit("close")
    assert seen == ["once", "always", "always"]


def test_once_is_once_even_if_it_emits_again() -> None:
    events = Events()
    seen: list[str] = []

    def again() -> None:
        seen.append("once")
        events.emit("close")

    events.add("close", again, once=True)
    events.emit("close")
    assert seen == ["once"]


@pytest.mark.parametrize("once", [False, True])
def test_a_listener_that_was_removed_is_called_no_more(once: bool) -> None:
    events = Events()
    seen: list[str] = []

    def listener() -> None:
        seen.append("called")

    events.add("close", listener, once=once)
    events.remove("close", listener)
    events.remove("close", listener)  # what is not there need not go
    events.emit("close")
    assert seen == []


def test_a_bound_method_can_be_removed() -> None:
    """Each access makes a new one, so it must go by equality."""

    class Listener:
        called = False

        def method(self) -> None:
            self.called = True

    events = Events()
    listener = Listener()
    events.add("close", listener.method)
    events.remove("close", listener.method)
    events.emit("close")
    assert not listener.called


def test_a_listener_may_change_the_listeners() -> None:
    events = Events()
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        events.remove("close", first)
        events.add("close", lambda: seen.append("new"))

    events.add("close", first)
    events.add("close", lambda: seen.append("second"))
    events.emit("close")
    assert seen == ["first", "second"]
    events.emit("close")
    assert seen == ["first", "second", "second", "new"]


def test_one_that_raises_does_not_keep_the_others_from_it() -> None:
    events = Events()
    seen: list[str] = []
    errors = [LookupError("of the listener"), SystemExit("all the same")]

    def failing() -> None:
        raise errors[len(seen)]

    events.add("close", failing)
    events.add("close", lambda: seen.append("called"))
    assert events.emit("close") == errors[:1]
    assert seen == ["called"]
    assert events.emit("close") == errors[1:]
    assert seen == ["called", "called"]


@pytest.mark.parametrize("method", ["on", "once", "off"])
@pytest.mark.parametrize("event", ["data", "Close", "", "connection"])
def test_an_unknown_event(method: str, event: str) -> None:
    with pytest.raises(ValueError, match="known are listening, connect, message, error, close"):
        getattr(SMTPServer(), method)(event, print)


@pytest.mark.parametrize("method", ["on", "once"])
@pytest.mark.parametrize("listener", [None, "print", 5])
def test_what_cannot_be_called(method: str, listener: Any) -> None:
    with pytest.raises(TypeError, match="a listener must be a function"):
        getattr(SMTPServer(), method)("close", listener)


def test_on_and_once_return_the_listener() -> None:
    """So that off() can be given it, and they can stand as decorators of a kind."""
    server = SMTPServer()
    assert server.on("close", print) is print
    assert server.once("close", print) is print


# --- listening and close -----------------------------------------------------------------------


def test_listening_comes_with_each_listener_and_close_once() -> None:
    seen: list[tuple[str, int]] = []
    server = SMTPServer(disabled_commands=["STARTTLS"])
    server.on("listening", lambda: seen.append(("listening", len(server.addresses))))
    server.on("close", lambda: seen.append(("close", len(server.connections))))
    with server:
        server.listen(0, "127.0.0.1")
        server.listen(0, "127.0.0.1")
        with connect(server) as client:
            client.hello()
            server.close()
        server.close()
    assert seen == [("listening", 1), ("listening", 2), ("close", 0)]


# --- connect -----------------------------------------------------------------------------------


def test_connect_tells_who_it_is() -> None:
    seen: list[ConnectionInfo] = []
    with serving() as server:
        server.on("connect", seen.append)
        with connect(server) as client:
            client.hello()
            client.envelope()
            client.message()
            client.envelope()
            (session,) = server.connections
            assert seen == [
                ConnectionInfo(
                    id=session.id,
                    local_address="127.0.0.1",
                    local_port=server.port or 0,
                    remote_address="127.0.0.1",
                    remote_port=client.sock.getsockname()[1],
                    host_name_appears_as=None,
                    client_hostname="[127.0.0.1]",
                )
            ]


def test_connect_comes_after_on_connect_and_before_the_greeting() -> None:
    seen: list[str] = []
    greeted = threading.Event()
    with serving(on_connect=lambda session: seen.append("on_connect")) as server:

        def listener(info: ConnectionInfo) -> None:
            seen.append(threading.current_thread().name)
            assert not greeted.is_set()

        server.on("connect", listener)
        with connect(server) as client:
            client.reply()
            greeted.set()
            (session,) = server.connections
    assert seen == ["on_connect", f"blocksmtp {session.id}"]


@pytest.mark.parametrize("error", [SMTPError("no"), LookupError("oops")])
def test_no_connect_for_a_client_that_is_refused(error: Exception) -> None:
    def on_connect(session: SMTPSession) -> None:
        raise error

    seen: list[ConnectionInfo] = []
    with serving(on_connect=on_connect) as server:
        server.on("connect", seen.append)
        with connect(server) as client:
            assert client.reply().code in (421, 554)
    assert seen == []


def test_connect_in_tls_is_once() -> None:
    seen: list[ConnectionInfo] = []
    with serving(disabled_commands=()) as server:
        server.listen(0, "127.0.0.1", secure=True)
        server.on("connect", seen.append)
        with connect(server) as client:
            client.hello()
            client.upgrade()
            client.expect(250, "EHLO client.example")
            client.envelope()
        assert len(seen) == 1
        with connect(server.addresses[1], tls=trusting()) as client:
            client.hello()
            client.envelope()
        assert len(seen) == 2


def test_connect_waits_for_the_proxy_header() -> None:
    seen: list[ConnectionInfo] = []
    with serving(use_proxy=True) as server:
        server.on("connect", seen.append)
        with connect(server) as client:
            client.send("PROXY TCP6 2001:DB8::9 2001:db8:0::1 1024 25\r\n")
            client.hello()
    (info,) = seen
    assert (info.remote_address, info.remote_port) == ("2001:db8::9", 1024)
    assert (info.local_address, info.local_port) == ("2001:db8::1", 25)


def test_connect_where_xclient_replaces_the_address() -> None:
    seen: list[ConnectionInfo] = []
    with serving(use_xclient=True) as server:
        server.on("connect", seen.append)
        with connect(server) as client:
            client.hello()
            assert seen == []
            client.expect(220, "XCLIENT ADDR=192.0.2.9 NAME=real.example PORT=1024 HELO=me")
            assert len(seen) == 1
            client.expect(220, "XCLIENT ADDR=192.0.2.10")
            client.expect(250, "EHLO real.example")
            client.envelope()
            assert len(seen) == 1
    (info,) = seen
    assert (info.remote_address, info.remote_port) == ("192.0.2.9", 1024)
    assert info.client_hostname == "real.example"
    assert info.host_name_appears_as == "me"


def test_connect_where_xclient_could_have_come() -> None:
    seen: list[ConnectionInfo] = []
    with serving(use_xclient=True) as server:
        server.on("connect", seen.append)
        with connect(server) as client:
            client.hello()
            client.expect(501, "XCLIENT ADDR=nonsense")
            client.expect(501, "MAIL FROM:<>nonsense")
            client.expect(250, "NOOP")
            assert seen == []
            client.envelope()
            assert len(seen) == 1
            client.message()
            client.envelope()
    (info,) = seen
    assert info.remote_address == "127.0.0.1"
    assert info.host_name_appears_as == "client.example"


@pytest.mark.parametrize(
    "options",
    [{"use_xclient": ["192.0.2.0/24"]}, {"use_xclient": True, "disabled_commands": ["XCLIENT"]}],
)
def test_connect_at_once_where_xclient_may_not_come(options: dict[str, Any]) -> None:
    seen: list[ConnectionInfo] = []
    with serving(disable_reverse_lookup=True, auth_optional=True, **options) as server:
        server.on("connect", seen.append)
        with connect(server) as client:
            client.reply()
            assert len(seen) == 1


# --- error -------------------------------------------------------------------------------------


def test_error_is_for_defects_and_not_for_refusals() -> None:
    def on_rcpt_to(address: Any, session: SMTPSession) -> None:
        if address.address == "no@server.example":
            raise SMTPError("no such user")
        raise LookupError("of the application")

    seen: list[BaseException] = []
    with serving(on_rcpt_to=on_rcpt_to) as server:
        server.on("error", seen.append)
        with connect(server) as client:
            client.hello()
            client.expect(250, "MAIL FROM:<a@client.example>")
            client.expect(550, "RCPT TO:<no@server.example>")
            assert seen == []
            client.expect(451, "RCPT TO:<yes@server.example>")
    assert [repr(error) for error in seen] == ["LookupError('of the application')"]


@pytest.mark.parametrize("manner", ["quiet", "reset", "in DATA", "no TLS", "no PROXY header"])
def test_a_client_that_breaks_off_is_no_error(
    manner: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[BaseException] = []
    options: dict[str, dict[str, Any]] = {
        "no TLS": {"secure": True},
        "no PROXY header": {"use_proxy": True},
    }
    with serving(**options.get(manner, {})) as server:
        server.on("error", seen.append)
        with connect(server) as client:
            if manner.startswith("no "):
                client.send_lines("EHLO client.example")
                client.rest()
            else:
                client.hello()
            if manner == "reset":
                client.reset()
            elif manner == "in DATA":
                client.envelope()
                client.expect(354, "DATA")
                client.send("half of")
        wait_until_idle(server)
    assert seen == []
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# --- listeners that fail -----------------------------------------------------------------------


@pytest.mark.parametrize("event", EVENTS)
def test_a_listener_that_raises_is_logged_and_harms_nothing(
    event: str, caplog: pytest.LogCaptureFixture
) -> None:
    called = threading.Event()

    def failing(*arguments: object) -> None:
        called.set()
        raise LookupError("of the listener")

    def on_mail_from(address: Any, session: SMTPSession) -> None:
        if address.address == "defect@client.example":
            raise ZeroDivisionError

    server = SMTPServer(
        auth_optional=True, disabled_commands=["STARTTLS"], on_mail_from=on_mail_from
    )
    server.on(event, failing)
    with server:
        server.listen(0, "127.0.0.1")
        with connect(server) as client:
            client.hello()
            client.expect(451, "MAIL FROM:<defect@client.example>")
            client.envelope()
            assert client.message().code == 250
    assert server.wait(0)
    assert called.wait(TIMEOUT)
    (record,) = (each for each in caplog.records if "listener" in each.getMessage())
    assert record.getMessage().endswith(f"a listener of {event} failed")
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


# --- message -----------------------------------------------------------------------------------

both_kinds = pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])


@contextlib.contextmanager
def watched(**options: Any) -> Iterator[tuple[Client, list[MessageInfo]]]:
    """A client that has said hello, and what the listeners of "message" are told."""
    seen: list[MessageInfo] = []
    with serving(**options) as server:
        server.on("message", seen.append)
        tls = trusting() if options.get("secure") else None
        with connect(server, tls=tls) as client:
            client.hello("LHLO client.example" if options.get("lmtp") else "EHLO client.example")
            yield client, seen


@both_kinds
def test_a_message_that_was_accepted_and_said_so(secure: bool) -> None:
    sessions: list[SMTPSession] = []
    envelopes: list[object] = []

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        sessions.append(session)
        envelopes.append(session.envelope)

    with watched(on_data=on_data, secure=secure) as (client, seen):
        for number in (1, 2):
            client.envelope()
            assert client.message().code == 250
            client.expect(250, "NOOP")
            assert len(seen) == number
    for info, session, envelope in zip(seen, sessions, envelopes, strict=True):
        assert (info.id, info.accepted) == (session.id, True)
        assert (info.reply_codes, info.reply_written) == ((250,), True)
        assert info.envelope is envelope
        assert [str(address) for address in info.envelope.rcpt_to] == ["b@server.example"]
    assert seen[0].envelope is not seen[1].envelope


def test_a_message_is_told_of_only_after_its_reply() -> None:
    told = threading.Event()
    with serving() as server:
        server.on("message", lambda info: told.wait(TIMEOUT))
        with connect(server) as client:
            client.hello()
            client.envelope()
            client.expect(354, "DATA")
            # Whatever follows in the same write waits; the reply does not.
            client.send(".\r\nNOOP\r\n")
            assert client.reply().code == 250
            told.set()
            assert client.reply().code == 250


def test_a_message_that_was_refused() -> None:
    def on_data(stream: DataStream, session: SMTPSession) -> None:
        raise SMTPError("no", 554)

    with watched(on_data=on_data) as (client, seen):
        client.envelope()
        assert client.message().code == 554
        client.envelope()
        client.send("BDAT 3\r\none")
        assert client.reply().code == 554
        client.expect(250, "NOOP")
    assert [(info.accepted, info.reply_codes, info.reply_written) for info in seen] == [
        (False, (554,), True)
    ] * 2


def test_a_message_of_lmtp() -> None:
    def on_data(stream: DataStream, session: SMTPSession) -> list[Any]:
        return [SMTPError("no", 550), None]

    with watched(on_data=on_data, lmtp=True) as (client, seen):
        client.envelope("a@client.example", "b@server.example", "c@server.example")
        assert client.message().code == 550
        assert client.reply().code == 250
        client.expect(250, "NOOP")
    [info] = seen
    assert (info.accepted, info.reply_codes, info.reply_written) == (True, (550, 250), True)


@both_kinds
def test_a_message_that_was_broken_off(secure: bool) -> None:
    closed = threading.Event()
    with watched(secure=secure, on_close=lambda session: closed.set()) as (client, seen):
        client.envelope()
        client.expect(354, "DATA")
        client.send("half a mess")
        client.close()
        assert closed.wait(TIMEOUT)
    [info] = seen
    assert (info.accepted, info.reply_codes, info.reply_written) == (False, (), False)


def test_a_message_that_was_given_up() -> None:
    with watched() as (client, seen):
        client.envelope()
        client.send("BDAT 3\r\none")
        assert client.reply().code == 250
        client.expect(250, "RSET")
        client.expect(250, "NOOP")
    [info] = seen
    assert (info.accepted, info.reply_codes, info.reply_written) == (False, (), False)
    assert [str(address) for address in info.envelope.rcpt_to] == ["b@server.example"]


@both_kinds
def test_a_message_whose_reply_could_not_be_written(secure: bool) -> None:
    """The client has gone before the callback says yes: it will send the message again."""
    reading, gone = threading.Event(), threading.Event()

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        stream.read()
        reading.set()
        assert gone.wait(TIMEOUT)

    closed = threading.Event()
    with watched(on_data=on_data, secure=secure, on_close=lambda session: closed.set()) as (
        client,
        seen,
    ):
        client.envelope()
        client.expect(354, "DATA")
        client.send("all of it\r\n.\r\n")
        assert reading.wait(TIMEOUT)
        client.reset()
        gone.set()
        assert closed.wait(TIMEOUT)
    [info] = seen
    assert (info.accepted, info.reply_codes, info.reply_written) == (True, (250,), False)


def test_a_listener_of_message_that_fails_harms_nothing() -> None:
    def fail(info: MessageInfo) -> None:
        raise RuntimeError("a listener")

    with serving() as server:
        server.on("message", fail)
        with connect(server) as client:
            client.hello()
            client.envelope()
            assert client.message().code == 250
            client.expect(250, "NOOP")
