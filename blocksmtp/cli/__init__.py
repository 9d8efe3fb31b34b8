"""The command line: a server that shows what it receives, or takes mail in for real.

`arguments` says what may be said, `service` makes a server of it and runs it in one process,
`workers` in several. In between, in this order: what needs root is done, root is given up, and what
must be possible without it is tried.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..addresses import shown_address
from ..server import BACKLOG
from ..wire.sockets import tcp_sockets, unix_socket
from . import workers
from .arguments import command_line, parse
from .errors import CannotStart, reason_of
from .logs import set_up
from .output import Output, ProcessLock
from .privileges import Identity
from .service import DELIVERIES, Secrets, Service
from .systemd import Notifier, take_sockets

if TYPE_CHECKING:
    from .metrics import MetricsPage


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until it is stopped; returns the exit status.

    `arguments` are those of the command line, None for those of this process. Raises SystemExit, as
    argparse does, with 0 for --help and --version, and with 2 where the server cannot start.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if given[:1] == ["passwd"]:
            from . import passwd

            return passwd.run(given[1:])
        return _serve(parse(given))
    except CannotStart as error:
        command_line().error(str(error))


def _serve(chosen: argparse.Namespace) -> int:
    """Serve as `chosen`. Raises CannotStart."""
    if sys.stdout is None:
        raise CannotStart("standard output is closed")
    set_up(_log_level(chosen), chosen.log_format)
    with contextlib.ExitStack() as at_end:
        output = Output()
        notifier = Notifier()
        identity = Identity.named(chosen.user, chosen.group)
        secrets = Secrets.read(chosen)
        page = _metrics_page(chosen)
        if page is not None:
            at_end.callback(page.close)
        service = Service(chosen, secrets, output)
        sockets = _bound(chosen, identity, at_end)
        metrics = None if page is None else page.prepare(identity)
        identity.become()
        lock = at_end.enter_context(ProcessLock()) if chosen.workers > 1 else None
        service.prepare(metrics, lock)

        def ready() -> None:
            _say_where(sockets, chosen, output)
            notifier.ready()

        if chosen.workers > 1:
            return _serve_in_processes(chosen, service, sockets, output, page, notifier, ready)
        if page is not None:
            at_end.enter_context(page.shown())
        service.run(
            sockets,
            started=ready,
            stopping=notifier.stopping,
            reloaded=lambda reload: _reload(notifier, reload),
        )
        return 1 if output.broken else 0


def _serve_in_processes(
    chosen: argparse.Namespace,
    service: Service,
    sockets: list[socket.socket],
    output: Output,
    page: MetricsPage | None,
    notifier: Notifier,
    ready: Callable[[], None],
) -> int:
    def stopping() -> None:
        # Or new clients would wait for somebody to accept them.
        for sock in sockets:
            sock.close()
        notifier.stopping()

    def work(tell_ready: Callable[[], None]) -> int:
        service.run(
            sockets,
            started=tell_ready,
            closing=workers.CLOSING,
            began=workers.hear_signals,
        )
        return workers.FOR_GOOD if output.broken else 0

    pages = [] if page is None else [page.work]
    watch = workers.Workers(
        *[work] * chosen.workers,
        *pages,
        ready=ready,
        stopping=stopping,
        reload=lambda: _reload(notifier, service.reload),
        died=lambda process_id: None if page is None else page.forget(process_id),
    )
    return watch.run() or (1 if output.broken else 0)


def _reload(notifier: Notifier, reload: Callable[[], None]) -> None:
    notifier.reloading()
    reload()
    notifier.ready()


def _log_level(chosen: argparse.Namespace) -> int:
    if chosen.verbose:
        return logging.DEBUG
    stored = any(getattr(chosen, option) is not None for option in DELIVERIES)
    # Who watches messages being printed has no use for a line about each.
    return logging.INFO if stored or chosen.log_format == "json" else logging.ERROR


def _metrics_page(chosen: argparse.Namespace) -> MetricsPage | None:
    if chosen.metrics is None:
        return None
    from .metrics import MetricsPage

    return MetricsPage(chosen.metrics, processes=chosen.workers > 1)


def _bound(
    chosen: argparse.Namespace, identity: Identity, at_end: contextlib.ExitStack
) -> list[socket.socket]:
    """The sockets to listen on; they are closed at the end. Raises CannotStart."""
    try:
        sockets = take_sockets()
    except OSError as error:
        raise CannotStart(reason_of(error)) from error
    if not sockets:
        where = chosen.unix or shown_address(chosen.host, chosen.port)
        try:
            if chosen.unix is not None:
                sock, file = unix_socket(chosen.unix, chosen.unix_mode, BACKLOG)
                at_end.callback(_removed, file.remove)
                identity.own(chosen.unix)
                sockets = [sock]
            else:
                sockets = tcp_sockets(chosen.host, chosen.port, BACKLOG)
        except UnicodeError as error:
            raise CannotStart(f"cannot listen on {where}: that is no host name") from error
        except OSError as error:
            raise CannotStart(f"cannot listen on {where}: {reason_of(error)}") from error
    for sock in sockets:
        at_end.callback(sock.close)
    return sockets


def _removed(remove: Callable[[], None]) -> None:
    # Its folder may be closed to a server that has given up its privileges.
    with contextlib.suppress(OSError):
        remove()


def _say_where(
    sockets: Sequence[socket.socket], chosen: argparse.Namespace, output: Output
) -> None:
    """Say where the server listens: to people, or, where nobody reads along, in the log."""
    names = [sock.getsockname() for sock in sockets]
    places = [shown_address(*name[:2]) if isinstance(name, tuple) else str(name) for name in names]
    protocol = "LMTP" if chosen.lmtp else "SMTP"
    line = f"Listening on {' and '.join(places)} ({protocol})"
    if chosen.log_format == "json":
        logging.getLogger("blocksmtp").info("%s", line)
    else:
        output.say(f"{line}; Ctrl-C stops it")
