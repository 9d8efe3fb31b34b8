"""The servers of a soak, in a process of their own: `python -m tests.soak.server FOLDER`.

The folder holds two certificates (a.crt, a.key; b.crt, b.key), which replace each other all the
time, and gets the ids of the messages that were accepted, one a line. Standard output tells the
addresses, as JSON. Then each line of standard input tells how many connections stay idle, by the
server: when there are no more, what can be freed is, and the answer is what there is to tell. At
the end of standard input all are closed.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import gc
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from blocksmtp import Auth, DataStream, SMTPAddress, SMTPError, SMTPServer, SMTPSession, threads

from .counts import DAMAGED, Figures

LARGEST = 20_000
"""The option `size`."""
RECIPIENTS = 20
"""The option `max_recipients`."""
USER, PASSWORD = "alice", "wonderland"
SEEN = "seen.txt"
"""The file with the ids of the accepted messages."""

_REPLACED_EVERY = 2.0  # seconds
_PATIENCE = 60.0  # seconds until the last connection must have ended

# What the callbacks make of a sender or a recipient by the beginning of its local part.
FAILS = "fails-"
REFUSED = "refused-"
FULL = "full-"


_SESSION = re.compile(r"^\[\w+\] ")  # its id, before a record


class PlannedFailure(Exception):
    """A defect of the application that is part of the plan."""


class Application:
    """The callbacks. Notes what was accepted, and what failed that should not."""

    def __init__(self, seen: IO[str]) -> None:
        self._seen = seen
        self._lock = threading.Lock()
        self.planned = 0
        self.errors: collections.Counter[str] = collections.Counter()
        self.warnings: collections.Counter[str] = collections.Counter()
        self.logger = logging.Logger("soak", logging.WARNING)
        handler = logging.Handler()
        handler.emit = self._logged  # type: ignore[method-assign]
        self.logger.addHandler(handler)

    def _logged(self, record: logging.LogRecord) -> None:
        with self._lock:
            if record.levelno < logging.ERROR:
                self.warnings[_SESSION.sub("", record.msg)] += 1
            elif not record.exc_info or not isinstance(record.exc_info[1], PlannedFailure):
                self.errors[
                    f"{record.getMessage()}: {record.exc_info and record.exc_info[1]!r}"
                ] += 1

    def failed(self, error: BaseException) -> None:
        """A listener of "error"."""
        with self._lock:
            if isinstance(error, PlannedFailure):
                self.planned += 1
            else:
                self.errors[repr(error)] += 1

    def on_auth(self, auth: Auth, _session: SMTPSession) -> str | None:
        right = (getattr(auth, "username", ""), getattr(auth, "password", "")) == (USER, PASSWORD)
        return USER if right else None

    def on_rcpt_to(self, address: SMTPAddress, _session: SMTPSession) -> None:
        if address.address.startswith(REFUSED):
            raise SMTPError("No such user", 550)

    def on_data(self, stream: DataStream, session: SMTPSession) -> dict[str, SMTPError] | None:
        content = stream.read()
        if stream.size_exceeded:
            return None
        envelope = session.envelope
        sender = envelope.mail_from.address if envelope.mail_from else ""
        if sender.startswith(FAILS):
            raise PlannedFailure
        self.note(content, sender.partition("@")[0])
        if not session.lmtp:
            return None
        recipients = [recipient.address for recipient in envelope.rcpt_to]
        return {each: SMTPError("Full", 452) for each in recipients if each.startswith(FULL)}

    def note(self, content: bytes, sender: str) -> None:
        """Note a message. Its first line tells its id, and how many octets are to follow."""
        head, _, rest = content.partition(b"\r\n")
        id, _, length = head.decode("ascii", "replace").partition(" ")
        whole = length in ("-", str(len(rest))) and id == sender
        with self._lock:
            self._seen.write(f"{id}\n" if whole else f"{DAMAGED} {id} of {sender}\n")

    def flush(self) -> None:
        """Have all that was noted in the file."""
        with self._lock:
            self._seen.flush()


class Servers:
    """All of them, and the thread that replaces their certificates."""

    def __init__(self, folder: Path, application: Application) -> None:
        self._folder = folder
        self._identities = [
            {"cert": folder / f"{name}.crt", "key": folder / f"{name}.key"} for name in "ab"
        ]
        options: dict[str, Any] = {
            "name": "mx.example",
            "auth_optional": True,
            "allow_insecure_auth": True,
            "disable_reverse_lookup": True,
            "size": LARGEST,
            "max_recipients": RECIPIENTS,
            "socket_timeout": 3600.0,
            "logger": application.logger,
            "on_auth": application.on_auth,
            "on_rcpt_to": application.on_rcpt_to,
            "on_data": application.on_data,
            **self._identities[0],
        }
        short = {"socket_timeout": 0.5, "command_timeout": 1.0, "data_min_rate": 2_000}
        self.mail = SMTPServer(**options)
        self.proxied = SMTPServer(**options, use_proxy=True)
        self.lmtp = SMTPServer(**options, lmtp=True)
        self.strict = SMTPServer(**{**options, **short})
        self.all = {
            "mail": self.mail,
            "proxied": self.proxied,
            "lmtp": self.lmtp,
            "strict": self.strict,
        }
        for server in self.all.values():
            server.on("error", application.failed)
        self.replaced = 0
        self.still = threading.Lock()
        """Held while certificates are replaced, which takes descriptors of its own."""
        self._over = threading.Event()
        self._replacer = threading.Thread(target=self._replace, name="certificates")

    def listen(self) -> dict[str, Any]:
        """Begin; returns the addresses by name."""
        unix = str(self._folder / "smtp")
        self.mail.listen(0, "127.0.0.1").listen(0, "127.0.0.1", secure=True).listen(unix)
        self.strict.listen(0, "127.0.0.1").listen(0, "127.0.0.1", secure=True)
        self.proxied.listen(0, "127.0.0.1")
        self.lmtp.listen(0, "127.0.0.1")
        self._replacer.start()
        plain, implicit, _ = self.mail.addresses
        strict, strict_implicit = self.strict.addresses
        return {
            "plain": plain,
            "implicit": implicit,
            "unix": unix,
            "proxied": self.proxied.address,
            "lmtp": self.lmtp.address,
            "strict": strict,
            "strict_implicit": strict_implicit,
        }

    def _replace(self) -> None:
        while not self._over.wait(_REPLACED_EVERY):
            with self.still:
                self.replaced += 1
                for server in self.all.values():
                    server.update_secure_context(**self._identities[self.replaced % 2])

    def wait_for(self, idle: dict[str, int]) -> int:
        """Wait until no more connections than these are left; returns how many there are."""
        for name, server in self.all.items():
            _wait_until_left(server, idle.get(name, 0))
        return sum(len(server.connections) for server in self.all.values())

    def join_ended(self) -> None:
        """Wait for the threads that serve no client to end."""
        for server in self.all.values():
            host = server._host
            with host.changed:
                busy = {connection.thread for connection in host.connections}
            for thread in [*host.threads._all, *host.threads._ended]:
                if thread not in busy:
                    thread.join()

    def close(self) -> None:
        """Close all."""
        self._over.set()
        self._replacer.join()
        for server in self.all.values():
            server.close()


def _wait_until_left(server: SMTPServer, connections: int) -> None:
    host = server._host
    with host.changed:
        host.changed.wait_for(lambda: len(host.connections) <= connections, _PATIENCE)


def _free() -> None:
    """Give back what is no longer used, so that what is left is what is held."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _answers(servers: Servers, application: Application) -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        connections = servers.wait_for(json.loads(line))
        servers.join_ended()
        application.flush()
        with servers.still:
            _free()
            told = _told(servers, application, connections)
        yield told


def _figures() -> Figures:
    """What this process uses."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return Figures(
        threads=int(status["Threads"]),
        descriptors=len(os.listdir("/proc/self/fd")) - 1,  # without the one that lists them
        memory=int(status["VmRSS"].split()[0]) * 1024,
        objects=len(gc.get_objects()),
    )


def _told(servers: Servers, application: Application, connections: int) -> dict[str, Any]:
    return {
        "connections": connections,
        "figures": asdict(_figures()),
        "planned": application.planned,
        "errors": dict(application.errors),
        "warnings": dict(application.warnings),
        "replaced": servers.replaced,
    }


def main(application_type: type[Application] = Application) -> None:
    """Serve until standard input ends."""
    # What is counted is what is left, and not what waits for the next client.
    threads._IDLE_SECONDS = 0.1
    folder = Path(sys.argv[1])
    with (folder / SEEN).open("w") as seen:
        application = application_type(seen)
        servers = Servers(folder, application)
        try:
            print(json.dumps(servers.listen()), flush=True)
            for answer in _answers(servers, application):
                print(json.dumps(answer), flush=True)
        finally:
            servers.close()


if __name__ == "__main__":
    main()
