"""Sockets to listen on: what is bound, what is refused, and what is left behind."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from blocksmtp.wire import sockets as module
from blocksmtp.wire.sockets import tcp_sockets, unix_socket

BACKLOG = 16


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def kept(stack: ExitStack, sockets: list[socket.socket]) -> list[socket.socket]:
    for sock in sockets:
        stack.enter_context(sock)
    return sockets


def reaches(sock: socket.socket, address: Any) -> bool:
    """Whether a client of `address` ends up at `sock`."""
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as client:
        try:
            client.connect(address)
        except ConnectionRefusedError:
            return False
        sock.settimeout(10)
        sock.accept()[0].close()
        return True


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


# --- TCP ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [None, ""])
def test_every_interface(stack: ExitStack, host: str | None) -> None:
    (sock,) = kept(stack, tcp_sockets(host, 0, BACKLOG))
    port = sock.getsockname()[1]
    assert reaches(sock, ("127.0.0.1", port))
    assert reaches(sock, ("127.0.0.2", port))
    if sock.family == socket.AF_INET6:
        assert reaches(sock, ("::1", port))


def test_every_interface_without_dual_stack(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    (sock,) = kept(stack, tcp_sockets(None, 0, BACKLOG))
    assert sock.family == socket.AF_INET
    assert reaches(sock, ("127.0.0.1", sock.getsockname()[1]))


class Crippled(socket.socket):
    """A socket of a machine on which IPv6 is compiled in, but switched off."""

    at = "bind"

    def __init__(self, family: int = -1, *arguments: Any, **keywords: Any) -> None:
        if family == socket.AF_INET6 and self.at == "socket":
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *arguments, **keywords)

    def bind(self, address: Any, /) -> None:
        if self.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        super().bind(address)


@pytest.mark.parametrize("at", ["socket", "bind"])
def test_every_interface_with_ipv6_switched_off(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: True)
    monkeypatch.setattr(Crippled, "at", at)
    monkeypatch.setattr(socket, "socket", Crippled)
    (sock,) = kept(stack, tcp_sockets(None, 0, BACKLOG))
    assert sock.getsockname()[0] == "0.0.0.0"


@pytest.mark.parametrize("at", ["socket", "bind"])
def test_a_name_with_an_address_that_is_switched_off(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    resolve(monkeypatch, "::1", "127.0.0.1")
    monkeypatch.setattr(Crippled, "at", at)
    monkeypatch.setattr(socket, "socket", Crippled)
    (sock,) = kept(stack, tcp_sockets("localhost", 0, BACKLOG))
    assert sock.getsockname()[0] == "127.0.0.1"
    resolve(monkeypatch, "::1")
    before = descriptors()
    with pytest.raises(OSError):
        tcp_sockets("localhost", 0, BACKLOG)
    assert descriptors() == before


def resolve(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name stand for these addresses."""

    def getaddrinfo(_host: str, port: int, **_: Any) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_one_address(stack: ExitStack) -> None:
    (sock,) = kept(stack, tcp_sockets("127.0.0.1", 0, BACKLOG))
    port = sock.getsockname()[1]
    assert reaches(sock, ("127.0.0.1", port))
    assert not reaches(sock, ("127.0.0.2", port))


def test_a_name_with_several_addresses(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    # One of them twice, as /etc/hosts may have it.
    resolve(monkeypatch, "127.0.0.1", "127.0.0.2", "127.0.0.1")
    first, second = kept(stack, tcp_sockets("mx.example.org", 0, BACKLOG))
    port = first.getsockname()[1]
    assert second.getsockname() == ("127.0.0.2", port)
    assert reaches(first, ("127.0.0.1", port))
    assert reaches(second, ("127.0.0.2", port))


class Unlucky(socket.socket):
    """A socket on a machine where the port that is free on one address is taken on the next."""

    unlucky = 0
    tried = 0

    def bind(self, address: Any, /) -> None:
        if address[0] == "127.0.0.2":
            Unlucky.tried += 1
            if Unlucky.tried <= Unlucky.unlucky:
                raise OSError(errno.EADDRINUSE, "Address already in use")
        super().bind(address)


@pytest.mark.parametrize(
    ("port", "unlucky", "bound"), [(0, 3, True), (0, 10**6, False), (1, 1, False)]
)
def test_a_port_that_is_free_on_one_address_only(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, port: int, unlucky: int, bound: bool
) -> None:
    if port:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    resolve(monkeypatch, "127.0.0.1", "127.0.0.2")
    monkeypatch.setattr(Unlucky, "unlucky", unlucky)
    monkeypatch.setattr(Unlucky, "tried", 0)
    monkeypatch.setattr(socket, "socket", Unlucky)
    before = descriptors()
    if bound:
        first, second = kept(stack, tcp_sockets("mx.example.org", port, BACKLOG))
        assert first.getsockname()[1] == second.getsockname()[1]
        assert Unlucky.tried == unlucky + 1
    else:
        with pytest.raises(OSError) as caught:
            tcp_sockets("mx.example.org", port, BACKLOG)
        assert caught.value.errno == errno.EADDRINUSE
        assert Unlucky.tried == (1 if port else module._TRIES)
        assert descriptors() == before


def test_another_failure_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    class Forbidden(socket.socket):
        def bind(self, address: Any, /) -> None:
            tried.append(address)
            raise PermissionError(errno.EACCES, "Permission denied")

    resolve(monkeypatch, "127.0.0.1", "127.0.0.2")
    monkeypatch.setattr(socket, "socket", Forbidden)
    before = descriptors()
    with pytest.raises(PermissionError):
        tcp_sockets("mx.example.org", 0, BACKLOG)
    assert tried == [("127.0.0.1", 0)]
    assert descriptors() == before


def test_a_port_in_use(stack: ExitStack) -> None:
    (sock,) = kept(stack, tcp_sockets("127.0.0.1", 0, BACKLOG))
    before = descriptors()
    for host in ("127.0.0.1", None):
        with pytest.raises(OSError) as caught:
            tcp_sockets(host, sock.getsockname()[1], BACKLOG)
        assert caught.value.errno == errno.EADDRINUSE
    assert descriptors() == before


def test_a_port_is_free_again_at_once(stack: ExitStack) -> None:
    """Connections in TIME_WAIT must not keep a restarted server from its port."""
    (sock,) = tcp_sockets("127.0.0.1", 0, BACKLOG)
    address = sock.getsockname()
    with sock, socket.create_connection(address) as client:
        accepted, _ = sock.accept()
        accepted.close()  # The end that closes first is the one that waits.
        assert client.recv(1) == b""
    (again,) = kept(stack, tcp_sockets("127.0.0.1", address[1], BACKLOG))
    assert reaches(again, address)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none(port: int) -> None:
    with pytest.raises(ValueError, match="port must be from 0 to 65535"):
        tcp_sockets("127.0.0.1", port, BACKLOG)


def test_an_address_that_is_not_ours() -> None:
    before = descriptors()
    with pytest.raises(OSError) as caught:
        tcp_sockets("192.0.2.1", 0, BACKLOG)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert descriptors() == before


# --- Unix -----------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "smtp.sock")


def connects(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True


def mode_of(path: str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.mark.parametrize("mode", [0o660, 0o600, 0o666, 0])
def test_the_permissions(path: str, mode: int) -> None:
    sock, file = unix_socket(path, mode, BACKLOG)
    with sock:
        assert mode_of(path) == mode
    file.remove()


def test_the_permissions_that_the_umask_leaves(path: str) -> None:
    before = os.umask(0o027)
    try:
        sock, file = unix_socket(path, None, BACKLOG)
    finally:
        os.umask(before)
    with sock:
        assert mode_of(path) == 0o750
        assert connects(path)
    file.remove()
    assert not os.path.exists(path)
    file.remove()


def test_a_stale_socket_is_replaced(path: str) -> None:
    unix_socket(path, None, BACKLOG)[0].close()
    assert os.path.exists(path)
    assert not connects(path)
    sock, file = unix_socket(path, None, BACKLOG)
    with sock:
        assert connects(path)
    file.remove()


def test_a_live_socket_is_left_alone(path: str) -> None:
    sock, file = unix_socket(path, 0o600, BACKLOG)
    with sock:
        with pytest.raises(OSError) as caught:
            unix_socket(path, 0o666, BACKLOG)
        assert caught.value.errno == errno.EADDRINUSE
        assert caught.value.filename == path
        assert mode_of(path) == 0o600
        assert connects(path)
    file.remove()


def test_a_live_socket_with_a_full_queue_is_left_alone(path: str, stack: ExitStack) -> None:
    sock, file = unix_socket(path, None, 0)
    stack.enter_context(sock)
    while True:
        client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        client.setblocking(False)
        try:
            client.connect(path)
        except BlockingIOError:
            break
    with pytest.raises(OSError) as caught:
        unix_socket(path, None, BACKLOG)
    assert caught.value.errno == errno.EADDRINUSE
    assert os.path.exists(path)
    file.remove()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "datagram socket"])
def test_anything_else_is_left_alone(path: str, tmp_path: Path, kind: str) -> None:
    if kind == "file":
        Path(path).write_text("precious")
    elif kind == "folder":
        Path(path).mkdir()
    elif kind == "link":
        Path(path).symlink_to(tmp_path / "elsewhere")
    else:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(path)
            with pytest.raises(OSError):
                unix_socket(path, None, BACKLOG)
    before = os.lstat(path)
    if kind != "datagram socket":
        with pytest.raises(OSError) as caught:
            unix_socket(path, 0o666, BACKLOG)
        assert caught.value.errno == errno.EEXIST
    assert os.lstat(path).st_ino == before.st_ino
    assert os.lstat(path).st_mode == before.st_mode


def test_a_file_that_is_no_longer_ours_is_left_alone(path: str, tmp_path: Path) -> None:
    sock, file = unix_socket(path, None, BACKLOG)
    with sock:
        os.unlink(path)
        successor, its_file = unix_socket(path, None, BACKLOG)
        with successor:
            file.remove()
            assert connects(path)
        its_file.remove()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["x" * 200, "missing/smtp.sock"])
def test_a_path_that_cannot_be_bound(tmp_path: Path, name: str) -> None:
    before = descriptors()
    with pytest.raises(OSError):
        unix_socket(str(tmp_path / name), None, BACKLOG)
    assert descriptors() == before


def test_a_failure_leaves_no_file_behind(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def chmod(_path: str, _mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", chmod)
    before = descriptors()
    with pytest.raises(PermissionError):
        unix_socket(path, 0o600, BACKLOG)
    assert not os.path.exists(path)
    assert descriptors() == before
