"""SMTPServer: options, callbacks, listeners, events, and the way it closes."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from .host import Host
from .listener import Listener
from .options import CALLBACKS, Options, callback, from_keywords, trusted
from .signals import closed_by_signals
from .wire.sockets import UnixPath, tcp_sockets, unix_socket

if TYPE_CHECKING:
    from .in_memory.client import SMTPTestClient
    from .session import SMTPSession

_Server = TypeVar("_Server", bound="SMTPServer")

# socketserver's own 5 makes clients hang for seconds in a burst.
BACKLOG = 1024


class SMTPServer:
    """An SMTP or LMTP server; one thread a connection, plain blocking callbacks.

    Options are keywords, under their Python names or those of the JavaScript packages bun-smtp and
    smtp-server; the README lists them. Callbacks are options too, or are assigned to the instance,
    or defined in a subclass. Raises TypeError and ValueError for options that are none.
    """

    on_connect: Callable[..., Any] | None = None
    """`on_connect(session)`: a new connection, before the greeting. Raise to refuse: 554."""
    on_secure: Callable[..., Any] | None = None
    """`on_secure(connection, session)`: after a TLS handshake. Raise to close."""
    on_auth: Callable[..., Any] | None = None
    """`on_auth(auth, session)`: return the user, or an `AuthResponse`; None refuses: 535."""
    on_mail_from: Callable[..., Any] | None = None
    """`on_mail_from(address, session)`: the sender. Raise to refuse: 550."""
    on_rcpt_to: Callable[..., Any] | None = None
    """`on_rcpt_to(address, session)`: a recipient. Raise to refuse: 550."""
    on_data: Callable[..., Any] | None = None
    """`on_data(stream, session)`: a message; may return the text of the reply. Raise: 450."""
    on_close: Callable[..., Any] | None = None
    """`on_close(session)`: the connection has ended. Once for each `on_connect`."""
    on_vrfy: Callable[..., Any] | None = None
    """`on_vrfy(address, session)`: VRFY; may return the text of the reply. Raise to refuse: 550.
    Without it the answer is neither yes nor no."""
    on_rset: Callable[..., Any] | None = None
    """`on_rset(session)`: RSET, before the envelope is forgotten. It cannot be refused."""
    scram_verifier: Callable[..., Any] | None = None
    """`scram_verifier(username, session)`: a stored `ScramVerifier`, None for an unknown user."""
    callback_context: Callable[[SMTPSession], AbstractContextManager[Any]] | None = None
    """`callback_context(session)`: a context manager that is entered around each callback."""

    def __init__(self, **options: Any) -> None:
        self.options = from_keywords(Options, options)
        for name in CALLBACKS:
            given = getattr(self.options, name)
            # Assigned even if it is the subclass's own: assignment checks.
            if given is not None:
                setattr(self, name, given)
            else:
                callback(name, getattr(self, name))
        self._host = self._make_host()
        self._changed = self._host.changed
        # For who waits for the end alone: connections come and go without waking it.
        self._over = threading.Condition(self._host.lock)
        self._listeners: list[Listener] = []
        self._closing = False
        self._closer: threading.Thread | None = None
        """The thread that is at it."""
        self._closed = False
        self._close_deadline = float("inf")

    def _make_host(self) -> Host:
        return Host(self.options, self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in CALLBACKS:
            value = callback(name, value)
        super().__setattr__(name, value)

    # --- listening -------------------------------------------------------------------------

    def listen(
        self: _Server,
        port: int | str | os.PathLike[str] = 0,
        host: str | None = None,
        *,
        secure: bool | None = None,
        sock: socket.socket | None = None,
        mode: int | None = None,
        backlog: int = BACKLOG,
        use_proxy: bool | Iterable[Any] | None = None,
    ) -> _Server:
        """Bind, and accept clients in a background thread. May be called more than once.

        `port` is a TCP port, 0 for a free one, or the path of a Unix socket, whose permissions
        `mode` sets. `host` None is every interface, IPv6 and IPv4. `sock` is a socket that is bound
        already, in place of these; it is the server's from now on. `secure` and `use_proxy` None
        take the options of these names.

        Returns the server. Raises OSError when it cannot bind, ValueError for a port that is none
        and for arguments that do not go together, RuntimeError after `close`.
        """
        if self._closing:
            raise RuntimeError("the server is closed")
        secure = self.options.secure if secure is None else secure
        proxies = self.options.use_proxy if use_proxy is None else trusted("use_proxy", use_proxy)
        self_made = self._prepare_tls(secure)
        sockets, file = self._bind(port, host, sock, mode, backlog)
        listeners = [
            Listener(self._host, bound, secure=secure, use_proxy=proxies, file=file)
            for bound in sockets
        ]
        try:
            self._start(listeners)
        finally:
            for listener in listeners:
                if listener not in self._listeners:
                    listener.server_close()
        logger = self._host.logger
        for listener in listeners:
            logger.info("listening on %s", listener.address)
        if self_made:
            logger.warning(
                "no certificate given: using a self-signed one, made just now, "
                "which clients have no reason to trust"
            )
        if self.on_data is None:
            logger.warning("no on_data: messages are accepted and thrown away")
        self._host.emit("listening")
        return self

    def _prepare_tls(self, secure: bool) -> bool:
        """Have the contexts ready before the first client comes, if one may need them.

        Returns whether their certificate is one that the server made itself.
        """
        needed = secure or "STARTTLS" not in self.options.disabled_commands
        return needed and self._host.tls.contexts().self_made is not None

    def _start(self, listeners: list[Listener]) -> None:
        with self._changed:
            if self._closing:
                raise RuntimeError("the server is closed")
            self._host.open()
            for listener in listeners:
                listener.thread.start()
                self._listeners.append(listener)

    def _bind(
        self,
        port: int | str | os.PathLike[str],
        host: str | None,
        sock: socket.socket | None,
        mode: int | None,
        backlog: int,
    ) -> tuple[list[socket.socket], UnixPath | None]:
        file: UnixPath | None = None
        if sock is not None:
            if port != 0 or host is not None or mode is not None:
                raise ValueError("a socket that is bound already takes no port, host or mode")
            sock.listen(backlog)
            sockets = [sock]
        elif isinstance(port, int):
            if mode is not None:
                raise ValueError("mode is for a Unix socket")
            sockets = tcp_sockets(host, port, backlog)
        else:
            if host is not None:
                raise ValueError("a Unix socket has no host")
            unix, file = unix_socket(os.fspath(port), mode, backlog)
            sockets = [unix]
        return sockets, file

    @property
    def addresses(self) -> list[tuple[str, int] | str]:
        """What the server listens on: (host, port), or the path of a Unix socket."""
        return [listener.address for listener in self._listeners]

    @property
    def address(self) -> tuple[str, int] | str | None:
        """The first of `addresses`; None before `listen`."""
        return self._listeners[0].address if self._listeners else None

    @property
    def port(self) -> int | None:
        """The port of `address`; None before `listen`, and for a Unix socket."""
        address = self.address
        return address[1] if isinstance(address, tuple) else None

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the server is closed, or for `timeout` seconds; whether it is closed."""
        with self._over:
            return self._over.wait_for(lambda: self._closed, timeout)

    def serve_forever(
        self,
        port: int | str | os.PathLike[str] = 0,
        host: str | None = None,
        *,
        secure: bool | None = None,
        sock: socket.socket | None = None,
        mode: int | None = None,
        backlog: int = BACKLOG,
        use_proxy: bool | Iterable[Any] | None = None,
    ) -> None:
        """`listen`, then `wait`. In the main thread SIGINT and SIGTERM close the server.

        A second signal closes it without waiting for the clients. Raises what `listen` raises.
        """
        in_main_thread = threading.current_thread() is threading.main_thread()
        with closed_by_signals(self.close) if in_main_thread else contextlib.nullcontext():
            was_closed = self._closing
            try:
                self.listen(
                    port,
                    host,
                    secure=secure,
                    sock=sock,
                    mode=mode,
                    backlog=backlog,
                    use_proxy=use_proxy,
                )
            except RuntimeError:
                # A signal that came before the server listened has closed it, as it should.
                if was_closed or not self._closing:
                    raise
            self.wait()

    def test_client(self, **connection: Any) -> SMTPTestClient:
        """A client whose whole dialogue runs in the calling thread: no socket, no other thread.

        So callbacks see the caller's database transaction, and the caller what they did in it. The
        server need not listen; no limit of clients and no time limit applies. `connection` says
        what the server shall take the client for: `remote_address` ("127.0.0.1"), `remote_port`,
        `local_address`, `local_port`, `client_hostname`, `client_hostname_verified`, `proxy` (a
        ProxyInfo), and, of the TLS that is pretended, `secure` (from the start), `servername`,
        `tls_options` (a TLSCipherInfo) and `client_certificate` (see `get_peer_certificate`).
        Raises TypeError for another, RuntimeError after `close`.
        """
        from .in_memory.client import SMTPTestClient

        if self._closing:
            raise RuntimeError("the server is closed")
        return SMTPTestClient(self._host, **connection)

    # --- closing ---------------------------------------------------------------------------

    def close(self, timeout: float | None = None) -> None:
        """Stop accepting, let commands and messages in progress finish, then return.

        Idle clients get 421 at once; what is not done after `timeout` seconds (None: the option
        `close_timeout`) is broken off, and a callback that outlasts that is waited for. Idempotent;
        callable from any thread, from a callback (then it waits for nothing), and from a signal
        handler. Where an exception such as KeyboardInterrupt ends it early, another call goes on.
        In a process that was forked off it does nothing: the clients are its parent's.
        """
        if self._host.is_of_another_process:
            return
        with self._another_may_go_on():
            self._close(self.options.close_timeout if timeout is None else timeout)

    def _close(self, seconds: float) -> None:
        this_thread = threading.current_thread()
        with self._changed:
            self._close_deadline = min(self._close_deadline, time.monotonic() + seconds)
            self._closing = True
            # Whoever closes already looks at the new deadline.
            self._changed.notify_all()
            in_callback = any(each.thread is this_thread for each in self._host.connections)
            accepts = any(listener.thread is this_thread for listener in self._listeners)
            while self._closer is not None and not self._closed:
                # The server's own threads are waited for, and in a signal handler that interrupted
                # the closing itself there is nothing to wait for.
                if in_callback or accepts or self._closer is this_thread:
                    return
                self._changed.wait()
            if self._closed:
                return
            self._closer = this_thread
        if accepts:
            self._go_on_elsewhere(self._stop_accepting, self._finish)
        else:
            self._stop_accepting()
            if in_callback:
                self._go_on_elsewhere(self._finish)
            else:
                self._finish()

    @contextlib.contextmanager
    def _another_may_go_on(self) -> Iterator[None]:
        """Where the closing fails in this thread, leave it to the next that wants it."""
        try:
            yield
        except BaseException:
            with self._changed:
                if self._closer is threading.current_thread():
                    self._closer = None
                    self._changed.notify_all()
            raise

    def _go_on_elsewhere(self, *steps: Callable[[], None]) -> None:
        """Close in another thread, which may wait for this one."""

        def go_on() -> None:
            with self._another_may_go_on():
                with self._changed:
                    self._closer = threading.current_thread()
                for step in steps:
                    step()

        threading.Thread(target=go_on, name="blocksmtp close").start()

    def _stop_accepting(self) -> None:
        self._host.call()
        for listener in self._listeners:
            if listener.thread.is_alive():
                listener.thread.join()
        with self._changed:
            connections = list(self._host.connections)
        for connection in connections:
            connection.interrupt()
        for listener in self._listeners:
            listener.server_close()

    def _finish(self) -> None:
        """Wait for the connections, break off those that take too long, and give all back."""
        host = self._host
        with self._changed:
            while host.connections:
                remaining = self._close_deadline - time.monotonic()
                if remaining <= 0:
                    break
                self._changed.wait(remaining)
            late = list(host.connections)
        for connection in late:
            connection.abort()
        host.threads.close()
        host.close()
        try:
            host.logger.info("closed")
            host.emit("close")
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
                self._over.notify_all()

    def __enter__(self: _Server) -> _Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def connections(self) -> list[SMTPSession]:
        """A snapshot of the sessions that are live."""
        with self._changed:
            return [connection.session for connection in self._host.connections]

    def update_secure_context(self, **tls_options: Any) -> None:
        """Replace certificates, keys, CA and the SNI table for handshakes from now on.

        Takes the TLS options of the constructor, in either spelling; what is not given stays.
        Raises TypeError or ValueError, and changes nothing, where one is invalid.
        """
        self._host.tls.update(tls_options)

    # --- events ----------------------------------------------------------------------------

    def on(self, event: str, listener: Callable[..., Any]) -> Callable[..., Any]:
        """Call `listener` at each `event`, in the thread where it happens; returns it.

        It gets nothing at "listening" and "close", a `ConnectionInfo` at "connect", a `MessageInfo`
        at "message", once it has been answered or broken off, and at "error"
        the exception: what an application's callback raised, or what failed in the server itself.
        Raises ValueError for another event, TypeError for a listener that cannot be called.
        """
        self._host.events.add(event, listener)
        return listener

    def once(self, event: str, listener: Callable[..., Any]) -> Callable[..., Any]:
        """As `on`, but at the next `event` only."""
        self._host.events.add(event, listener, once=True)
        return listener

    def off(self, event: str, listener: Callable[..., Any]) -> None:
        """Call `listener` no more at `event`. Raises ValueError for an event that is none."""
        self._host.events.remove(event, listener)
