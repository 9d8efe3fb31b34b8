"""`manage.py runsmtp`: receive mail until stopped."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import autoreload

from ....command import listening_on, outcome_of, reason_of, serve_until_exit
from ....configuration import parse_address
from ....reloading import ended_once, is_child, run_children
from ...server import configuration, make_server

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from .....server import SMTPServer
    from .....session import MessageInfo


class Command(BaseCommand):
    """The command."""

    help = "Receives mail by SMTP, as the setting BLOCKSMTP says."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """See BaseCommand."""
        parser.add_argument(
            "addrport",
            nargs="?",
            help="Optional port number, or ipaddr:port; the default is of the setting BLOCKSMTP.",
        )
        parser.add_argument(
            "--noreload",
            action="store_false",
            dest="use_reloader",
            help="Do not start anew when code changes, as is done while DEBUG is set.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """See BaseCommand."""
        configured = configuration()
        host, port = configured.host, configured.port
        if options["addrport"]:
            try:
                given, port = parse_address(options["addrport"])
            except ValueError as error:
                raise CommandError(f"{error}.") from error
            host = given or host
        if options["use_reloader"] and settings.DEBUG:
            if not is_child(autoreload.DJANGO_AUTORELOAD_ENV):
                sys.exit(run_children(autoreload.DJANGO_AUTORELOAD_ENV))
            with ended_once():
                autoreload.run_with_reloader(self._serve_until_changed, host, port)
        else:
            server = self._make_server()
            try:
                server.serve_forever(port, host)
            except OSError as error:
                raise CommandError(reason_of(error)) from error
            self.stdout.write("Stopped.")

    def _make_server(self) -> SMTPServer:
        server = make_server()
        server.on("listening", lambda: self._say_listening(server))
        if settings.DEBUG:
            server.on("message", self._say_message)
        return server

    def _say_listening(self, server: SMTPServer) -> None:
        self.stdout.write(
            f"{listening_on(server)}, using settings {settings.SETTINGS_MODULE!r}.\n"
            "Quit with CONTROL-C."
        )
        self.stdout.flush()

    def _say_message(self, info: MessageInfo) -> None:
        self.stdout.write(outcome_of(info))
        self.stdout.flush()

    def _serve_until_changed(self, host: str, port: int) -> None:
        """Runs beside the reloader, which ends the process when code changes."""
        autoreload.raise_last_exception()
        self.check(display_num_errors=True)
        try:
            serve_until_exit(self._make_server(), port, host)
        except OSError as error:
            # Only the main thread ends the process, and it waits for a change of code.
            self.stderr.write(f"Error: {reason_of(error)}")
