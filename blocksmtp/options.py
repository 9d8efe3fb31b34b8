"""The options of a server: one typed table of name, reference name, default and check.

Each field of `Options` and `TLSOptions` is a row. The reference name is the one that the JavaScript
packages use; `from_keywords` takes either.
"""

from __future__ import annotations

import dataclasses
import inspect
import ipaddress
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .text import has_control_characters

if TYPE_CHECKING:
    from .session import SMTPSession

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NETWORK_TYPES = (
    str,
    *(ipaddress.IPv4Address, ipaddress.IPv6Address),
    *(ipaddress.IPv4Network, ipaddress.IPv6Network),
)
PEM = str | bytes | os.PathLike[str]

# The mechanisms there are; `protocol.sasl` implements each.
AUTH_METHODS = (
    *("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "OAUTHBEARER"),
    *("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL"),
)

# What `disabled_commands` may name.
COMMANDS = (
    *("HELO", "EHLO", "LHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "VRFY", "HELP"),
    *("BDAT", "STARTTLS", "AUTH", "XCLIENT", "XFORWARD"),
)

# Keywords of EHLO that are the server's own.
EXTENSIONS = (
    *("STARTTLS", "PIPELINING", "8BITMIME", "CHUNKING", "BINARYMIME", "SMTPUTF8", "LIMITS"),
    *("ENHANCEDSTATUSCODES", "DSN", "REQUIRETLS", "AUTH", "XCLIENT", "XFORWARD", "SIZE"),
)

# ehlo-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")                 (RFC 5321, 4.1.1.1)
# ehlo-param   = 1*(%d33-126)
_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_PARAMETERS = re.compile(r"(?:[!-~]+(?: [!-~]+)*)?")

TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")

Check = Callable[[str, Any], Any]
"""Takes an option's name and value, returns the value to keep; raises TypeError or ValueError."""

_Record = TypeVar("_Record")


def _option(reference: str | None, default: Any, check: Check, *, secret: bool = False) -> Any:
    metadata = {"reference": reference, "check": check}
    return dataclasses.field(default=default, metadata=metadata, repr=not secret)


# --- checks ------------------------------------------------------------------------------------


def _of_type(name: str, value: Any, kind: type | tuple[type, ...], called: str) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} must be {called}, not {type(value).__name__}")


def _flag(name: str, value: Any) -> bool:
    _of_type(name, value, bool, "True or False")
    return bool(value)


def _text(name: str, value: Any) -> str:
    _of_type(name, value, str, "str")
    if has_control_characters(value):
        raise ValueError(f"{name} must not hold control characters")
    return str(value)


def _server_name(name: str, value: Any) -> str:
    if value is None:
        return default_server_name()
    text = _text(name, value)
    if not text or not text.isascii() or " " in text:
        raise ValueError(f"{name} must be a host name in ASCII, not {value!r}")
    return text


def _whole_number(lowest: int, *, unlimited: bool = False, false_is_none: bool = False) -> Check:
    def check(name: str, value: Any) -> int | None:
        if (unlimited and value is None) or (false_is_none and value is False):
            return None
        _of_type(name, value, int, "a whole number" + (" or None" if unlimited else ""))
        if value < lowest:
            hint = "; None means no limit" if unlimited else ""
            raise ValueError(f"{name} must be at least {lowest}, not {value}{hint}")
        if value > sys.maxsize:
            raise ValueError(f"{name} must be at most {sys.maxsize}")
        return int(value)

    return check


def _seconds(*, zero: bool = False, unlimited: bool = False) -> Check:
    def check(name: str, value: Any) -> float | None:
        if unlimited and value is None:
            return None
        _of_type(name, value, (int, float), "a number of seconds" + (" or None" * unlimited))
        # A year: what is longer (or not a number) is a slip, and too much for the system calls.
        if not 0 <= value <= 31_536_000:
            raise ValueError(f"{name} must be a number of seconds, not {value!r}")
        if not zero and value == 0:
            hint = "; None means no limit" if unlimited else ""
            raise ValueError(f"{name} must be more than 0 seconds{hint}")
        return float(value)

    return check


def _names(known: Sequence[str]) -> Check:
    def check(name: str, value: Any) -> tuple[str, ...]:
        if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
            raise TypeError(f"{name} must be a sequence of names, not {type(value).__name__}")
        chosen: dict[str, None] = {}
        for item in value:
            _of_type(f"each of {name}", item, str, "str")
            upper = item.upper()
            if upper not in known:
                raise ValueError(f"{name}: unknown {item!r}; known are {', '.join(known)}")
            chosen[upper] = None
        return tuple(chosen)

    return check


def _extra_extensions(name: str, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    _of_type(name, value, Mapping, "a mapping from EHLO keyword to parameters")
    extensions: dict[str, str] = {}
    for keyword, parameters in value.items():
        _of_type(f"each keyword of {name}", keyword, str, "str")
        _of_type(f"{name}[{keyword!r}]", parameters, str, "str")
        upper = keyword.upper()
        if _KEYWORD.fullmatch(keyword) is None:
            raise ValueError(f"{name}: {keyword!r} is no keyword of EHLO")
        if upper in EXTENSIONS or upper in COMMANDS:
            raise ValueError(f"{name}: {upper} is offered by the server itself, or not at all")
        if upper in extensions:
            raise ValueError(f"{name}: {upper} is given twice")
        if _PARAMETERS.fullmatch(parameters) is None or len(keyword + parameters) > 500:
            raise ValueError(f"{name}[{keyword!r}] must be words in ASCII, on one line")
        extensions[upper] = parameters
    return extensions


def _one_of(known: Sequence[str]) -> Check:
    def check(name: str, value: Any) -> str:
        _of_type(name, value, str, "str")
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        return str(value)

    return check


def trusted(name: str, value: Any) -> bool | tuple[Network, ...]:
    """Check whom to trust: everybody, nobody, or addresses and networks."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(
            f"{name} must be True, False or a sequence of addresses and networks, "
            f"not {type(value).__name__}"
        )
    networks = []
    for item in value:
        # A number would be taken for an address.
        _of_type(f"each of {name}", item, _NETWORK_TYPES, "an address or network")
        try:
            networks.append(ipaddress.ip_network(item, strict=False))
        except ValueError as error:
            raise ValueError(f"{name}: {item!r} is no address or network") from error
    return tuple(networks)


def _optional(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _resolver(name: str, value: Any) -> Any:
    if not callable(getattr(value, "reverse", None)):
        raise TypeError(f"{name} must have a method reverse(ip)")
    return value


def _logger(name: str, value: Any) -> Any:
    # An adapter would take the session's id out of the records again.
    _of_type(name, value, logging.Logger, "a logging.Logger")
    return value


def callback(name: str, value: Any) -> Callable[..., Any] | None:
    """Check a callback: None or a callable that is not asynchronous."""
    if value is None:
        return None
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {type(value).__name__}")
    called = getattr(value, "__call__", None)  # noqa: B004 - its kind is what is looked at
    for function in (value, called):
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{name} must be a plain function, not an async one")
    return value  # type: ignore[no-any-return]


def _pem(name: str, value: Any) -> PEM:
    _of_type(name, value, (str, bytes, os.PathLike), "PEM text, bytes or a path")
    return value  # type: ignore[no-any-return]


def _ciphers(name: str, value: Any) -> str:
    text = _text(name, value)
    if not text:
        raise ValueError(f"{name} must name at least one cipher")
    return text


def _passphrase(name: str, value: Any) -> bytes:
    _of_type(name, value, (str, bytes), "str or bytes")
    try:
        return value.encode() if isinstance(value, str) else bytes(value)
    except UnicodeEncodeError:
        # Without the cause, which holds the text.
        raise ValueError(f"{name} must be text that UTF-8 can express") from None


def _session_id_context(name: str, value: Any) -> bytes:
    octets = _passphrase(name, value)
    if not 1 <= len(octets) <= 32:
        raise ValueError(f"{name} must be 1 to 32 octets long, not {len(octets)}")
    return octets


def _sni_options(name: str, value: Any) -> dict[str, TLSOptions]:
    if value is None:
        return {}
    _of_type(name, value, Mapping, "a mapping from host name to TLS options")
    table = {}
    for host, tls_options in value.items():
        _of_type(f"each host name of {name}", host, str, "str")
        if not host or has_control_characters(host):
            raise ValueError(f"{name}: {host!r} is no host name")
        if isinstance(tls_options, Mapping):
            try:
                tls_options = from_keywords(TLSOptions, tls_options)
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"{name}[{host!r}]: {error}") from error
        _of_type(f"{name}[{host!r}]", tls_options, TLSOptions, "a mapping or TLSOptions")
        table[host.lower().rstrip(".")] = tls_options
    return table


def default_server_name() -> str:
    """This machine's name as it knows it itself, without a lookup."""
    name = socket.gethostname()
    usable = name.isascii() and name and " " not in name and not has_control_characters(name)
    return name if usable else "localhost"


# --- the tables --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TLSOptions:
    """Certificates and what goes with them: for a server, or for one host name of `sni_options`.

    `key`, `cert` and `ca` are PEM text, PEM bytes or a path; a `cert` that also holds the key needs
    no `key`. None stands for the default; for one host name, for what the server has. Values are
    checked on construction: TypeError or ValueError.
    """

    key: PEM | None = _option("key", None, _optional(_pem), secret=True)
    cert: PEM | None = _option("cert", None, _optional(_pem), secret=True)
    ca: PEM | None = _option("ca", None, _optional(_pem))
    passphrase: bytes | None = _option("passphrase", None, _optional(_passphrase), secret=True)
    request_cert: bool | None = _option("requestCert", None, _optional(_flag))
    reject_unauthorized: bool | None = _option("rejectUnauthorized", None, _optional(_flag))
    min_version: str | None = _option("minVersion", None, _optional(_one_of(TLS_VERSIONS)))
    max_version: str | None = _option("maxVersion", None, _optional(_one_of(TLS_VERSIONS)))
    ciphers: str | None = _option("ciphers", None, _optional(_ciphers))
    honor_cipher_order: bool | None = _option("honorCipherOrder", None, _optional(_flag))
    session_id_context: bytes | None = _option(
        "sessionIdContext", None, _optional(_session_id_context)
    )

    def __post_init__(self) -> None:
        for row in dataclasses.fields(self):
            value = row.metadata["check"](row.name, getattr(self, row.name))
            object.__setattr__(self, row.name, value)
        lowest, highest = self.min_version, self.max_version
        if lowest and highest and TLS_VERSIONS.index(highest) < TLS_VERSIONS.index(lowest):
            raise ValueError(f"max_version {highest} is below min_version {lowest}")


TLS_DEFAULTS = TLSOptions(
    request_cert=False,
    reject_unauthorized=True,
    min_version="TLSv1.2",
    honor_cipher_order=True,
    # Not empty, or sessions of clients with a certificate could not be resumed.
    session_id_context=b"blocksmtp",
)
"""What a server has where its options say nothing."""


@dataclass(frozen=True, kw_only=True)
class Options(TLSOptions):
    """Every option of `SMTPServer`, checked."""

    # Connection
    secure: bool = _option("secure", False, _flag)
    needs_upgrade: bool = _option("needsUpgrade", False, _flag)
    name: str = _option("name", None, _server_name)
    banner: str = _option("banner", "", _text)
    lmtp: bool = _option("lmtp", False, _flag)
    helo_response: str = _option("heloResponse", "%s Nice to meet you, %s", _text)

    # Authentication
    auth_methods: tuple[str, ...] = _option("authMethods", ("PLAIN", "LOGIN"), _names(AUTH_METHODS))
    auth_optional: bool = _option("authOptional", False, _flag)
    allow_insecure_auth: bool = _option("allowInsecureAuth", False, _flag)
    auth_required_message: str = _option(
        "authRequiredMessage", "Error: authentication Required", _text
    )

    # Extensions
    hide_starttls: bool = _option("hideSTARTTLS", False, _flag)
    hide_size: bool = _option("hideSize", False, _flag)
    hide_pipelining: bool = _option("hidePIPELINING", False, _flag)
    hide_8bitmime: bool = _option("hide8BITMIME", False, _flag)
    hide_smtputf8: bool = _option("hideSMTPUTF8", False, _flag)
    hide_enhanced_status_codes: bool = _option("hideENHANCEDSTATUSCODES", False, _flag)
    hide_chunking: bool = _option(None, False, _flag)
    hide_dsn: bool = _option("hideDSN", True, _flag)
    hide_requiretls: bool = _option("hideREQUIRETLS", True, _flag)
    hide_limits: bool = _option(None, False, _flag)
    extra_extensions: dict[str, str] = _option(None, None, _extra_extensions)
    disabled_commands: tuple[str, ...] = _option("disabledCommands", (), _names(COMMANDS))

    # Limits
    size: int | None = _option("size", None, _whole_number(1, unlimited=True))
    max_clients: int | None = _option("maxClients", 1000, _whole_number(1, unlimited=True))
    max_clients_per_address: int | None = _option(None, None, _whole_number(1, unlimited=True))
    max_auth_failures: int | None = _option(None, 3, _whole_number(1, unlimited=True))
    max_recipients: int = _option(None, 1000, _whole_number(1))
    max_messages: int | None = _option(None, None, _whole_number(1, unlimited=True))
    max_command_length: int = _option(None, 4096, _whole_number(1))
    max_allowed_unauthenticated_commands: int | None = _option(
        "maxAllowedUnauthenticatedCommands",
        10,
        _whole_number(1, unlimited=True, false_is_none=True),
    )
    max_bad_commands: int | None = _option(None, 10, _whole_number(1, unlimited=True))
    socket_timeout: float = _option("socketTimeout", 60.0, _seconds())
    command_timeout: float = _option(None, 300.0, _seconds())
    transaction_timeout: float | None = _option(None, 1800.0, _seconds(unlimited=True))
    data_min_rate: int = _option(None, 500, _whole_number(0))
    close_timeout: float = _option("closeTimeout", 30.0, _seconds(zero=True))
    greeting_delay: float = _option(None, 0.0, _seconds(zero=True))
    bare_newline: str = _option(None, "normalize", _one_of(("normalize", "reject", "keep")))

    # Proxies
    use_xclient: bool | tuple[Network, ...] = _option("useXClient", False, trusted)
    use_xforward: bool | tuple[Network, ...] = _option("useXForward", False, trusted)
    use_proxy: bool | tuple[Network, ...] = _option("useProxy", False, trusted)

    # Names and addresses
    disable_reverse_lookup: bool = _option("disableReverseLookup", False, _flag)
    resolver: Any = _option("resolver", None, _optional(_resolver))
    lenient_address_parsing: bool = _option("lenientAddressParsing", False, _flag)

    # TLS, beside what TLSOptions has
    sni_options: dict[str, TLSOptions] = _option("sniOptions", None, _sni_options)

    # The application
    logger: Any = _option("logger", logging.getLogger("blocksmtp"), _logger)
    callback_context: Callable[[SMTPSession], AbstractContextManager[Any]] | None = _option(
        None, None, callback
    )
    scram_verifier: Callable[..., Any] | None = _option(None, None, callback)
    on_connect: Callable[..., Any] | None = _option("onConnect", None, callback)
    on_secure: Callable[..., Any] | None = _option("onSecure", None, callback)
    on_auth: Callable[..., Any] | None = _option("onAuth", None, callback)
    on_mail_from: Callable[..., Any] | None = _option("onMailFrom", None, callback)
    on_rcpt_to: Callable[..., Any] | None = _option("onRcptTo", None, callback)
    on_data: Callable[..., Any] | None = _option("onData", None, callback)
    on_close: Callable[..., Any] | None = _option("onClose", None, callback)
    on_vrfy: Callable[..., Any] | None = _option(None, None, callback)
    on_rset: Callable[..., Any] | None = _option(None, None, callback)


CALLBACKS = tuple(
    row.name
    for row in dataclasses.fields(Options)
    if row.name.startswith("on_") or row.name in ("callback_context", "scram_verifier")
)

# Under these names, and only these, the reference's milliseconds are meant.
_MILLISECONDS = ("socketTimeout", "closeTimeout")


def names_of(table: type) -> dict[str, str]:
    """Every spelling that `table` takes, mapped to the name of its field."""
    spellings = {}
    for row in dataclasses.fields(table):
        spellings[row.name] = row.name
        if row.metadata["reference"] is not None:
            spellings[row.metadata["reference"]] = row.name
    return spellings


def to_fields(spellings: Mapping[str, str], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """`keywords` under the names of their fields, milliseconds as seconds.

    Raises TypeError for an unknown option, naming the closest, and for one given twice.
    """
    found: dict[str, Any] = {}
    for keyword, value in keywords.items():
        name = spellings.get(keyword)
        if name is None:
            import difflib

            close = difflib.get_close_matches(str(keyword), spellings, n=1, cutoff=0.0)
            raise TypeError(f"unknown option {keyword!r}; did you mean {close[0]!r}?")
        if name in found:
            first, second = (s for s in spellings if spellings[s] == name)
            raise TypeError(f"{first!r} and {second!r} are the same option: give one")
        found[name] = _seconds_of(keyword, value) if keyword in _MILLISECONDS else value
    return found


def _seconds_of(keyword: str, milliseconds: Any) -> float:
    _of_type(keyword, milliseconds, (int, float), "a number of milliseconds")
    try:
        return float(milliseconds / 1000)
    except OverflowError:
        raise ValueError(f"{keyword} is out of range") from None


def from_keywords(table: type[_Record], keywords: Mapping[str, Any]) -> _Record:
    """A checked `table` from keywords in either spelling. Raises TypeError or ValueError."""
    return table(**to_fields(names_of(table), keywords))
