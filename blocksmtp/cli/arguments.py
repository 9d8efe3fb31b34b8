"""What may be said on the command line, and its text for people."""

from __future__ import annotations

import argparse
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from .. import __version__
from ..text import one_line
from .configuration import read_configuration
from .errors import CannotStart

_DESCRIPTION = """\
Receive mail on this machine. Without options every message is printed, the envelope first: a server
to try out programs that send mail, on 127.0.0.1:2525. Ctrl-C stops it.
"""

_EPILOG = """\
While it runs, send it a message from another terminal:

  printf 'Subject: Hello\\n\\nIt works.\\n' | curl --upload-file - smtp://127.0.0.1:2525 \\
      --mail-from me@example.org --mail-rcpt you@example.org

Receive mail for real, in four processes that give up their privileges, into a Maildir:

  blocksmtp --host :: --port 25 --user mail --workers 4 --maildir /var/mail/incoming \\
      --cert /etc/ssl/mail.pem

A message is acknowledged once it has been delivered, never before: what cannot be delivered now is
answered with 451, and its sender tries again. Signals: SIGTERM and Ctrl-C let messages in progress
finish (a second one does not), SIGHUP reads certificates and passwords again. Control characters in
what is printed are shown as escapes, like \\x1b, so that no message can take over the terminal. The
exit status is 0 after a signal, 1 when it fails later on, 2 when it cannot start.

"blocksmtp passwd --help" tells how to keep a file of passwords.
"""

_SIZE = re.compile(r"([0-9]{1,15})([KMG]?)", re.IGNORECASE)
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}

DEFAULTS: dict[str, Any] = {
    **{"host": "127.0.0.1", "port": 2525, "unix": None, "unix_mode": None, "proxy_from": []},
    **{"lmtp": False, "name": None, "size": None, "max_clients": 1000},
    **{"implicit_tls": False, "cert": None, "key": None},
    **{"auth_file": None, "allow_insecure_auth": False},
    **{"print": False, "maildir": None, "mbox": None, "forward": None, "exec": None},
    **{"forward_tls": "opportunistic", "forward_login": None, "exec_timeout": 300.0},
    **{"workers": 1, "user": None, "group": None},
    **{"verbose": False, "log_format": "text", "metrics": None, "config": None},
}

# Of each of these there can be one, and what the command line says is in place of the file's.
_ALTERNATIVES = (
    (("print",), ("maildir",), ("mbox",), ("forward",), ("exec",)),
    (("host", "port"), ("unix", "unix_mode")),
)


class Parser(argparse.ArgumentParser):
    """Ends with status 2 and one line, where argparse would show the usage as well."""

    def error(self, message: str) -> NoReturn:
        """Raises SystemExit."""
        self.exit(2, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options as the command line, the file that it names, and the defaults say, in this order.

    `arguments` None are those of this process. Raises CannotStart, and SystemExit as argparse does.
    """
    parser = command_line()
    said = vars(parser.parse_args(arguments))
    _check_alternatives(said, "--")
    written: dict[str, Any] = {}
    if "config" in said:
        table = read_configuration(said["config"], parser)
        # A switch that is off there is as good as not there.
        written = {name: value for name, value in table.items() if value is not False}
        _check_alternatives(written, f"{said['config']}: ")
    for group in _ALTERNATIVES:
        first = {name for names in group if said.keys() & set(names) for name in names}
        if first:
            for name in {name for names in group for name in names} - first:
                written.pop(name, None)
    if "cert" in said and "cert" in written:
        # The key belongs to the certificate that it stands beside.
        written.pop("key", None)
    chosen = argparse.Namespace(**{**DEFAULTS, **written, **said})
    if chosen.key is not None and chosen.cert is None:
        raise CannotStart("--key without --cert")
    if chosen.unix_mode is not None and chosen.unix is None:
        raise CannotStart("--unix-mode without --unix")
    return chosen


def _check_alternatives(given: dict[str, Any], prefix: str) -> None:
    for group in _ALTERNATIVES:
        first = [
            next(name for name in names if name in given)
            for names in group
            if given.keys() & set(names)
        ]
        if len(first) > 1:
            one, other = (f"{prefix}{name.replace('_', '-')}" for name in first[:2])
            raise CannotStart(f"{one} and {other} do not go together")


def command_line() -> Parser:
    """All options. What is not said is not among those parsed: `DEFAULTS` has it."""
    parser = Parser(
        prog="blocksmtp",
        usage="blocksmtp [OPTION]...\n       blocksmtp passwd FILE USER",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # An abbreviation would change its meaning as soon as there is another option like it.
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    _add_places(parser)
    _add_protocol(parser)
    _add_deliveries(parser)
    _add_operation(parser)
    parser.add_argument("--version", action="version", version=f"{parser.prog} {__version__}")
    return parser


def _add_places(parser: Parser) -> None:
    group = parser.add_argument_group(
        "where to listen (sockets that systemd hands over come first)"
    )
    group.add_argument(
        "--host",
        metavar="ADDRESS",
        type=_text,
        help="address or name of this machine; 0.0.0.0 lets other machines in, too, over IPv4, and "
        ":: over IPv6 (default: 127.0.0.1, this machine alone)",
    )
    group.add_argument(
        "--port",
        metavar="NUMBER",
        type=_port,
        help="TCP port; 0 takes one that is free (default: 2525)",
    )
    group.add_argument(
        "--unix",
        metavar="PATH",
        type=_text,
        help="a Unix socket in place of a TCP port; mail servers like it",
    )
    group.add_argument(
        "--unix-mode",
        metavar="OCTAL",
        type=_octal,
        help="permissions of the Unix socket, 660 say (default: what the umask leaves)",
    )
    group.add_argument(
        "--proxy-from",
        metavar="NETWORK",
        type=_network,
        action="append",
        help="address or network of a proxy such as HAProxy, which must tell of each client in a "
        "PROXY header; may be given several times",
    )


def _add_protocol(parser: Parser) -> None:
    group = parser.add_argument_group("protocol")
    group.add_argument(
        "--lmtp",
        action="store_true",
        help="speak LMTP, as mail servers do when they deliver to a mailbox, instead of SMTP",
    )
    group.add_argument(
        "--name",
        metavar="HOST",
        type=_text,
        help="the server's own name (default: that of this machine)",
    )
    group.add_argument(
        "--size",
        metavar="BYTES",
        type=_size,
        help="refuse larger messages; K, M or G may follow the number (default: no limit)",
    )
    group.add_argument(
        "--max-clients",
        metavar="NUMBER",
        type=_count,
        help="clients at the same time, in each worker process (default: 1000)",
    )
    tls = parser.add_argument_group("TLS (clients may always ask for it with STARTTLS)")
    tls.add_argument(
        "--implicit-tls",
        action="store_true",
        help="TLS from the first octet on, as on port 465 (RFC 8314)",
    )
    tls.add_argument(
        "--cert",
        metavar="FILE",
        type=_path,
        help="certificate and those that lead to its root, in PEM form (default: a self-signed "
        "one, made at start)",
    )
    tls.add_argument(
        "--key",
        metavar="FILE",
        type=_path,
        help="private key of the certificate, in PEM form (default: it is in the --cert file)",
    )
    users = parser.add_argument_group("who may send")
    users.add_argument(
        "--auth-file",
        metavar="FILE",
        type=_path,
        help='only users with a password in this file, which "blocksmtp passwd" keeps (default: '
        "everybody who can connect)",
    )
    users.add_argument(
        "--allow-insecure-auth",
        action="store_true",
        help="take passwords without TLS, too, as may do on this machine alone",
    )


def _add_deliveries(parser: Parser) -> None:
    group = parser.add_argument_group("what becomes of messages: one of these")
    group.add_argument("--print", action="store_true", help="show them here (the default)")
    group.add_argument(
        "--maildir",
        metavar="DIR",
        type=_text,
        help="store each in a file of its own. With {user}, {domain} or {recipient} in DIR each "
        "recipient has a Maildir, which must be there",
    )
    group.add_argument("--mbox", metavar="FILE", type=_text, help="append them to a file")
    group.add_argument(
        "--forward",
        metavar="HOST:PORT",
        type=_host_and_port,
        help="hand them to another mail server; its answer is ours",
    )
    group.add_argument(
        "--exec",
        metavar="COMMAND",
        type=_text,
        help="run a program for each, with the message on standard input; its exit status, as in "
        "sysexits.h, is the answer",
    )
    details = parser.add_argument_group("more of that")
    details.add_argument(
        "--forward-tls",
        choices=("opportunistic", "required", "implicit", "never"),
        help="TLS to the other server: where it offers it, always with STARTTLS, always from the "
        "first octet on, or never. The middle two verify its certificate (default: opportunistic)",
    )
    details.add_argument(
        "--forward-login",
        metavar="FILE",
        type=_path,
        help="file with one line NAME:PASSWORD, to log in with at the other server",
    )
    details.add_argument(
        "--exec-timeout",
        metavar="SECONDS",
        type=_seconds,
        help="how long the program may take before it is killed (default: 300)",
    )


def _add_operation(parser: Parser) -> None:
    group = parser.add_argument_group("how it runs")
    group.add_argument(
        "--config",
        metavar="FILE",
        type=_path,
        help='a file in TOML with options, under the names of these flags: "port = 25", "lmtp = '
        'true"; what is said here comes first',
    )
    group.add_argument(
        "--workers",
        metavar="NUMBER",
        type=_count,
        help="processes that serve together; one that dies is started again (default: 1)",
    )
    group.add_argument(
        "--user",
        metavar="NAME",
        type=_text,
        help="become this user when the port is bound and keys are read (to be started as root)",
    )
    group.add_argument(
        "--group",
        metavar="NAME",
        type=_text,
        help="become this group (default: that of the --user)",
    )
    group.add_argument(
        "--verbose",
        action="store_true",
        help="show every dialogue on standard error, without passwords and message texts",
    )
    group.add_argument(
        "--log-format",
        choices=("text", "json"),
        help="of what is told on standard error; json has an object a line (default: text)",
    )
    group.add_argument(
        "--metrics",
        metavar="[ADDRESS:]PORT",
        type=_metrics_place,
        help="show figures for Prometheus at http://ADDRESS:PORT/metrics (default address: "
        "127.0.0.1)",
    )


# --- the kinds of values -------------------------------------------------------------------------


def _text(text: str) -> str:
    if not text:
        # As a variable of a shell is that was never set.
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _path(text: str) -> Path:
    return Path(_text(text))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535, not {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and int(text)):
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 999999, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,3})?", text) or float(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, not {text!r}")
    return float(text)


def _octal(text: str) -> int:
    if not re.fullmatch(r"[0-7]{3,4}", text):
        raise argparse.ArgumentTypeError(f"must be three or four octal digits, not {text!r}")
    return int(text, 8)


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"must be a number of bytes such as 5000 or 10M: {text!r}")
    return int(match[1]) * _UNITS[match[2].upper()]


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an address or network, not {text!r}") from None


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or (":" in bare and bare == host):
        raise argparse.ArgumentTypeError(f"must be HOST:PORT or [ADDRESS]:PORT, not {text!r}")
    return bare, _port(port)


def _metrics_place(text: str) -> tuple[str, int]:
    return _host_and_port(text) if ":" in text else ("127.0.0.1", _port(text))
