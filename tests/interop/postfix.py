"""A private Postfix, everything of it in one folder, that relays to a server under test."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from grp import getgrnam
from pathlib import Path

from .logs import Log, in_thread
from .serving import HOST, TIMEOUT

DAEMONS = "/usr/lib/postfix/sbin"

# Its smtpd has a loopback address that nothing else here binds, so that its port stays free.
SMTPD_HOST = "127.0.0.25"

_SERVICES = """\
{smtpd}  inet  n  -  n  -  -     smtpd
pickup   unix  n  -  n  60 1     pickup
cleanup  unix  n  -  n  -  0     cleanup
qmgr     unix  n  -  n  300 1    qmgr
tlsmgr   unix  -  -  n  1000? 1  tlsmgr
rewrite  unix  -  -  n  -  -     trivial-rewrite
bounce   unix  -  -  n  -  0     bounce
defer    unix  -  -  n  -  0     bounce
trace    unix  -  -  n  -  0     bounce
anvil    unix  -  -  n  -  1     anvil
scache   unix  -  -  n  -  1     scache
smtp     unix  -  -  n  -  1     smtp
lmtp     unix  -  -  n  -  1     lmtp
error    unix  -  -  n  -  -     error
retry    unix  -  -  n  -  -     error
"""

# Relative to the queue: Postfix is there before it gives up root, and the folders above, which are
# pytest's, are closed to everybody else.
_DATA = "data"
_POSTLOG = "public/postlog"


class Postfix:
    """Postfix's master and what it starts.

    Needs root. Neither init nor syslog: master stays in the foreground, and what Postfix would tell
    its postlogd comes here.
    """

    def __init__(
        self,
        program: Callable[[str], str],
        folder: Path,
        transports: Mapping[str, str],
        settings: Mapping[str, str],
    ) -> None:
        """`transports`: from domain to transport and next hop, `settings` go into main.cf.

        A Unix socket to relay to is best in `folder` / "queue", and named as from there.
        """
        self.queue = folder / "queue"
        self._config = folder / "etc"
        master, self._postqueue = program("master"), program("postqueue")
        self.port = _free_port()
        self._make_folders()
        self._configure(transports, settings)
        self.log = Log()
        self._postlog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._postlog.bind(str(self.queue / _POSTLOG))
        (self.queue / _POSTLOG).chmod(0o666)
        self._reader = in_thread("postfix's log", self._read)
        self._master = subprocess.Popen(
            [master, "-c", self._config, "-d"],
            stdin=subprocess.DEVNULL,
            # A group of its own, as it has as a daemon: it signals all of it at its end.
            start_new_session=True,
        )
        try:
            self.log.wait_for("daemon started")
        except BaseException:
            self.stop()
            raise

    def _make_folders(self) -> None:
        user, drop = pwd.getpwnam("postfix"), getgrnam("postdrop")
        self._config.mkdir(parents=True)
        private = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming")
        modes = {
            **dict.fromkeys((*private, "private", "saved", "trace", _DATA), (0o700, user.pw_gid)),
            "public": (0o710, drop.gr_gid),
            "maildrop": (0o730, drop.gr_gid),
        }
        self.queue.mkdir(exist_ok=True)
        self.queue.chmod(0o755)
        (self.queue / "pid").mkdir()
        for name, (mode, group) in modes.items():
            path = self.queue / name
            path.mkdir()
            os.chown(path, user.pw_uid, group)
            path.chmod(mode)

    def _configure(self, transports: Mapping[str, str], settings: Mapping[str, str]) -> None:
        table = self._config / "transport"
        table.write_text("".join(f"{domain} {hop}\n" for domain, hop in transports.items()))
        main = {
            "compatibility_level": "3.6",
            "queue_directory": str(self.queue),
            "data_directory": _DATA,
            "daemon_directory": DAEMONS,
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "maillog_file": "/var/log/only-to-have-it-sent-to-us",
            "myhostname": "relay.example.net",
            "inet_interfaces": HOST,
            "inet_protocols": "ipv4",
            # No lookups, and nothing local: every domain has its transport.
            "smtp_dns_support_level": "disabled",
            "smtpd_peername_lookup": "no",
            "mydestination": "",
            "local_recipient_maps": "",
            "alias_maps": "",
            "alias_database": "",
            # Anybody may submit, whatever address XCLIENT gives: this is a loopback address's.
            "mynetworks": "0.0.0.0/0 [::]/0",
            "transport_maps": f"texthash:{table}",
            # Postfix relays the message as it is, its own trace header in front.
            "local_header_rewrite_clients": "",
            "smtp_line_length_limit": "0",
            "lmtp_line_length_limit": "0",
            "message_size_limit": "0",
            **settings,
        }
        text = "".join(f"{name} = {value}\n" for name, value in main.items())
        (self._config / "main.cf").write_text(text)
        (self._config / "master.cf").write_text(_SERVICES.format(smtpd=f"{SMTPD_HOST}:{self.port}"))

    def _read(self) -> None:
        while line := self._postlog.recv(65_536):
            self.log.add(line.decode("utf-8", "replace"))

    def flush(self) -> None:
        """Have what was deferred tried again at once."""
        subprocess.run([self._postqueue, "-c", self._config, "-f"], check=True, timeout=TIMEOUT)

    def queued(self) -> list[Path]:
        """The files of the messages that are in the queue."""
        folders = ("incoming", "active", "deferred", "hold", "corrupt", "maildrop")
        return [
            path
            for folder in folders
            for path in (self.queue / folder).rglob("*")
            if path.is_file()
        ]

    def stop(self) -> None:
        """End master, and with it all that it has started."""
        self._master.terminate()
        try:
            self._master.wait(TIMEOUT)
        finally:
            # Nobody is left in the group, as a rule.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._master.pid, signal.SIGKILL)
            self._master.wait(TIMEOUT)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
                ours.sendto(b"", str(self.queue / _POSTLOG))
            self._reader.join(TIMEOUT)
            self.log.show()
            self._postlog.close()


def _free_port() -> int:
    with socket.create_server((SMTPD_HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def relayed(content: bytes) -> tuple[bytes, bytes]:
    """A message as Postfix relayed it, split: the trace header of Postfix, and what was sent."""
    match = re.match(rb"Received: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", content)
    assert match is not None
    return match[0], content[match.end() :]
