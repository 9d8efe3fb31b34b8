"""A Flask extension that receives mail.

    smtp = BlockSMTP(app)

    @smtp.receiver("help@example.com")
    def receive(message): ...

`flask smtp` starts the server. Each callback runs in the application context, at whose end Flask
and its extensions clean up: Flask-SQLAlchemy, for one, removes its session then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import fnmatch
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar, cast, overload

import click
from flask import Flask, current_app, has_app_context
from flask.cli import with_appcontext
from flask.helpers import get_debug_flag
from werkzeug.utils import import_string

from ..delivery.incoming import spooled
from ..errors import SMTPError
from ..message import IncomingMessage
from ..server import SMTPServer
from .command import listening_on, outcome_of, reason_of, serve_until_exit
from .configuration import KEYS, NOBODY_RECEIVES, Configuration, check_recipient
from .reloading import ended_once, is_child, run_children

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ..session import SMTPAddress, SMTPEnvelope, SMTPSession
    from ..wire.stream import DataStream

_Receiver = TypeVar("_Receiver", bound=Callable[[IncomingMessage], Any])

# A database's transactions are the application's own matter here.
_KEYS = tuple(key for key in KEYS if key != "ATOMIC")
_NAME = "blocksmtp"
_RELOADS = "WERKZEUG_RUN_MAIN"  # set for the process that its reloader runs in


class BlockSMTP:
    """The extension: `BlockSMTP(app)`, or `BlockSMTP()` and later `init_app(app)`.

    `app.config["BLOCKSMTP"]` is a dictionary with HOST, PORT, RECEIVER, RECIPIENT_DOMAINS and
    OPTIONS. It is read when a server is made.
    """

    def __init__(self, app: Flask | None = None) -> None:
        self._receivers: list[_Route] = []
        self._app = app
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Make `app` one that receives mail. Raises RuntimeError where it is one already."""
        if _NAME in app.extensions:
            raise RuntimeError("this application has an extension BlockSMTP already")
        app.extensions[_NAME] = self
        app.config.setdefault("BLOCKSMTP", {})
        app.cli.add_command(_smtp_command)

    @overload
    def receiver(self, first: _Receiver, /) -> _Receiver: ...

    @overload
    def receiver(self, *patterns: str) -> Callable[[_Receiver], _Receiver]: ...

    def receiver(self, *patterns: Any) -> Any:
        """Register a function that gets the messages to some recipients, or all: a decorator.

        A pattern is an address, capitals or not, in which "*" and "?" may stand: "*@example.com".
        Without any the function gets what no other wants, for RECIPIENT_DOMAINS. A recipient
        belongs to the first function that has a pattern for it; what belongs to none is refused.

        The function is called once for a message, whose envelope has its recipients only. What it
        returns, a text or None, is said with the 250; it refuses by raising SMTPError.
        """
        if len(patterns) == 1 and callable(patterns[0]):
            self._receivers.append(_Route((), patterns[0]))
            return patterns[0]
        for pattern in patterns:
            if not isinstance(pattern, str):
                raise TypeError(f"a pattern must be str, not {type(pattern).__name__}")
        # "[" stands for itself, as in an address literal.
        lower = tuple(pattern.lower().replace("[", "[[]") for pattern in patterns)

        def register(function: _Receiver) -> _Receiver:
            self._receivers.append(_Route(lower, function))
            return function

        return register

    def make_server(self, app: Flask | None = None, **options: Any) -> SMTPServer:
        """The server of `app`, else of the extension's or the current application; not listening.

        `options` are those of SMTPServer, callbacks too, and come before the settings' own. Raises
        TypeError and ValueError for settings that are none, ImportError for a dotted path that
        leads nowhere, RuntimeError where there is no application.
        """
        if app is None:
            app = self._app
        if app is None:
            app = current_app._get_current_object()  # type: ignore[attr-defined]
        configured = _configuration(app)
        given = configured.server_options(import_string, options)
        routes = list(self._receivers)
        if configured.receiver is not None:
            receiver = configured.receiver
            routes.append(
                _Route((), import_string(receiver) if isinstance(receiver, str) else receiver)
            )
        application = _MailApplication(app, routes, configured.recipient_domains, given)
        return SMTPServer(
            **{"callback_context": application.context, **given},
            on_rcpt_to=application.on_rcpt_to,
            on_data=application.on_data,
        )


class _Route(NamedTuple):
    patterns: tuple[str, ...]
    """In lower case; none: what no other wants."""
    receiver: Callable[[IncomingMessage], Any]

    def fits(self, address: str) -> bool:
        """Whether a pattern does."""
        return any(fnmatch.fnmatchcase(address.lower(), pattern) for pattern in self.patterns)


class _MailApplication:
    """The callbacks of the server; those of the settings are called in their turn."""

    def __init__(
        self, app: Flask, routes: list[_Route], domains: tuple[str, ...], options: dict[str, Any]
    ) -> None:
        """Takes from `options` the callbacks that it stands for."""
        self._app = app
        self._named = [route for route in routes if route.patterns]
        self._others = [route for route in routes if not route.patterns]
        self._domains = domains
        self._on_rcpt_to = options.pop("on_rcpt_to", None)
        self._on_data = options.pop("on_data", None)

    def context(self, session: SMTPSession) -> AbstractContextManager[Any]:
        """The application context around a callback; a test's own is left in its place."""
        if has_app_context() and current_app._get_current_object() is self._app:  # type: ignore[attr-defined]
            return contextlib.nullcontext()
        return self._app.app_context()

    def on_rcpt_to(self, address: SMTPAddress, session: SMTPSession) -> Any:
        """Refuse recipients that belong to nobody."""
        if self._route_of(address) is None:
            if self._domains or not self._app.debug:
                check_recipient(address, self._domains)
            if self._named and not self._others and self._on_data is None:
                raise SMTPError("No such mailbox", 550, "5.1.1")
        return None if self._on_rcpt_to is None else self._on_rcpt_to(address, session)

    def _route_of(self, address: SMTPAddress) -> _Route | None:
        for route in self._named:
            if route.fits(address.address):
                return route
        return None

    def on_data(self, stream: DataStream, session: SMTPSession) -> Any:
        """Hand the message to whom its recipients belong."""
        if self._on_data is not None:
            return self._on_data(stream, session)
        shares = list(self._shares(session.envelope))
        if not shares:
            raise SMTPError(*NOBODY_RECEIVES)
        # Whole before a receiver sees it: what breaks off or is too large shall leave nothing.
        with spooled(stream, session) as spool:
            if spool is None:
                return None
            source = cast("BinaryIO", spool) if len(shares) == 1 else spool.read()
            results = [
                receiver(IncomingMessage(source, envelope, session))
                for receiver, envelope in shares
            ]
        return next((result for result in results if result is not None), None)

    def _shares(
        self, envelope: SMTPEnvelope
    ) -> Iterator[tuple[Callable[[IncomingMessage], Any], SMTPEnvelope]]:
        """Each receiver with its part of the envelope."""
        recipients: dict[_Route, list[SMTPAddress]] = {}
        for address in envelope.rcpt_to:
            route = self._route_of(address)
            for each in self._others[:1] if route is None else [route]:
                recipients.setdefault(each, []).append(address)
        for route, addresses in recipients.items():
            yield route.receiver, dataclasses.replace(envelope, rcpt_to=addresses)


def _configuration(app: Flask) -> Configuration:
    """The settings of `app`. Raises TypeError and ValueError."""
    try:
        return Configuration.of(app.config.get("BLOCKSMTP", {}), _KEYS)
    except TypeError as error:
        raise TypeError(f"BLOCKSMTP: {error}") from error
    except KeyError as error:
        (key,) = error.args
        close = difflib.get_close_matches(str(key).upper(), _KEYS, n=1, cutoff=0.0)
        raise ValueError(f"BLOCKSMTP: unknown key {key!r}; did you mean {close[0]!r}?") from None


@click.command("smtp", short_help="Receive mail.")
@click.option("--host", "-h", default=None, help="The address to listen on.")
@click.option("--port", "-p", default=None, type=click.IntRange(0, 65_535), help="The port.")
@click.option(
    "--reload/--no-reload",
    "reloads",
    default=None,
    help="Start anew when code changes; by default while debug is enabled.",
)
@with_appcontext
def _smtp_command(host: str | None, port: int | None, reloads: bool | None) -> None:
    """Receive mail by SMTP, as app.config["BLOCKSMTP"] says, until stopped."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    configured = _configuration(app)
    server: SMTPServer = app.extensions[_NAME].make_server(app)
    server.on("listening", lambda: click.echo(f"{listening_on(server)}. Quit with CONTROL-C."))
    if app.debug:
        server.on("message", lambda info: click.echo(outcome_of(info)))
    host = configured.host if host is None else host
    port = configured.port if port is None else port
    try:
        if get_debug_flag() if reloads is None else reloads:
            if not is_child(_RELOADS):
                sys.exit(run_children(_RELOADS))
            # As werkzeug's own server runs beside it.
            from werkzeug._reloader import run_with_reloader

            with ended_once():
                run_with_reloader(lambda: _serve(server, port, host))
        else:
            server.serve_forever(port, host)
    except OSError as error:
        raise click.ClickException(reason_of(error)) from error


def _serve(server: SMTPServer, port: int, host: str) -> None:
    try:
        serve_until_exit(server, port, host)
    except OSError as error:
        # Only the main thread ends the process, and it waits for a change of code.
        click.echo(f"Error: {reason_of(error)}", err=True)
