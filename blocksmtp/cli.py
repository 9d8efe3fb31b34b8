"""The command line: a server that shows what it receives.

It has three steps, each with a function: the arguments (`command_line`), what becomes of a message
(`_delivery`, a callable of `blocksmtp.delivery`), and the options of the server (`_options`).
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import SMTPServer, __version__
from .delivery import PrintDelivery
from .text import one_line

if TYPE_CHECKING:
    from .session import SMTPSession
    from .wire.stream import DataStream

    Delivery = Callable[[DataStream, SMTPSession], Any]

_DESCRIPTION = """\
Receive mail on this machine and print it, the envelope first: a server to try out programs that
send mail. Nothing is stored or sent on, and no password is asked for. Ctrl-C stops it.
"""

_EPILOG = """\
While it runs, send it a message from another terminal:

  printf 'Subject: Hello\\n\\nIt works.\\n' | curl --upload-file - smtp://127.0.0.1:2525 \\
      --mail-from me@example.org --mail-rcpt you@example.org

Control characters in messages are shown as escapes, like \\x1b, so that no message can take over
the terminal. The exit status is 0 after Ctrl-C (SIGINT) or SIGTERM, 1 when the output breaks, 2
when the server cannot start.
"""

_SIZE = re.compile(r"([0-9]{1,15})([KMG]?)", re.IGNORECASE)
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}

_logger = logging.getLogger("blocksmtp")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until it is stopped; returns the exit status.

    `arguments` are those of the command line, None for those of this process. Raises SystemExit, as
    argparse does, with 0 for --help and --version, and with 2 where the server cannot start.
    """
    parser = command_line()
    chosen = parser.parse_args(arguments)
    # Not its warnings: that the certificate is self-signed is told by --help.
    logging.basicConfig(format=f"{parser.prog}: %(message)s", level=logging.ERROR)
    if sys.stdout is None:
        parser.error("standard output is closed")
    try:
        server = SMTPServer(**_options(chosen))
    except ValueError as error:
        parser.error(str(error))
    output = _Output(server)
    server.on_data = _delivery(output)
    server.on("listening", lambda: output.say(_listening(server)))
    try:
        server.serve_forever(chosen.port, chosen.host)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "that is no host name"
        parser.error(f"cannot listen on {_shown_address(chosen.host, chosen.port)}: {reason}")
    return 1 if output.broken else 0


def command_line() -> argparse.ArgumentParser:
    """What may be said on the command line."""
    parser = _Parser(
        prog="blocksmtp",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # An abbreviation would change its meaning as soon as there is another option like it.
        allow_abbrev=False,
    )
    where = parser.add_argument_group("where to listen")
    where.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="address or name of this machine; 0.0.0.0 lets other machines in, too, over IPv4, and "
        ":: over IPv6 (default: 127.0.0.1, this machine alone)",
    )
    where.add_argument(
        "--port",
        metavar="NUMBER",
        type=_port,
        default=2525,
        help="TCP port; 0 takes one that is free (default: 2525)",
    )
    protocol = parser.add_argument_group("protocol")
    protocol.add_argument(
        "--lmtp",
        action="store_true",
        help="speak LMTP, as mail servers do when they deliver to a mailbox, instead of SMTP",
    )
    protocol.add_argument(
        "--size",
        metavar="BYTES",
        type=_size,
        help="refuse larger messages; K, M or G may follow the number (default: no limit)",
    )
    tls = parser.add_argument_group("TLS (clients may always ask for it with STARTTLS)")
    tls.add_argument(
        "--cert",
        metavar="FILE",
        type=Path,
        help="certificate and those that lead to its root, in PEM form (default: a self-signed "
        "one, made at start)",
    )
    tls.add_argument(
        "--key",
        metavar="FILE",
        type=Path,
        help="private key of the certificate, in PEM form (default: it is in the --cert file)",
    )
    parser.add_argument("--version", action="version", version=f"{parser.prog} {__version__}")
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with status 2 and one line, where argparse would show the usage as well."""
        self.exit(2, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535, not {text!r}")
    return int(text)


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"must be a number of bytes such as 5000 or 10M: {text!r}")
    return int(match[1]) * _UNITS[match[2].upper()]


def _options(chosen: argparse.Namespace) -> dict[str, Any]:
    """The options of the server."""
    return {
        "lmtp": chosen.lmtp,
        "size": chosen.size,
        "cert": chosen.cert,
        "key": chosen.key,
        # There are no users: offered, it could only fail. Not offered, it is not required either.
        "disabled_commands": ["AUTH"],
        "disable_reverse_lookup": True,
    }


def _delivery(output: _Output) -> Delivery:
    """What becomes of a message."""
    return PrintDelivery(sys.stdout, output.failed)


def _listening(server: SMTPServer) -> str:
    places = [
        address if isinstance(address, str) else _shown_address(*address)
        for address in server.addresses
    ]
    protocol = "LMTP" if server.options.lmtp else "SMTP"
    return f"Listening on {' and '.join(places)} ({protocol}); Ctrl-C stops it"


def _shown_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Output:
    """Standard output, which may break at any time: `blocksmtp | head`."""

    def __init__(self, server: SMTPServer) -> None:
        self._server = server
        self.broken = False

    def say(self, line: str) -> None:
        """Print one line at once."""
        try:
            print(line, flush=True)
        except OSError as error:
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Nobody sees what comes from now on: stop the server."""
        self.broken = True
        _logger.error("standard output: %s", getattr(error, "strerror", None) or error)
        # Or Python would complain once more, of what it cannot flush when it exits.
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        self._server.close()
