"""Messages for another program: on its standard input, its answer the exit status."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING

from ..errors import SMTPError
from ..text import printable
from ..trace import stored_header
from .incoming import (
    for_each_recipient,
    log_of,
    refusing_failures,
    spooled,
    spooled_pieces,
    stored_form,
    thrown_away,
)

if TYPE_CHECKING:
    from ..session import SMTPAddress, SMTPSession
    from ..wire.stream import DataStream
    from .incoming import Results

_LOGGED = 1000  # octets of what a program says when it fails

# Linux has no room in an environment for a string beyond 128 KiB, its name included.
_MOST_OCTETS_OF_RECIPIENTS = 131_000

_TASK = "cannot run a program for a message"

# Of sysexits.h, those that say something about the message or its recipient. All others, as well as
# numbers that are not there at all, are about the program itself: what it could not do now it may
# do later, once somebody has mended it.
_REFUSALS = {
    os.EX_DATAERR: ("Error: the message is not acceptable", 554, "5.6.0"),
    os.EX_NOUSER: ("Error: no such recipient", 550, "5.1.1"),
    os.EX_NOHOST: ("Error: no such host", 550, "5.1.2"),
    os.EX_UNAVAILABLE: ("Error: the recipient takes no mail", 550, "5.3.0"),
    os.EX_PROTOCOL: ("Error: the message is not acceptable", 554, "5.5.0"),
    os.EX_NOPERM: ("Error: not permitted", 550, "5.7.1"),
}


class ExecDelivery:
    """Runs a program for each message, which is on its standard input. An instance is an `on_data`.

    The exit status is that of sysexits.h: 0 accepts; EX_DATAERR, EX_NOUSER, EX_NOHOST,
    EX_UNAVAILABLE, EX_PROTOCOL and EX_NOPERM refuse for good (550 or 554); any other, a signal, and
    more than `timeout` seconds are answered with 451, and what the program said is in the log. In
    the last case it is killed, with all that it started (its process group).

    The message has LF line ends, and `Return-Path` and `Received` in front. In SMTP the program
    runs once, for all recipients; in LMTP once for each, with `Delivered-To`, and each has a reply
    of its own. What is known of the message is in the environment, not among the arguments, where
    an address could pass for an option: SENDER ("" for bounces), RECIPIENT (the first), RECIPIENTS
    (one a line), CLIENT_ADDRESS, CLIENT_HOSTNAME, CLIENT_HELO, CLIENT_PROTOCOL, and SESSION_ID. No
    shell is involved.

    A message is refused with 554 where RECIPIENTS has no room for all addresses (131,000 octets):
    to try again would not help, to send it to fewer at a time does.
    """

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        timeout: float = 300.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`command` as a string is split as a shell does. `environment` is the program's, in place
        of that of this process (without PROMETHEUS_MULTIPROC_DIR). Raises ValueError for a command
        that is none, OSError where there is no such program."""
        words = shlex.split(command) if isinstance(command, str) else list(command)
        if not words:
            raise ValueError("no program is named")
        self._command = words
        self._timeout = timeout
        self._environment = environment
        if shutil.which(words[0]) is None:
            raise FileNotFoundError(2, "No such program", words[0])

    def __call__(self, stream: DataStream, session: SMTPSession) -> Results | None:
        """Receive the message and run the program. Raises SMTPError where it does not accept it."""
        with spooled(stream, session) as spool:
            if spool is None:
                return None

            def deliver(recipient: SMTPAddress) -> None:
                self._run(spool, session, [recipient], stored_header(session, recipient))

            if session.lmtp:
                return for_each_recipient(session, deliver)
            self._run(spool, session, session.envelope.rcpt_to, stored_header(session))
            return None

    def _run(
        self,
        spool: IO[bytes],
        session: SMTPSession,
        recipients: Sequence[SMTPAddress],
        header: bytes,
    ) -> None:
        with contextlib.ExitStack() as files:
            with refusing_failures(session, _TASK):
                # A file, not a pipe: a program that does not read it all does not matter.
                message = files.enter_context(_temporary_file())
                said = files.enter_context(_temporary_file())
                message.write(header.replace(b"\r\n", b"\n"))
                for piece in stored_form(spooled_pieces(spool), session):
                    message.write(piece)
                message.seek(0)
                process = subprocess.Popen(  # noqa: S603 - the administrator's own command
                    self._command,
                    stdin=message,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    env=self._environment_for(session, recipients),
                    # Apart from our group, which a terminal signals, and to be killed as a whole.
                    start_new_session=True,
                )
            try:
                status = process.wait(self._timeout)
            except subprocess.TimeoutExpired:
                self._fail(session, f"not done after {self._timeout:g} seconds", said)
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            if status in _REFUSALS:
                raise SMTPError(*_REFUSALS[status])
            if status != 0:
                how = f"exit status {status}" if status > 0 else f"ended by signal {-status}"
                self._fail(session, how, said)

    def _fail(self, session: SMTPSession, how: str, said: IO[bytes]) -> None:
        said.seek(0)
        output = printable(said.read(_LOGGED).strip())
        log_of(session).error("%s: %s, saying: %s", self._command[0], how, output or "nothing")
        raise SMTPError("Error: cannot deliver the message now", 451, "4.3.0")

    def _environment_for(
        self, session: SMTPSession, recipients: Sequence[SMTPAddress]
    ) -> dict[str, str]:
        mail_from = session.envelope.mail_from
        addresses = [each.address for each in recipients]
        together = "\n".join(addresses)
        if len(os.fsencode(together)) > _MOST_OCTETS_OF_RECIPIENTS:
            raise SMTPError("Error: too many recipients at a time", 554, "5.5.3")
        about = {
            "SENDER": mail_from.address if mail_from else "",
            "RECIPIENT": addresses[0],
            "RECIPIENTS": together,
            "CLIENT_ADDRESS": session.remote_address,
            # They may be anything.
            "CLIENT_HOSTNAME": printable(session.client_hostname),
            "CLIENT_HELO": printable(session.host_name_appears_as or ""),
            "CLIENT_PROTOCOL": session.transmission_type,
            "SESSION_ID": session.id,
        }
        if self._environment is not None:
            return {**self._environment, **about}
        environment = dict(os.environ)
        # There the figures of this server's own metrics are: a program that has some as well would
        # put its own among them.
        environment.pop("PROMETHEUS_MULTIPROC_DIR", None)
        return environment | about


def _temporary_file() -> AbstractContextManager[IO[bytes]]:
    return thrown_away(tempfile.TemporaryFile())
