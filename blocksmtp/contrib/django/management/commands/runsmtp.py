"""`manage.py runsmtp`: receive mail until stopped."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import autoreload

from .....text import printable
from ....configuration import parse_address, shown_address
from ...server import configuration, make_server

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from .....server import SMTPServer
    from .....session import MessageInfo

_REASONS = {
    errno.EACCES: "You don't have permission to access that port.",
    errno.EADDRINUSE: "That port is already in use.",
    errno.EADDRNOTAVAIL: "That IP address can't be assigned to.",
}


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
            autoreload.run_with_reloader(self._serve_until_changed, host, port)
        else:
            server = self._make_server(host, port)
            try:
                server.serve_forever(port, host)
            except OSError as error:
                raise CommandError(_reason(error)) from error
            self.stdout.write("Stopped.")

    def _make_server(self, host: str, port: int) -> SMTPServer:
        server = make_server()
        server.on("listening", lambda: self._say_listening(server, host))
        if settings.DEBUG:
            server.on("message", self._say_message)
        return server

    def _say_listening(self, server: SMTPServer, host: str) -> None:
        protocol = "LMTP" if server.options.lmtp else "SMTP"
        self.stdout.write(
            f"Receiving mail by {protocol} on {shown_address(host, server.port or 0)}, "
            f"using settings {settings.SETTINGS_MODULE!r}.\nQuit with CONTROL-C."
        )
        self.stdout.flush()

    def _say_message(self, info: MessageInfo) -> None:
        recipients = ", ".join(f"<{address}>" for address in info.envelope.rcpt_to)
        sender = info.envelope.mail_from or ""
        codes = ", ".join(map(str, info.reply_codes)) or "broken off"
        self.stdout.write(printable(f"<{sender}> to {recipients}: {codes}"))
        self.stdout.flush()

    def _serve_until_changed(self, host: str, port: int) -> None:
        """Runs beside the reloader, which ends the process when code changes."""
        autoreload.raise_last_exception()
        self.check(display_num_errors=True)
        server = self._make_server(host, port)
        try:
            server.listen(port, host)
        except OSError as error:
            # Only the main thread ends the process, and it waits for a change of code.
            self.stderr.write(f"Error: {_reason(error)}")
            return

        def close_at_exit() -> None:
            threading.main_thread().join()
            server.close()

        # Not a daemon: the messages in progress are finished before the process ends.
        threading.Thread(target=close_at_exit, name="runsmtp").start()
        server.wait()


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, str(error))
