"""A private Exim, as the client: it sends in chunks where these are offered."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .serving import HOST, TIMEOUT

USER = "Debian-exim"
"""Whom Debian's Exim is built to run as."""

_CONFIGURATION = """\
exim_path = {program}
exim_user = {user}
exim_group = {user}
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
primary_hostname = client.example.com
keep_environment =
never_users =
local_interfaces = {host}
queue_only_override = false

begin routers
everything:
  driver = manualroute
  route_list = * {host} byname
  self = send
  transport = server

begin transports
server:
  driver = smtp
  port = {port}
  hosts_try_fastopen =
  # As it comes: long lines are none of Exim's business here.
  message_linelength_limit = 1000000
  headers_remove = Received:Message-Id:Date:From
  {options}

begin retry
* * F,1h,1m
"""


class Exim:
    """Exim with one server to send to."""

    def __init__(self, program: str, folder: Path, port: int, options: str = "") -> None:
        """`options` are more lines for the transport."""
        self._program = program
        self._folder = folder
        for name in ("spool", "log"):
            (folder / name).mkdir()
            shutil.chown(folder / name, USER, USER)
        # Exim gives up its privileges, and must get through to its own folders.
        os.chmod(folder, 0o711)  # noqa: S103
        self._configuration = folder / "exim.conf"
        self._configuration.write_text(
            _CONFIGURATION.format(
                program=program, user=USER, folder=folder, host=HOST, port=port, options=options
            )
        )

    def send(self, message: bytes, sender: str, *recipients: str) -> None:
        """Hand `message` over; it has been delivered, or has failed, when this returns."""
        subprocess.run(
            [self._program, "-C", self._configuration, "-odf", "-oi", "-f", sender, *recipients],
            input=message.replace(b"\r\n", b"\n"),
            check=True,
            timeout=2 * TIMEOUT,
        )

    @property
    def log(self) -> str:
        """What became of the messages."""
        return (self._folder / "log" / "mainlog").read_text("utf-8", "replace")
