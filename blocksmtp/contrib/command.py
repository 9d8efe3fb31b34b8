"""What the commands of the frameworks have in common."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

from ..addresses import shown_address
from ..text import printable

if TYPE_CHECKING:
    from ..server import SMTPServer
    from ..session import MessageInfo

_REASONS = {
    errno.EACCES: "You don't have permission to access that port.",
    errno.EADDRINUSE: "That port is already in use.",
    errno.EADDRNOTAVAIL: "That IP address can't be assigned to.",
}


def reason_of(error: OSError) -> str:
    """Why a server cannot listen, as frameworks tell it of their web servers."""
    return _REASONS.get(error.errno or 0, str(error))


def listening_on(server: SMTPServer) -> str:
    """The line that says where a server listens."""
    address = server.address
    where = shown_address(*address) if isinstance(address, tuple) else address
    return f"Receiving mail by {'LMTP' if server.options.lmtp else 'SMTP'} on {where}"


def outcome_of(info: MessageInfo) -> str:
    """The line that says what became of a message."""
    recipients = ", ".join(f"<{address}>" for address in info.envelope.rcpt_to)
    codes = ", ".join(map(str, info.reply_codes)) or "broken off"
    return printable(f"<{info.envelope.mail_from or ''}> to {recipients}: {codes}")


def serve_until_exit(server: SMTPServer, port: int, host: str) -> None:
    """Serve in a daemon thread, until the main thread ends: there a reloader waits for changes.

    Messages in progress are finished before the process ends. Raises OSError.
    """
    server.listen(port, host)

    def close_at_exit() -> None:
        threading.main_thread().join()
        server.close()

    # The process waits for it: no daemon, as this thread is one.
    threading.Thread(target=close_at_exit, name="blocksmtp exit", daemon=False).start()
    server.wait()
