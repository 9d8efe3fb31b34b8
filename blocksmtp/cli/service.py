"""One process that serves: the server, made of the options, and its life until a signal ends it."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import SMTPServer
from ..password_file import PasswordFile
from ..signals import CLOSING, closed_by_signals
from .errors import CannotStart, reason_of
from .logs import has_colours
from .output import Output, ProcessLock

if TYPE_CHECKING:
    from ..contrib.prometheus import Metrics

_logger = logging.getLogger("blocksmtp")

# They hand on or keep lines: what is binary would have to be refused after it was sent.
_FOR_TEXT_ONLY = ("mbox", "forward")


@dataclass(frozen=True)
class Secrets:
    """What is read while that is still allowed."""

    cert: bytes | None
    key: bytes | None
    passwords: PasswordFile | None
    forward_login: tuple[str, str] | None

    @classmethod
    def read(cls, chosen: argparse.Namespace) -> Secrets:
        """Raises CannotStart."""
        passwords = None
        if chosen.auth_file is not None:
            try:
                passwords = PasswordFile(chosen.auth_file)
            except (OSError, ValueError) as error:
                raise CannotStart(f"--auth-file {chosen.auth_file}: {reason_of(error)}") from error
            except ImportError as error:
                raise CannotStart(
                    "--auth-file needs argon2: pip install 'blocksmtp[passwords]'"
                ) from error
        return cls(
            _read("--cert", chosen.cert),
            _read("--key", chosen.key),
            passwords,
            _login(chosen.forward_login),
        )


def _read(option: str, path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise CannotStart(f"{option} {path}: {reason_of(error)}") from error


def _login(path: Path | None) -> tuple[str, str] | None:
    content = _read("--forward-login", path)
    if content is None:
        return None
    text = content.decode("utf-8", "replace").rstrip("\r\n")
    name, colon, password = text.partition(":")
    if not colon or not name or not password or "\n" in password:
        raise CannotStart(f"--forward-login {path} must hold one line NAME:PASSWORD")
    return name, password


class Service:
    """A server as the options want it."""

    def __init__(
        self,
        chosen: argparse.Namespace,
        secrets: Secrets,
        output: Output,
    ) -> None:
        """Also loads what it needs, while that is still allowed. Raises CannotStart."""
        self._chosen = chosen
        self._secrets = secrets
        try:
            self.server = SMTPServer(**_options(chosen, secrets))
            # Before there may be several processes, which are to have the same certificate, also
            # if it is self-made, and to resume each other's TLS sessions.
            self.server._prepare_tls(chosen.implicit_tls)
        except ValueError as error:
            raise CannotStart(str(error)) from error
        if secrets.passwords is not None:
            self.server.on_auth = self._of_passwords("on_auth")
            self.server.scram_verifier = self._of_passwords("scram_verifier")
        self._metrics: Callable[[], Metrics] | None = None
        self._output = output
        _load(chosen)
        output.on_failure = self.server.close

    def prepare(
        self, metrics: Callable[[], Metrics] | None = None, lock: ProcessLock | None = None
    ) -> None:
        """Have what becomes of messages ready. Raises CannotStart.

        `metrics()` are what is counted in each process. `lock` keeps processes apart that print to
        the same output.
        """
        self._metrics = metrics
        delivery = _delivery(self._chosen, self._secrets, self._output, lock)
        self.server.on_data = delivery
        self.server.on_rcpt_to = getattr(delivery, "on_rcpt_to", None)
        self.server.on_close = getattr(delivery, "on_close", None)

    def run(
        self,
        sockets: Sequence[socket.socket],
        *,
        started: Callable[[], None],
        closing: Sequence[int] = CLOSING,
        began: Callable[[], None] = lambda: None,
        stopping: Callable[[], None] = lambda: None,
        reloaded: Callable[[Callable[[], None]], None] = lambda reload: reload(),
    ) -> None:
        """Serve until one of the signals `closing`; SIGHUP reads the files again.

        `began()` is called when signals are heard, `started()` when clients are served. Raises
        OSError.
        """
        server = self.server
        if self._metrics is not None:
            self._metrics().observe(server)

        def close(timeout: float | None) -> None:
            stopping()
            server.close(timeout)

        def reload() -> None:
            reloaded(self.reload)

        with closed_by_signals(close, closing, {signal.SIGHUP: reload}):
            began()
            try:
                for sock in sockets:
                    server.listen(sock=sock)
            except RuntimeError:
                # A signal that came before has closed it, as it should.
                server.wait()
            else:
                started()
                server.wait()

    def reload(self) -> None:
        """Read certificates and passwords again; what cannot be read leaves all as it is."""
        now = self._secrets
        try:
            fresh = Secrets.read(self._chosen)
            # Clients cannot resume their TLS sessions under a new context, even if it is like the
            # old one.
            if (fresh.cert, fresh.key) != (now.cert, now.key):
                self.server.update_secure_context(cert=fresh.cert, key=fresh.key)
        except (CannotStart, ValueError) as error:
            _logger.error("not reloaded: %s", error)
        else:
            self._secrets = fresh
            _logger.info("certificates and passwords reloaded")

    def _of_passwords(self, name: str) -> Callable[..., Any]:
        """The callback of this name, of the passwords as they were read last."""

        def callback(*arguments: Any) -> Any:
            return getattr(self._secrets.passwords, name)(*arguments)

        return callback


def _options(chosen: argparse.Namespace, secrets: Secrets) -> dict[str, Any]:
    """The options of the server."""
    options: dict[str, Any] = {
        "lmtp": chosen.lmtp,
        "size": chosen.size,
        "max_clients": chosen.max_clients,
        "secure": chosen.implicit_tls,
        "cert": secrets.cert,
        "key": secrets.key,
        "use_proxy": chosen.proxy_from or False,
        "disable_reverse_lookup": True,
        "hide_chunking": any(getattr(chosen, name) is not None for name in _FOR_TEXT_ONLY),
    }
    if chosen.name is not None:
        options["name"] = chosen.name
    if secrets.passwords is None:
        # There are no users: offered, it could only fail. Not offered, it is not required either.
        options["disabled_commands"] = ["AUTH"]
    else:
        options["auth_methods"] = secrets.passwords.auth_methods
        options["allow_insecure_auth"] = chosen.allow_insecure_auth
    return options


# By the option that asks for it; without one of these, messages are printed.
DELIVERIES = {
    "maildir": "MaildirDelivery",
    "mbox": "MboxDelivery",
    "exec": "ExecDelivery",
    "forward": "ForwardDelivery",
}


# Else they are imported when a client first has a use for them.
_MODULES = (
    *("blocksmtp.wire.tls", "blocksmtp.wire.tls_security"),
    *("email.utils", "hashlib", "hmac", "stringprep", "tokenize", "unicodedata"),
    *("encodings.idna", "encodings.punycode", "encodings.unicode_escape"),
)


def _load(chosen: argparse.Namespace) -> None:
    """Import all that will be needed, since later the files may be closed to us."""
    import idna

    from .. import delivery

    for module in _MODULES:
        importlib.import_module(module)
    # It has tables that it loads when they are needed.
    idna.encode("\u00fc", uts46=True)
    if chosen.auth_file is not None:
        # Hashes may come later, or never; without the library there are none now.
        with contextlib.suppress(ImportError):
            importlib.import_module("argon2")
    names = [name for option, name in DELIVERIES.items() if getattr(chosen, option) is not None]
    getattr(delivery, names[0] if names else "PrintDelivery")


def _delivery(
    chosen: argparse.Namespace, secrets: Secrets, output: Output, lock: ProcessLock | None
) -> Any:
    """What becomes of a message: the `on_data`, whose other methods may be callbacks, too."""
    from .. import delivery

    try:
        if chosen.maildir is not None:
            return delivery.MaildirDelivery(chosen.maildir)
        if chosen.mbox is not None:
            return delivery.MboxDelivery(chosen.mbox)
        if chosen.exec is not None:
            return delivery.ExecDelivery(chosen.exec, timeout=chosen.exec_timeout)
        if chosen.forward is not None:
            host, port = chosen.forward
            name, password = secrets.forward_login or (None, None)
            return delivery.ForwardDelivery(
                host, port, tls=chosen.forward_tls, username=name, password=password
            )
    except (OSError, ValueError) as error:
        chosen_one = next(option for option in DELIVERIES if getattr(chosen, option) is not None)
        place = getattr(error, "filename", None)
        what = f"--{chosen_one} {place}" if place else f"--{chosen_one}"
        raise CannotStart(f"{what}: {reason_of(error)}") from error
    return delivery.PrintDelivery(
        sys.stdout,
        output.failed,
        colours=has_colours(sys.stdout),
        exclusively=None if lock is None else lock.held,
    )
