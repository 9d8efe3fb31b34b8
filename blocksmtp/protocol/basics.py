"""The commands without consequences: VRFY, HELP, NOOP and QUIT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .replies import Next, Reply, reply

if TYPE_CHECKING:
    from .machine import Machine

_NO_PROMISES = reply(252, "Try to send something. No promises though", "2.5.0")
_OK = reply(250, "OK")
_BYE = Reply(221, ("Bye",), "2.0.0", Next.CLOSE)


def vrfy(_machine: Machine, _argument: str) -> Reply:
    """VRFY: neither yes nor no, or address harvesters would ask (RFC 5321, section 7.3)."""
    return _NO_PROMISES


def help_(machine: Machine, _argument: str) -> Reply:
    """HELP: the commands there are (RFC 5321, section 4.1.1.8)."""
    return reply(214, "Commands: " + " ".join(machine.offered_commands()))


def noop(_machine: Machine, _argument: str) -> Reply:
    """NOOP: nothing (RFC 5321, section 4.1.1.9)."""
    return _OK


def quit_(_machine: Machine, _argument: str) -> Reply:
    """QUIT: the connection ends (RFC 5321, section 4.1.1.10)."""
    return _BYE
