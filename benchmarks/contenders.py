"""Who is measured, and how each of them is installed and started."""

from __future__ import annotations

import os
import pwd
import re
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from . import installing

SERVERS = Path(__file__).parent / "servers"
ROOT = Path(__file__).parents[1]


class Kind(Enum):
    """What a contender's figures are good for."""

    PRODUCT = "product"
    """Somebody would put it into production."""
    ANCHOR = "anchor"
    """Tells what the machine can do: it does less than a product has to."""
    VARIANT = "variant"
    """A product used in another way, shown beside it."""
    CEILING = "ceiling of the load"
    """Tells what the load can do, where nobody else is faster than the load."""


class Feature(Enum):
    """What a workload may ask for."""

    PLAIN = "SMTP without TLS"
    TLS = "implicit TLS"
    STARTTLS = "STARTTLS"
    CALLBACK = "a callback"


@dataclass(frozen=True)
class Program:
    """A contender that is installed: what has to be run."""

    command: tuple[str, ...]
    version: str
    environment: Mapping[str, str] = field(default_factory=dict)
    takes_settings: bool = True
    """False: its last two arguments are address:port and the backlog, as smtp-sink has them."""


@dataclass(frozen=True, eq=False)
class Contender:
    """A server that is measured."""

    name: str
    """On the command line."""
    label: str
    """In the report."""
    kind: Kind
    install: Callable[[Path], Program]
    """Gets the cache folder. Raises Unavailable."""
    note: str
    features: frozenset[Feature] = frozenset(Feature)
    only: frozenset[str] = frozenset()
    """The workloads that it is meant for, by name; none named: all whose features it has."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """For its server program, beside those that all get."""


def _python(program: str) -> Callable[[Path], Program]:
    def install(cache: Path) -> Program:
        command = (sys.executable, str(SERVERS / program))
        version = "Python " + ".".join(map(str, sys.version_info[:3]))
        return Program(command, version, {"PYTHONPATH": str(ROOT)})

    return install


def _blocksmtp(cache: Path) -> Program:
    from blocksmtp import __version__

    program = _python("blocksmtp_server.py")(cache)
    return Program(program.command, f"{__version__}, {program.version}", program.environment)


def _aiosmtpd(cache: Path) -> Program:
    python, version = installing.aiosmtpd(cache)
    running = "Python " + ".".join(map(str, sys.version_info[:3]))
    return Program((python, str(SERVERS / "aiosmtpd_server.py")), f"{version}, {running}")


def _bun(cache: Path) -> tuple[str, str]:
    modules, version = installing.npm("bun", cache)
    bun = modules / ".bin" / "bun"
    installing.output_of(bun, "--version")
    return str(bun), f"Bun {version}"


def _smtp_server_on_node(cache: Path) -> Program:
    node = installing.program("node", "nodejs")
    modules, version = installing.npm("smtp-server", cache)
    running = "Node " + installing.output_of(node, "--version").strip().lstrip("v")
    command = (node, str(SERVERS / "smtp_server.cjs"))
    return Program(command, f"{version}, {running}", {"NODE_PATH": str(modules)})


def _smtp_server_on_bun(cache: Path) -> Program:
    bun, running = _bun(cache)
    modules, version = installing.npm("smtp-server", cache)
    command = (bun, str(SERVERS / "smtp_server.cjs"))
    return Program(command, f"{version}, {running}", {"NODE_PATH": str(modules)})


def _bun_smtp(cache: Path) -> Program:
    bun, running = _bun(cache)
    modules, version = installing.npm("bun-smtp", cache)
    command = (bun, str(SERVERS / "bun_smtp.mjs"))
    return Program(command, f"{version}, {running}", {"NODE_PATH": str(modules)})


def _bun_bare(cache: Path) -> Program:
    bun, running = _bun(cache)
    return Program((bun, str(SERVERS / "bun_bare.mjs")), running)


def _smtp_sink(cache: Path) -> Program:
    sink = installing.program("smtp-sink", "postfix")
    postconf = installing.program("postconf", "postfix")
    version = re.sub(r".*= *", "", installing.output_of(postconf, "-d", "mail_version").strip())
    # It refuses to run as root.
    user = ("-u", pwd.getpwnam("nobody").pw_name) if os.geteuid() == 0 else ()
    command = (sink, "-h", "mx.example", "-m", "1024", *user)
    return Program(command, f"Postfix {version}", takes_settings=False)


def free_port() -> int:
    """A port that was free a moment ago, for who cannot choose one and tell it."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


_WITHOUT_TLS = frozenset({Feature.PLAIN})

CONTENDERS = (
    Contender(
        "blocksmtp",
        "blocksmtp",
        Kind.PRODUCT,
        _blocksmtp,
        "this source tree; default options, but `auth_optional=True`, "
        "`disable_reverse_lookup=True`, `max_clients=None`",
    ),
    Contender(
        "blocksmtp-2",
        "blocksmtp, 2 processes",
        Kind.VARIANT,
        _blocksmtp,
        "the same in two processes on one port (SO_REUSEPORT)",
        only=frozenset({"messages-8"}),
        settings={"processes": 2},
    ),
    Contender(
        "aiosmtpd",
        "aiosmtpd",
        Kind.PRODUCT,
        _aiosmtpd,
        "defaults, but a size limit that lets 200 MB pass; a callback that blocks is awaited in "
        "`asyncio.to_thread`",
    ),
    Contender(
        "aiosmtpd-blocked",
        "aiosmtpd, blocked",
        Kind.VARIANT,
        _aiosmtpd,
        "the same with a callback that blocks the event loop",
        only=frozenset({"blocking-callback"}),
        settings={"in_loop": True},
    ),
    Contender(
        "smtp-server-node",
        "smtp-server on Node",
        Kind.PRODUCT,
        _smtp_server_on_node,
        "`authOptional`, `disableReverseLookup`, `logger: false`; it holds every greeting back "
        "for 100 ms",
    ),
    Contender(
        "smtp-server-bun",
        "smtp-server on Bun",
        Kind.PRODUCT,
        _smtp_server_on_bun,
        "the same program on Bun",
    ),
    Contender(
        "bun-smtp",
        "bun-smtp",
        Kind.PRODUCT,
        _bun_smtp,
        "`authOptional`, `disableReverseLookup`; written from its documentation",
    ),
    Contender(
        "bun-bare",
        "Bun, bare",
        Kind.ANCHOR,
        _bun_bare,
        "fixed replies on `Bun.listen`, nothing is checked; what is built on the same sockets and "
        "does more, as bun-smtp does, is slower than this",
        features=frozenset({Feature.PLAIN, Feature.TLS}),
    ),
    Contender(
        "smtp-sink",
        "smtp-sink",
        Kind.ANCHOR,
        _smtp_sink,
        "Postfix's, in C: throws everything away and checks next to nothing",
        features=_WITHOUT_TLS,
    ),
    Contender(
        "drain",
        "drain",
        Kind.CEILING,
        _python("drain.py"),
        "fixed replies and `recv_into`: what the load can send",
        only=frozenset({"bulk-998", "bulk-70", "bulk-dotted", "bulk-tls"}),
    ),
)

BY_NAME = {contender.name: contender for contender in CONTENDERS}
