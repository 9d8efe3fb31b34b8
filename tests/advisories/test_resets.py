"""Connections that are reset at the wrong moment.

CVE-2010-3492 and CVE-2010-3493 (Python's asyncore and smtpd): a client that connected and went at
once made accept() return nothing, or getpeername() fail, where neither was expected; the exception
ended the loop that served all the others.

Here the accept loop outlives whatever one client does, each connection ends by itself, with one
on_close for each on_connect, and a client that is gone is nobody's defect: no event "error", and
nothing in the log above INFO.
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from blocksmtp import SMTPServer, SMTPSession
from blocksmtp.listener import Listener
from tests.client import TIMEOUT, Client, connect, serving, trusting, wait_until_idle
from tests.closing import Gate

from .talk import Log


class Witness:
    """What a server told, and whether it still serves."""

    def __init__(self) -> None:
        self.log = Log()
        self.errors: list[Exception] = []
        self.opened: list[SMTPSession] = []
        self.closed: list[SMTPSession] = []

    def options(self, **options: Any) -> dict[str, Any]:
        return {
            "logger": self.log.logger,
            "on_connect": self.opened.append,
            "on_close": self.closed.append,
            "on_data": lambda stream, session: stream.read() and None,
            **options,
        }

    def check(self, server: SMTPServer, *, secure: bool = False) -> None:
        """Nothing went wrong, nothing is left, and the next client gets all that it wants."""
        wait_until_idle(server)
        assert self.errors == []
        # In any order: each connection has its own thread.
        assert Counter(self.closed) == Counter(self.opened)
        assert self.log.at_least(logging.WARNING) == []
        with connect(server, tls=trusting() if secure else None) as client:
            client.hello()
            client.envelope()
            assert client.message().code == 250


@pytest.fixture
def witness() -> Witness:
    return Witness()


# --- before there is a thread -------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
@pytest.mark.parametrize("end", ["reset", "close"])
def test_before_it_is_accepted(witness: Witness, end: str, secure: bool) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    for _ in range(5):
        client = connect(sock.getsockname())
        client.reset() if end == "reset" else client.close()
    with SMTPServer(
        auth_optional=True, disable_reverse_lookup=True, secure=secure, **witness.options()
    ) as server:
        server.on("error", witness.errors.append)
        server.listen(sock=sock)
        with connect(server, tls=trusting() if secure else None) as client:
            client.hello()
        witness.log.records.clear()
        witness.check(server, secure=secure)


@pytest.mark.parametrize("options", [{}, {"use_proxy": True}, {"secure": True}], ids=str)
def test_between_accept_and_its_thread(
    witness: Witness, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = threading.Event()
    process_request = Listener.process_request

    def late(listener: Listener, request: Any, client_address: Any) -> None:
        assert gone.wait(TIMEOUT)
        process_request(listener, request, client_address)

    with serving(**witness.options(**options)) as server:
        server.on("error", witness.errors.append)
        with monkeypatch.context() as patch:
            patch.setattr(Listener, "process_request", late)
            with connect(server) as client:
                client.reset()
                gone.set()
            wait_until_idle(server)
        if "use_proxy" not in options:
            witness.check(server, secure=bool(options))


# What accept() may report of a client that is gone already, or of the network that it came by.
OF_THE_CLIENT = [
    *(errno.ECONNABORTED, errno.EAGAIN, errno.EPROTO, errno.EPERM, errno.ECONNRESET),
    *(errno.ENOTCONN, errno.ENETDOWN, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EINTR),
]


def test_whatever_accept_says_of_a_client(
    witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_request = Listener.get_request
    failures = iter(OF_THE_CLIENT)

    def failing(listener: Listener) -> Any:
        for failure in failures:
            raise OSError(failure, "gone")
        return get_request(listener)

    with serving(**witness.options()) as server:
        server.on("error", witness.errors.append)
        monkeypatch.setattr(Listener, "get_request", failing)
        witness.check(server)
        assert list(failures) == []


@pytest.mark.parametrize("address", [None, (), b""], ids=repr)
def test_an_address_that_is_none(
    witness: Witness, address: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some systems accept a client that is gone, and have no address for it."""
    get_request = Listener.get_request

    def nameless(listener: Listener) -> Any:
        request, _ = get_request(listener)
        monkeypatch.undo()
        return request, address

    with serving(**witness.options(max_clients=1)) as server:
        monkeypatch.setattr(Listener, "get_request", nameless)
        with connect(server) as client:
            assert client.rest() == b""
        witness.check(server)


# --- in the middle ------------------------------------------------------------------------------


def leave_in(name: str) -> Callable[[Client, Gate], None]:
    """Go on until the callback `name` runs, and leave in it."""

    def leave(client: Client, gate: Gate) -> None:
        if name != "on_connect":
            client.hello()
            client.send_lines("AUTH LOGIN bWU=", "cHc=", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA")
            client.send(b"text\r\n.\r\nQUIT\r\n")
        assert gate.entered.wait(TIMEOUT)

    return leave


_IN_CLEAR = ("on_connect", "on_auth", "on_mail_from", "on_rcpt_to", "on_data")


@pytest.mark.parametrize("end", ["reset", "close"])
@pytest.mark.parametrize(
    ("name", "secure"),
    [*((name, secure) for name in _IN_CLEAR for secure in (False, True)), ("on_secure", True)],
)
def test_in_a_callback(witness: Witness, name: str, end: str, secure: bool) -> None:
    """Its reply finds nobody; greeting and reply to a message included."""
    gate = Gate()

    def hold(*arguments: Any) -> Any:
        if name == "on_connect":
            witness.opened.append(arguments[0])
        gate()
        return "me" if name == "on_auth" else None

    options = {"on_auth": lambda auth, session: "me", "allow_insecure_auth": True}
    with serving(**witness.options(**{**options, name: hold}, secure=secure)) as server:
        server.on("error", witness.errors.append)
        with connect(server, tls=trusting() if secure else None) as client:
            leave_in("on_connect" if name == "on_secure" else name)(client, gate)
            client.reset() if end == "reset" else client.close()
            gate.may_return.set()
        witness.check(server, secure=secure)


POINTS: dict[str, list[bytes]] = {
    "at once": [],
    "in a command": [b"EHL"],
    "after a command": [b"EHLO a\r\n"],
    "in a group": [b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nNOO"],
    "in AUTH": [b"EHLO a\r\nAUTH LOGIN\r\n", b"bW"],
    "in DATA": [b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", b"half a mess"],
    "before the last LF": [b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", b"a\r\n.\r"],
    "after QUIT": [b"QUIT\r\n"],
    "after HTTP": [b"GET / HTTP/1.1\r\n" + b"x" * 100_000],
    "after STARTTLS": [b"EHLO a\r\nSTARTTLS\r\n"],
    "in a handshake": [b"STARTTLS\r\n", b"\x16\x03\x01\x02\x00\x01\x00"],
    "after garbage": [b"STARTTLS\r\n", b"\x16\x03\x01\x00\x04\x01\x00\x00\x00"],
}


@pytest.mark.parametrize("end", ["reset", "close"])
@pytest.mark.parametrize("writes", POINTS.values(), ids=POINTS)
def test_at_a_point_of_the_dialogue(witness: Witness, writes: list[bytes], end: str) -> None:
    options = {"disabled_commands": (), "allow_insecure_auth": True}
    with serving(**witness.options(**options)) as server:
        server.on("error", witness.errors.append)
        with connect(server) as client:
            assert client.reply().code == 220
            for write in writes[:-1]:
                client.send(write)
                assert client.sock.recv(1)
            client.send(b"".join(writes[-1:]))
            client.reset() if end == "reset" else client.close()
        wait_until_idle(server)
        witness.log.records.clear()  # of the certificate that the server made for itself
        witness.check(server)


@pytest.mark.parametrize("part", [0, 1, 5, 100])
def test_in_an_implicit_handshake(witness: Witness, part: int) -> None:
    with serving(**witness.options(secure=True)) as server:
        server.on("error", witness.errors.append)
        with connect(server) as client:
            client.send((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500)[:part])
            client.reset()
        wait_until_idle(server)
        assert witness.opened == witness.closed == []
        witness.check(server, secure=True)


@pytest.mark.parametrize("octets", [b"", b"PROXY TCP4 192.0.2.9 ", b"\r\n\r\n\0\r\nQUIT\n\x21"])
def test_in_a_proxy_header(witness: Witness, octets: bytes) -> None:
    with serving(**witness.options(use_proxy=["127.0.0.2"])) as server:
        server.on("error", witness.errors.append)
        with connect(server, source="127.0.0.2") as client:
            client.send(octets)
            client.reset()
        wait_until_idle(server)
        assert witness.opened == witness.closed == []
        # A peer that was to be trusted did not keep to what was agreed, if it said anything.
        assert len(witness.log.at_least(logging.WARNING)) <= bool(octets)
        witness.log.records.clear()
        witness.check(server)


@pytest.mark.thorough
@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
def test_many_at_once(witness: Witness, secure: bool) -> None:
    """A burst of them, each gone after a little more than the one before."""
    script = b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\ntext\r\n.\r\nQUIT\r\n"
    with serving(**witness.options(secure=secure, max_clients=20)) as server:
        server.on("error", witness.errors.append)
        for number in range(500):
            with connect(server) as client:
                client.send(script[: number % len(script)])
                client.reset()
        # They are accepted in turn: once this one has been, and has its end, all have.
        with connect(server) as last:
            last.sock.shutdown(socket.SHUT_WR)
            last.rest()
        wait_until_idle(server)
        # That the server was full for a moment is no fault.
        told = set(witness.log.at_least(logging.WARNING))
        assert told <= {"max_clients reached: clients are refused"}
        witness.log.records.clear()
        witness.check(server, secure=secure)
