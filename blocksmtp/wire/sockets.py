"""Sockets to listen on: every interface, a host, a Unix path."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# A free port of one address may be taken on the next; then another one is tried.
_TRIES = 10


def tcp_sockets(host: str | None, port: int, backlog: int) -> list[socket.socket]:
    """Listening sockets, one for each address of `host`, all on the same port.

    None is every interface, IPv6 and IPv4. Port 0 is one that is free. Raises OSError when an
    address cannot be bound, ValueError for a port that is none.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be from 0 to 65535, not {port}")
    if not host:
        return [_every_interface(port, backlog)]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    for _ in range(_TRIES - 1 if port == 0 and len(addresses) > 1 else 0):
        try:
            return _bound_to_all(addresses, port, backlog)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return _bound_to_all(addresses, port, backlog)


def _bound_to_all(
    addresses: Sequence[tuple[int, tuple[Any, ...]]], port: int, backlog: int
) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    unavailable: OSError | None = None
    with contextlib.ExitStack() as undo:
        for family, address in addresses:
            try:
                # Port 0 means the same free port for all.
                bound = sockets[0].getsockname()[1] if sockets else port
                sock = _bound(family, (address[0], bound, *address[2:]), backlog)
            except OSError as error:
                # A name such as localhost may have an address of a family that is switched off.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                unavailable = error
            else:
                undo.enter_context(contextlib.closing(sock))
                sockets.append(sock)
        if unavailable is not None and not sockets:
            raise unavailable
        undo.pop_all()
    return sockets


def _every_interface(port: int, backlog: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(_NoFamily):
            return _bound(socket.AF_INET6, ("::", port), backlog, dual_stack=True)
    return _bound(socket.AF_INET, ("0.0.0.0", port), backlog)  # noqa: S104 - what was asked for


class _NoFamily(OSError):
    """The address family is compiled in, but switched off."""


def _bound(
    family: int, address: tuple[object, ...], backlog: int, *, dual_stack: bool = False
) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _NoFamily(*error.args) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
        sock.bind(address)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        if dual_stack and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise _NoFamily(*error.args) from error
        raise
    return sock


@dataclass(frozen=True)
class UnixPath:
    """The file of a Unix socket: ours for as long as it is the same file."""

    path: str
    identity: tuple[int, int]

    def remove(self) -> None:
        """Remove the file, unless somebody else has put another in its place."""
        with contextlib.suppress(FileNotFoundError):
            if _identity(self.path) == self.identity:
                os.unlink(self.path)


def unix_socket(path: str, mode: int | None, backlog: int) -> tuple[socket.socket, UnixPath]:
    """A socket that listens on `path`, its permissions `mode` (None: what the umask leaves).

    A socket file that nobody listens on is replaced. Raises OSError when somebody does, or when the
    file is something else.
    """
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        _remove_stale(path)
        sock.bind(path)
        file = UnixPath(path, _identity(path))
        undo.callback(file.remove)
        # Nobody can connect before listen().
        if mode is not None:
            os.chmod(path, mode)
        sock.listen(backlog)
        undo.pop_all()
    return sock, file


def _remove_stale(path: str) -> None:
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FileExistsError(errno.EEXIST, "exists and is not a socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # Somebody listens, with a full queue.
    raise OSError(errno.EADDRINUSE, "another server listens there", path)


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino
