"""SMTPServer: where it listens, what it shows of itself, and how it runs for ever."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import select
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from blocksmtp import SMTPError, SMTPServer, SMTPSession
from tests.certificates import Authority, Leaf
from tests.client import TIMEOUT, Client, connect, serving, trusting, wait_until_idle


@contextlib.contextmanager
def server_of(kind: type[SMTPServer] = SMTPServer, **options: Any) -> Iterator[SMTPServer]:
    """A server that does not listen yet."""
    given = {"auth_optional": True, "disabled_commands": ["STARTTLS"], **options}
    with kind(**given, disable_reverse_lookup=True) as server:
        yield server


def is_served(address: Any) -> bool:
    with connect(address) as client:
        return client.hello().code == 250


# --- TCP ---------------------------------------------------------------------------------------


def test_listen_returns_the_server_once_it_is_bound() -> None:
    with server_of() as server:
        assert server.listen(0, "127.0.0.1") is server
        assert isinstance(server.port, int)
        assert server.port > 0
        assert server.address == ("127.0.0.1", server.port)
        assert server.addresses == [server.address]
        assert is_served(server)


def test_addresses_before_and_after() -> None:
    with server_of() as server:
        assert server.addresses == []
        assert server.address is None
        assert server.port is None
        server.listen(0, "127.0.0.1")
        bound = server.addresses
        server.close()
        # What it was bound to is still worth a line in a log.
        assert server.addresses == bound


def test_a_given_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with server_of() as server:
        server.listen(port, "127.0.0.1")
        assert server.port == port


def test_every_interface_by_default() -> None:
    with server_of() as server:
        server.listen()
        assert server.port is not None
        assert is_served(("127.0.0.1", server.port))
        assert is_served(("::1", server.port))
        assert len(server.addresses) == 1
        wait_until_idle(server)
        with connect(("127.0.0.1", server.port)) as client:
            client.hello()
            (session,) = server.connections
            # Not ::ffff:127.0.0.1, as a dual-stack socket has it.
            assert session.remote_address == session.local_address == "127.0.0.1"
            assert session.local_port == server.port
            assert session.remote_port == client.sock.getsockname()[1]


def test_every_interface_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with server_of() as server:
        server.listen()
        assert server.address == ("0.0.0.0", server.port)
        assert is_served(server)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_one_host(host: str) -> None:
    with server_of() as server:
        server.listen(0, host)
        for address in server.addresses:
            assert is_served(address)


def test_ipv6_alone_is_not_dual_stack() -> None:
    with server_of() as server:
        server.listen(0, "::")
        assert server.port is not None
        assert is_served(("::1", server.port))
        with pytest.raises(ConnectionRefusedError):
            connect(("127.0.0.1", server.port))


def test_all_addresses_of_a_name_share_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **keywords: found)
    with server_of() as server:
        server.listen(0, "localhost")
        assert server.addresses == [("::1", server.port), ("127.0.0.1", server.port)]
        monkeypatch.undo()
        assert all(is_served(address) for address in server.addresses)


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, server_of() as server:
        with pytest.raises(OSError, match=r"[Aa]ddress already in use") as caught:
            server.listen(taken.getsockname()[1], "127.0.0.1")
        assert caught.value.errno == errno.EADDRINUSE
        # Nothing of it is left, and another port will do.
        assert server.addresses == []
        server.listen(0, "127.0.0.1")
        assert is_served(server)


def test_a_failed_listen_leaves_nothing_without_close() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = SMTPServer(disabled_commands=["STARTTLS"])
        with pytest.raises(OSError, match="in use"):
            server.listen(taken.getsockname()[1], "127.0.0.1")
        del server
        gc.collect()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_is_not_ours(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if host.endswith("invalid"):  # without asking the network

        def unknown(*arguments: object, **keywords: object) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with server_of() as server, pytest.raises(OSError, match=r"assign|not known"):
        server.listen(0, host)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none(port: int) -> None:
    with server_of() as server:
        for host in (None, "127.0.0.1"):
            with pytest.raises((ValueError, OverflowError, OSError)):
                server.listen(port, host)
        assert server.addresses == []


def test_no_listening_after_close(tmp_path: Path) -> None:
    with server_of() as server:
        server.listen(0, "127.0.0.1")
        server.close()
        with pytest.raises(RuntimeError, match="the server is closed"):
            server.listen(0, "127.0.0.1")
        with pytest.raises(RuntimeError, match="the server is closed"):
            server.listen(tmp_path / "smtp")
        assert not (tmp_path / "smtp").exists()


def test_closing_while_listening(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """close() between the bind and the start: nothing is left of what was bound."""
    with server_of() as server:
        bind = server._bind

        def slow(*arguments: Any) -> Any:
            bound = bind(*arguments)
            server.close()
            return bound

        monkeypatch.setattr(server, "_bind", slow)
        with pytest.raises(RuntimeError, match="the server is closed"):
            server.listen(tmp_path / "smtp")
        assert not (tmp_path / "smtp").exists()


def test_without_a_thread_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with server_of() as server:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", failing)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                server.listen(0, "127.0.0.1")
        server.close()
        assert server.wait(0)


def test_a_burst_of_clients_is_accepted() -> None:
    with serving() as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(100)]
        for client in clients:
            client.hello()


# --- Unix sockets ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [str, Path])
def test_a_unix_socket(form: Any, tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    with server_of(max_clients_per_address=1) as server:
        server.listen(form(path))
        assert server.address == str(path)
        assert server.port is None
        with connect(path) as client:
            assert client.hello().lines[0] == f"{server.options.name} Nice to meet you, localhost"
            (session,) = server.connections
            assert (session.remote_address, session.remote_port) == ("", 0)
            assert (session.local_address, session.local_port) == ("", 0)
            assert session.client_hostname == "localhost"
            client.envelope()
            assert client.message().code == 250
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o660, 0o600, 0o666])
def test_the_permissions_of_a_unix_socket(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    with server_of() as server:
        server.listen(path, mode=mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_tls_on_a_unix_socket(tmp_path: Path) -> None:
    with server_of(secure=True) as server:
        server.listen(tmp_path / "smtp")
        with connect(server, tls=trusting()) as client:
            client.hello()


def stale_socket(path: Path) -> None:
    """What a server leaves behind that was killed."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    stale_socket(path)
    with server_of() as server:
        server.listen(path)
        assert is_served(path)


def test_a_live_unix_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    with server_of() as first, server_of() as second:
        first.listen(path)
        with pytest.raises(OSError, match="another server listens there") as caught:
            second.listen(path)
        assert caught.value.errno == errno.EADDRINUSE
        second.close()
        assert is_served(path)


def test_a_unix_socket_with_a_full_queue_is_alive(tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(str(path))
        busy.listen(0)
        while True:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            try:
                waiting.connect(str(path))
            except BlockingIOError:
                break
        with server_of() as server, pytest.raises(OSError, match="another server listens there"):
            server.listen(path)
        assert path.exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_another_file_is_not_replaced(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        (tmp_path / "precious").write_text("precious")
        path.symlink_to(tmp_path / "precious")
    with server_of() as server, pytest.raises(FileExistsError, match="not a socket"):
        server.listen(path)
    assert path.exists()


def test_a_unix_socket_in_a_missing_folder(tmp_path: Path) -> None:
    with server_of() as server, pytest.raises(FileNotFoundError):
        server.listen(tmp_path / "no" / "smtp")


def test_close_leaves_what_somebody_else_put_there(tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    with server_of() as server:
        server.listen(path)
        path.unlink()
        path.write_text("precious")
    assert path.read_text() == "precious"


def test_close_does_without_a_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "smtp"
    with server_of() as server:
        server.listen(path)
        path.unlink()


def test_what_does_not_go_together(tmp_path: Path) -> None:
    with server_of() as server:
        with pytest.raises(ValueError, match="mode is for a Unix socket"):
            server.listen(0, "127.0.0.1", mode=0o660)
        with pytest.raises(ValueError, match="a Unix socket has no host"):
            server.listen(tmp_path / "smtp", "127.0.0.1")
        assert not (tmp_path / "smtp").exists()


# --- sockets that are bound already ------------------------------------------------------------


@pytest.mark.parametrize("listens", [False, True])
@pytest.mark.parametrize("blocking", [False, True])
def test_a_bound_socket(listens: bool, blocking: bool) -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    if listens:
        sock.listen(1)
    sock.setblocking(blocking)
    with server_of() as server:
        server.listen(sock=sock)
        assert server.address == sock.getsockname()
        assert is_served(server)
    assert sock.fileno() == -1, "it is the server's"


@pytest.mark.parametrize(
    "surplus",
    [{"port": 2525}, {"host": "127.0.0.1"}, {"mode": 0o660}],
    ids=min,
)
def test_a_bound_socket_is_bound_already(surplus: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock, server_of() as server:
        with pytest.raises(ValueError, match="no port, host or mode"):
            server.listen(sock=sock, **surplus)
        assert server.addresses == []
        assert sock.fileno() >= 0, "it is still the caller's"


def test_a_bound_unix_socket_keeps_its_file(tmp_path: Path) -> None:
    """Who made it, systemd say, is to remove it."""
    path = tmp_path / "smtp"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    with server_of() as server:
        server.listen(sock=sock)
        assert server.address == str(path)
        assert server.port is None
        assert is_served(server)
    assert path.exists()


# --- several listeners -------------------------------------------------------------------------


@pytest.mark.parametrize("default", [False, True])
def test_listeners_with_and_without_tls(default: bool, tmp_path: Path) -> None:
    with server_of(secure=default, disabled_commands=()) as server:
        server.listen(0, "127.0.0.1")
        server.listen(0, "127.0.0.1", secure=not default)
        server.listen(tmp_path / "smtp", secure=False)
        assert server.address == server.addresses[0]
        assert server.addresses[2] == str(tmp_path / "smtp")
        for address, secure in zip(server.addresses, (default, not default, False), strict=True):
            with connect(address, tls=trusting() if secure else None) as client:
                offered = client.hello().lines
                (session,) = server.connections
                assert session.secure is secure
                assert ("STARTTLS" in offered) is not secure
            wait_until_idle(server)


# --- waiting -----------------------------------------------------------------------------------


def test_wait() -> None:
    with server_of() as server:
        assert server.wait(0) is False
        server.listen(0, "127.0.0.1")
        assert server.wait(0.01) is False
        waited: list[bool] = []
        thread = threading.Thread(target=lambda: waited.append(server.wait()))
        thread.start()
        server.close()
        thread.join(TIMEOUT)
        assert waited == [True]
        assert server.wait() is True


def test_serve_forever_in_another_thread() -> None:
    with server_of() as server:
        listening = threading.Event()
        server.on("listening", listening.set)
        before = signal.getsignal(signal.SIGTERM)
        thread = threading.Thread(target=server.serve_forever, args=(0, "127.0.0.1"))
        thread.start()
        assert listening.wait(TIMEOUT)
        assert signal.getsignal(signal.SIGTERM) == before
        assert is_served(server)
        server.close()
        thread.join(TIMEOUT)
        assert not thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_forever_in_the_main_thread(number: int) -> None:
    """A signal ends it, and then the handlers are what they were."""
    with server_of() as server:
        before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
        server.on("listening", lambda: os.kill(os.getpid(), number))
        server.serve_forever(0, "127.0.0.1")
        assert server.wait(0)
        after = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
        assert after == before


def test_serve_forever_where_it_cannot_bind() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        server_of() as server,
        pytest.raises(OSError, match="in use"),
    ):
        server.serve_forever(taken.getsockname()[1], "127.0.0.1")
    assert signal.getsignal(signal.SIGTERM) == before


PROGRAM = """
import sys, threading
from blocksmtp import SMTPServer

class Server(SMTPServer):
    def on_mail_from(self, address, session):
        print("entered", flush=True)

    def on_data(self, stream, session):
        print("reading", flush=True)
        try:
            stream.read()
        except ConnectionError:
            print("broken off", flush=True)
            raise
        print("read", flush=True)

server = Server(
    auth_optional=True, name="mx.example", disable_reverse_lookup=True, close_timeout=60,
    disabled_commands=["STARTTLS"],
)
server.on("listening", lambda: print(server.port, flush=True))
server.serve_forever(0, "127.0.0.1")
print("ended", threading.active_count(), len(server.connections), flush=True)
"""


class Program:
    """A program of its own that serves for ever."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.address = ("127.0.0.1", int(self.said()))

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def rest(self) -> str:
        """What it said to its end, which must have been a good one."""
        output, errors = self.process.communicate(timeout=TIMEOUT)
        assert self.process.returncode == 0
        assert errors == "no on_data" or "Traceback" not in errors
        return output.strip()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()


def in_data(program: Program) -> Client:
    """A client whose message is being read."""
    client = connect(program.address)
    client.hello()
    client.envelope()
    assert program.said() == "entered"
    client.expect(354, "DATA")
    assert program.said() == "reading"
    return client


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_gracefully(number: int) -> None:
    with Program() as program, in_data(program) as client, connect(program.address) as idle:
        idle.hello()
        program.process.send_signal(number)
        assert idle.rest() == b"421 4.3.2 mx.example Server shutting down\r\n"
        client.send("text\r\n.\r\n")
        assert [reply.code for reply in client.replies(2)] == [250, 421]
        client.close()
        assert program.rest() == "read\nended 1 0"


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_wait_for_the_clients(second: int) -> None:
    with Program() as program, in_data(program) as client, connect(program.address) as idle:
        idle.hello()
        program.process.send_signal(signal.SIGTERM)
        assert idle.rest().startswith(b"421 ")
        program.process.send_signal(second)
        assert client.rest() == b""
        assert program.rest() == "broken off\nended 1 0"


# --- connections -------------------------------------------------------------------------------


def test_connections_are_the_live_sessions() -> None:
    sessions: list[SMTPSession] = []
    with serving(on_connect=sessions.append) as server:
        assert server.connections == []
        with connect(server) as first, connect(server) as second:
            first.hello()
            second.hello()
            snapshot = server.connections
            assert set(snapshot) == set(sessions)
            assert len({session.id for session in snapshot}) == 2
            snapshot.clear()
            assert len(server.connections) == 2
        wait_until_idle(server)
        assert server.connections == []


# --- callbacks ---------------------------------------------------------------------------------


def test_a_callback_may_be_replaced_at_any_time() -> None:
    def refuse(address: object, session: SMTPSession) -> None:
        raise SMTPError("not today")

    with serving() as server, connect(server) as client:
        client.hello()
        client.expect(250, "MAIL FROM:<a@client.example>")
        server.on_mail_from = refuse
        client.expect(250, "RSET")
        client.expect(550, "MAIL FROM:<a@client.example>")
        server.on_mail_from = None
        client.expect(250, "MAIL FROM:<a@client.example>")


def test_methods_of_a_subclass() -> None:
    class Server(SMTPServer):
        seen: list[str] = []  # noqa: RUF012 - one server only

        def on_mail_from(self, address: Any, session: SMTPSession) -> None:
            self.seen.append(address.address)

    with server_of(Server) as server:
        server.listen(0, "127.0.0.1")
        with connect(server) as client:
            client.hello()
            client.envelope()
    assert Server.seen == ["a@client.example"]


def test_an_option_wins_over_the_method_of_a_subclass() -> None:
    seen: list[str] = []

    class Server(SMTPServer):
        def on_mail_from(self, address: Any, session: SMTPSession) -> None:
            seen.append("method")

    with server_of(Server, on_mail_from=lambda *arguments: seen.append("option")) as server:
        server.listen(0, "127.0.0.1")
        with connect(server) as client:
            client.hello()
            client.envelope()
    assert seen == ["option"]


def test_callbacks_of_a_connection_run_in_one_thread() -> None:
    threads: dict[str, set[threading.Thread]] = {}

    def noting(*arguments: Any) -> None:
        threads.setdefault(arguments[-1].id, set()).add(threading.current_thread())

    names = ("on_connect", "on_mail_from", "on_rcpt_to", "on_data", "on_close")
    with serving(**dict.fromkeys(names, noting)) as server:
        with connect(server) as first, connect(server) as second:
            for client in (first, second):
                client.hello()
                client.envelope()
                client.message()
        wait_until_idle(server)
    one, other = threads.values()
    assert len(one) == len(other) == 1
    assert one != other


def test_one_blocked_callback_blocks_nobody_else() -> None:
    gate = threading.Event()
    entered = threading.Event()

    def on_mail_from(address: Any, session: SMTPSession) -> None:
        if address.address == "slow@client.example":
            entered.set()
            gate.wait(TIMEOUT)

    with (
        serving(on_mail_from=on_mail_from) as server,
        connect(server) as slow,
        connect(server) as quick,
    ):
        slow.hello()
        slow.send_lines("MAIL FROM:<slow@client.example>")
        assert entered.wait(TIMEOUT)
        quick.hello()
        quick.envelope()
        assert quick.message().code == 250
        assert not select.select([slow.sock], [], [], 0)[0]
        gate.set()
        assert slow.reply().code == 250


def test_without_on_data_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with serving(), serving(on_data=lambda stream, session: None):
        pass
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == ["no on_data: messages are accepted and thrown away"]


# --- TLS ---------------------------------------------------------------------------------------


def certificate_of(server: SMTPServer, index: int = 0, name: str | None = None) -> bytes | None:
    """The certificate that a listener shows: in implicit TLS, or after STARTTLS."""
    with connect(server.addresses[index]) as client:
        if index == 0:
            client.hello()
            client.upgrade(name=name)
        else:
            client.start_tls(name=name)
            client.reply()
        assert isinstance(client.sock, ssl.SSLSocket)
        return client.sock.getpeercert(binary_form=True)


def der(leaf: Leaf) -> bytes:
    return ssl.PEM_cert_to_DER_cert(leaf.cert.decode())


@contextlib.contextmanager
def secured(**options: Any) -> Iterator[SMTPServer]:
    """A server that listens with STARTTLS and, at index 1, with implicit TLS."""
    with serving(disabled_commands=(), **options) as server:
        yield server.listen(0, "127.0.0.1", secure=True)


def test_new_certificates_while_it_runs() -> None:
    authority = Authority()
    old, new = authority.issue("mx.example"), authority.issue("mx.example")
    with secured(cert=old.cert, key=old.key) as server, connect(server) as client:
        client.hello()
        client.upgrade()
        assert certificate_of(server) == certificate_of(server, 1) == der(old)
        server.update_secure_context(cert=new.cert, key=new.key)
        assert certificate_of(server) == certificate_of(server, 1) == der(new)
        # The connection from before goes on as it was.
        client.expect(250, "EHLO client.example")


def test_what_an_update_does_not_give_stays() -> None:
    authority = Authority()
    ours, theirs = authority.issue("mx.example"), authority.issue("a.example")
    with secured(cert=ours.cert, key=ours.key, max_version="TLSv1.2") as server:
        table = {"a.example": {"cert": theirs.cert, "key": theirs.key}}
        server.update_secure_context(sniOptions=table)
        assert certificate_of(server, 1) == der(ours)
        assert certificate_of(server, 1, "a.example") == der(theirs)
        server.update_secure_context(ciphers="ECDHE+AESGCM")
        assert certificate_of(server, 0, "a.example") == der(theirs)
        with connect(server.addresses[1], tls=trusting()) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            assert client.sock.version() == "TLSv1.2"


@pytest.mark.parametrize(
    "given",
    [
        {"cert": b"no certificate"},
        {"minVersion": "TLSv1.3", "maxVersion": "TLSv1.2"},
        {"sni_options": {"a.example": {"cert": b"none"}}},
        {"max_clients": 5},
    ],
)
def test_an_ill_update_changes_nothing(given: dict[str, Any]) -> None:
    leaf = Authority().issue("mx.example")
    with secured(cert=leaf.cert, key=leaf.key) as server:
        with pytest.raises((TypeError, ValueError)):
            server.update_secure_context(**given)
        assert certificate_of(server) == certificate_of(server, 1) == der(leaf)


def test_a_key_of_another_certificate_changes_nothing() -> None:
    authority = Authority()
    ours, other = authority.issue("mx.example"), authority.issue("mx.example")
    with secured(cert=ours.cert, key=ours.key) as server:
        for given in ({"key": other.key}, {"cert": other.cert, "key": ours.key}):
            with pytest.raises(ValueError, match="key"):
                server.update_secure_context(**given)
        assert certificate_of(server) == der(ours)


def test_a_self_signed_certificate_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with secured(name="mx.example") as server:
        messages = [record.getMessage() for record in caplog.records]
        assert [message for message in messages if "self-signed" in message]
        shown = certificate_of(server, 1)
        assert shown is not None
        assert shown == certificate_of(server, 0), "made once"
        context = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(shown))
        for name in ("mx.example", "localhost", "127.0.0.1", "::1"):
            with connect(server.addresses[1], tls=context, name=name):
                pass


@pytest.mark.parametrize("given", [True, False])
def test_no_self_signed_certificate_where_none_is_needed(
    given: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blocksmtp.wire import tls_context

    def made(name: str) -> Any:
        raise AssertionError("made a certificate")

    monkeypatch.setattr(tls_context, "self_signed", made)
    leaf = Authority().issue("mx.example")
    options = {"cert": leaf.cert, "key": leaf.key} if given else {}
    with serving(disabled_commands=() if given else ["STARTTLS"], **options) as server:
        assert is_served(server)
    assert "self-signed" not in caplog.text


def test_on_secure_gets_the_real_connection() -> None:
    seen: list[tuple[Any, str | None]] = []

    def on_secure(connection: SSL.Connection, session: SMTPSession) -> None:
        assert session.secure
        assert session.tls_options is not None
        assert session.tls_options.name == connection.get_cipher_name()
        seen.append((connection.get_protocol_version_name(), session.servername))

    with secured(on_secure=on_secure) as server:
        for number, name in enumerate(["a.example", None]):
            certificate_of(server, number, name)
            # In TLS 1.3 a client may have gone before the server is done.
            wait_until_idle(server)
    assert seen == [("TLSv1.3", "a.example"), ("TLSv1.3", None)]
