"""What a framework's settings say of the server, checked; and the callbacks that follow from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..errors import SMTPError
from ..options import CALLBACKS, Options, names_of, to_fields
from ..session import SMTPAddress

KEYS = ("HOST", "PORT", "RECEIVER", "RECIPIENT_DOMAINS", "ATOMIC", "OPTIONS")

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 2525

_ADDRESS = re.compile(r"(?:(?P<host>[^:\[\]\s]+|\[[0-9A-Fa-f:.]+\]):)?(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class Configuration:
    """The settings of one application."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    receiver: str | Callable[..., Any] | None = None
    """What gets each message: a function, or its dotted path."""
    recipient_domains: tuple[str, ...] = ()
    atomic: bool | tuple[str, ...] = True
    """Whether a message is one database transaction: of the default database, or of these."""
    options: dict[str, Any] = field(default_factory=dict)
    """Those of SMTPServer; callbacks may be dotted paths."""

    @classmethod
    def of(cls, settings: Any, keys: Sequence[str] = KEYS) -> Configuration:
        """The configuration that a dictionary of settings is, with some of `keys`.

        Raises TypeError for values of the wrong type, KeyError for a key that is none.
        """
        if not isinstance(settings, Mapping):
            raise TypeError(f"must be a dictionary, not {type(settings).__name__}")
        for key in settings:
            if key not in keys:
                raise KeyError(key)
        host = _of_type("HOST", settings.get("HOST", DEFAULT_HOST), str)
        port = _of_type("PORT", settings.get("PORT", DEFAULT_PORT), int)
        if not 0 <= port <= 65_535:
            raise TypeError("PORT must be a number from 0 to 65535")
        receiver = settings.get("RECEIVER")
        if receiver is not None and not callable(receiver):
            _of_type("RECEIVER", receiver, str)
        atomic = settings.get("ATOMIC", True)
        if not isinstance(atomic, bool):
            atomic = (atomic,) if isinstance(atomic, str) else _names("ATOMIC", atomic)
        domains = _names("RECIPIENT_DOMAINS", settings.get("RECIPIENT_DOMAINS", ()))
        options = dict(_of_type("OPTIONS", settings.get("OPTIONS", {}), Mapping))
        return cls(host, port, receiver, domains, atomic, options)

    def server_options(
        self, load: Callable[[str], Any], first: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """`first`, then `options`, under their Python names; callbacks loaded by `load` from a
        dotted path.

        Without an `on_auth` nobody could log in, so authentication is optional then. Raises
        TypeError for an unknown option, and what `load` raises.
        """
        names = names_of(Options)
        options = {**to_fields(names, self.options), **to_fields(names, first)}
        for name in CALLBACKS:
            if isinstance(options.get(name), str):
                options[name] = load(options[name])
        if "on_auth" not in options:
            options.setdefault("auth_optional", True)
        return options


def _of_type(key: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = {str: "text", int: "a number", Mapping: "a dictionary"}[kind]
        raise TypeError(f"{key} must be {wanted}, not {type(value).__name__}")
    return value


def _names(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{key} must be a list of names, not {type(value).__name__}")
    return tuple(_of_type(f"each of {key}", name, str) for name in value)


def is_recipient_domain(domain: str, patterns: Iterable[str]) -> bool:
    """Whether mail for `domain` is ours: as ALLOWED_HOSTS of Django, "*" is every domain, and
    ".example.com" is example.com with all below it."""
    domain = domain.lower()
    for pattern in patterns:
        lower = pattern.lower()
        if lower in ("*", domain):
            return True
        if lower.startswith(".") and (domain == lower[1:] or domain.endswith(lower)):
            return True
    return False


def check_recipient(address: SMTPAddress, patterns: Iterable[str]) -> None:
    """Raise SMTPError unless the recipient is in a domain of ours.

    Postmaster without a domain always is (RFC 5321, section 4.5.1).
    """
    local_part, _, domain = address.address.rpartition("@")
    if not local_part and domain.lower() == "postmaster":
        return
    if not is_recipient_domain(domain, patterns):
        raise SMTPError("Relaying denied: no domain of ours", 550, "5.7.1")


NOBODY_RECEIVES = ("Nobody receives mail here yet", 451, "4.3.5")
"""The SMTPError for an application that has not said what becomes of its mail."""


def parse_address(text: str) -> tuple[str | None, int]:
    """The host, None without one, and the port of "2525", "0.0.0.0:25" or "[::1]:2525".

    Raises ValueError for another text.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65_535:
        raise ValueError(f'"{text}" is not a valid port number or address:port pair')
    host = match["host"]
    return (None if host is None else host.strip("[]")), int(match["port"])
