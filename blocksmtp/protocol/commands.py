"""The table of commands: who may give one, and when.

One row a command. The machine asks the columns from left to right before it runs the command, so
that a command's own code deals with its argument only.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import authentication, basics, chunking, hello, transaction, xclient
from .replies import Reply

if TYPE_CHECKING:
    from .machine import Machine


class Argument(enum.Enum):
    """Whether a command takes an argument."""

    NONE = enum.auto()
    OPTIONAL = enum.auto()
    REQUIRED = enum.auto()


class Between(enum.Enum):
    """What becomes of a command between two chunks of a message (RFC 3030, section 2)."""

    RUNS = enum.auto()
    """It changes nothing of the transaction."""
    REFUSED = enum.auto()
    """503: the message has not ended."""
    ABORTS = enum.auto()
    """The message is given up for it."""


@dataclass(frozen=True)
class Command:
    """A row of the table."""

    run: Callable[[Machine, str], Reply]
    argument: Argument
    smtp: bool = True
    """Known to a server that speaks SMTP."""
    lmtp: bool = True
    """Known to a server that speaks LMTP (RFC 2033)."""
    after_hello: bool = False
    """503 before HELO, EHLO or LHLO."""
    after_upgrade: bool = False
    """530 before TLS where the option `needs_upgrade` is on."""
    after_auth: bool = False
    """530 before authentication where it is required."""
    counted: bool = True
    """Counts against `max_allowed_unauthenticated_commands`."""
    between_chunks: Between = Between.REFUSED


_ABORTS, _RUNS = Between.ABORTS, Between.RUNS

COMMANDS: dict[str, Command] = {
    # RFC 5321, section 4.1.1.1
    "HELO": Command(hello.hello, Argument.REQUIRED, lmtp=False, between_chunks=_ABORTS),
    "EHLO": Command(hello.hello, Argument.REQUIRED, lmtp=False, between_chunks=_ABORTS),
    # RFC 2033, section 4.1
    "LHLO": Command(hello.hello, Argument.REQUIRED, smtp=False, between_chunks=_ABORTS),
    # RFC 3207
    "STARTTLS": Command(hello.starttls, Argument.NONE),
    # RFC 4954
    "AUTH": Command(
        authentication.auth, Argument.REQUIRED, after_hello=True, after_upgrade=True, counted=False
    ),
    # RFC 5321, sections 4.1.1.2 to 4.1.1.5
    "MAIL": Command(
        transaction.mail, Argument.REQUIRED, after_hello=True, after_upgrade=True, after_auth=True
    ),
    "RCPT": Command(transaction.rcpt, Argument.REQUIRED, after_hello=True, after_auth=True),
    "DATA": Command(transaction.data, Argument.NONE, after_hello=True, after_auth=True),
    "RSET": Command(transaction.rset, Argument.NONE, between_chunks=_ABORTS),
    # RFC 3030, section 2; a wrong one leaves it open what the message is
    "BDAT": Command(
        chunking.bdat,
        Argument.REQUIRED,
        after_hello=True,
        after_auth=True,
        between_chunks=_ABORTS,
    ),
    # RFC 5321, sections 4.1.1.6 to 4.1.1.10
    "VRFY": Command(basics.vrfy, Argument.OPTIONAL, between_chunks=_RUNS),
    "HELP": Command(basics.help_, Argument.OPTIONAL, between_chunks=_RUNS),
    "NOOP": Command(basics.noop, Argument.OPTIONAL, between_chunks=_RUNS),
    "QUIT": Command(basics.quit_, Argument.NONE, counted=False, between_chunks=_ABORTS),
    # Postfix's XCLIENT_README and XFORWARD_README
    "XCLIENT": Command(xclient.xclient, Argument.REQUIRED),
    "XFORWARD": Command(xclient.xforward, Argument.REQUIRED),
}
