"""The options: both spellings, and a clear error at construction for all that is ill."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import ipaddress
import logging
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from blocksmtp import SMTPServer, TLSOptions
from blocksmtp.options import CALLBACKS, Options, default_server_name, from_keywords
from tests.certificates import Authority

NOBODY = ipaddress.ip_network("192.0.2.0/24")


class Names:
    """A resolver."""

    def reverse(self, ip: str) -> list[str]:
        return [ip]


@contextlib.contextmanager
def no_context(session: object) -> Iterator[None]:
    yield


def plain(*arguments: object) -> None:
    """A callback."""


LOGGER = logging.getLogger("tests.options")
NAMES = Names()

# option -> (reference name, a value that is not the default, what becomes of it)
OPTIONS: dict[str, tuple[str | None, Any, Any]] = {
    "secure": ("secure", True, True),
    "needs_upgrade": ("needsUpgrade", True, True),
    "name": ("name", "mx.example.org", "mx.example.org"),
    "banner": ("banner", "No spam", "No spam"),
    "lmtp": ("lmtp", True, True),
    "helo_response": ("heloResponse", "Hi", "Hi"),
    "auth_methods": ("authMethods", ["plain", "CRAM-MD5", "PLAIN"], ("PLAIN", "CRAM-MD5")),
    "auth_optional": ("authOptional", True, True),
    "allow_insecure_auth": ("allowInsecureAuth", True, True),
    "auth_required_message": ("authRequiredMessage", "Who?", "Who?"),
    "hide_starttls": ("hideSTARTTLS", True, True),
    "hide_size": ("hideSize", True, True),
    "hide_pipelining": ("hidePIPELINING", True, True),
    "hide_8bitmime": ("hide8BITMIME", True, True),
    "hide_smtputf8": ("hideSMTPUTF8", True, True),
    "hide_enhanced_status_codes": ("hideENHANCEDSTATUSCODES", True, True),
    "hide_chunking": (None, True, True),
    "hide_limits": (None, True, True),
    "extra_extensions": (None, {"x-one": "two"}, {"X-ONE": "two"}),
    "hide_dsn": ("hideDSN", False, False),
    "hide_requiretls": ("hideREQUIRETLS", False, False),
    "disabled_commands": ("disabledCommands", {"auth"}, ("AUTH",)),
    "size": ("size", 1, 1),
    "max_clients": ("maxClients", None, None),
    "max_clients_per_address": (None, 1, 1),
    "max_auth_failures": (None, None, None),
    "max_recipients": (None, 1, 1),
    "max_messages": (None, 1, 1),
    "max_command_length": (None, 512, 512),
    "max_allowed_unauthenticated_commands": ("maxAllowedUnauthenticatedCommands", False, None),
    "max_bad_commands": (None, None, None),
    "socket_timeout": ("socketTimeout", 1, 1.0),
    "command_timeout": (None, 0.5, 0.5),
    "transaction_timeout": (None, None, None),
    "data_min_rate": (None, 0, 0),
    "close_timeout": ("closeTimeout", 0, 0.0),
    "greeting_delay": (None, 2, 2.0),
    "bare_newline": (None, "reject", "reject"),
    "use_xclient": ("useXClient", True, True),
    "use_xforward": ("useXForward", ["192.0.2.0/24"], (NOBODY,)),
    "use_proxy": ("useProxy", ("192.0.2.9/24",), (NOBODY,)),
    "disable_reverse_lookup": ("disableReverseLookup", True, True),
    "resolver": ("resolver", NAMES, NAMES),
    "lenient_address_parsing": ("lenientAddressParsing", True, True),
    "sni_options": (
        "sniOptions",
        {"A.example.": {"requestCert": True}},
        {"a.example": TLSOptions(request_cert=True)},
    ),
    "logger": ("logger", LOGGER, LOGGER),
    "callback_context": (None, no_context, no_context),
    "scram_verifier": (None, plain, plain),
    "on_connect": ("onConnect", plain, plain),
    "on_secure": ("onSecure", plain, plain),
    "on_auth": ("onAuth", plain, plain),
    "on_mail_from": ("onMailFrom", plain, plain),
    "on_rcpt_to": ("onRcptTo", plain, plain),
    "on_data": ("onData", plain, plain),
    "on_close": ("onClose", plain, plain),
    "on_vrfy": (None, plain, plain),
    "on_rset": (None, plain, plain),
}
TLS_OPTIONS: dict[str, tuple[str | None, Any, Any]] = {
    "key": ("key", "key.pem", "key.pem"),
    "cert": ("cert", b"cert.pem", b"cert.pem"),
    "ca": ("ca", Path("ca.pem"), Path("ca.pem")),
    "passphrase": ("passphrase", "Straße", "Straße".encode()),
    "request_cert": ("requestCert", True, True),
    "reject_unauthorized": ("rejectUnauthorized", False, False),
    "min_version": ("minVersion", "TLSv1.3", "TLSv1.3"),
    "max_version": ("maxVersion", "TLSv1.2", "TLSv1.2"),
    "ciphers": ("ciphers", "HIGH", "HIGH"),
    "honor_cipher_order": ("honorCipherOrder", False, False),
    "session_id_context": ("sessionIdContext", "mx", b"mx"),
}
ALL = {**OPTIONS, **TLS_OPTIONS}
MILLISECONDS = ("socketTimeout", "closeTimeout")

BOTH_SPELLINGS = [
    (name, reference) for name, (reference, _, _) in ALL.items() if reference not in (None, name)
]


# --- the table ---------------------------------------------------------------------------------


def test_the_tables_of_this_file_are_complete() -> None:
    assert {row.name for row in dataclasses.fields(Options)} == set(ALL)
    assert {row.name for row in dataclasses.fields(TLSOptions)} == set(TLS_OPTIONS)


@pytest.mark.parametrize("name", ALL)
def test_an_option_is_taken_under_its_name(name: str) -> None:
    _, value, expected = ALL[name]
    options = from_keywords(Options, {name: value})
    assert getattr(options, name) == expected
    assert getattr(Options(), name) != expected, "the default would prove nothing"


@pytest.mark.parametrize(("name", "reference"), BOTH_SPELLINGS)
def test_an_option_is_taken_under_its_reference_name(name: str, reference: str) -> None:
    _, value, expected = ALL[name]
    given = value * 1000 if reference in MILLISECONDS else value
    assert getattr(from_keywords(Options, {reference: given}), name) == expected


def test_the_server_takes_both_spellings() -> None:
    server = SMTPServer(maxClients=5, onData=plain, hide8BITMIME=True, socketTimeout=1500)
    assert server.options.max_clients == 5
    assert server.on_data is plain
    assert server.options.hide_8bitmime
    assert server.options.socket_timeout == 1.5


@pytest.mark.parametrize(("keyword", "seconds"), [("socketTimeout", 0.25), ("closeTimeout", 0.25)])
def test_milliseconds_under_the_reference_names(keyword: str, seconds: float) -> None:
    name = {"socketTimeout": "socket_timeout", "closeTimeout": "close_timeout"}[keyword]
    assert getattr(SMTPServer(**{keyword: 250}).options, name) == seconds
    assert getattr(SMTPServer(**{name: 250}).options, name) == 250.0


@pytest.mark.parametrize(("name", "reference"), BOTH_SPELLINGS)
def test_an_option_given_twice_is_refused(name: str, reference: str) -> None:
    value = ALL[name][1]
    with pytest.raises(TypeError, match=rf"'{name}' and '{reference}' are the same option"):
        SMTPServer(**{name: value, reference: value})


@pytest.mark.parametrize(
    ("unknown", "closest"),
    [
        ("max_client", "max_clients"),
        ("maxClient", "maxClients"),
        ("MaxClients", "maxClients"),
        ("on_rcpt", "on_rcpt_to"),
        ("hideStarttls", "hide_starttls"),
        ("hideStartTLS", "hideSTARTTLS"),
        ("authOptionl", "authOptional"),
        ("certificate", None),
    ],
)
def test_an_unknown_option_is_refused_and_the_closest_named(
    unknown: str, closest: str | None
) -> None:
    with pytest.raises(TypeError, match=f"unknown option '{unknown}'; did you mean") as caught:
        SMTPServer(**{unknown: True})
    named = re.search(r"did you mean '(\w+)'", str(caught.value))
    assert named is not None
    assert closest is None or named[1] == closest


@pytest.mark.parametrize(
    "name", ["maxAuthFailures", "commandTimeout", "greetingDelay", "maxBadCommands"]
)
def test_what_the_reference_does_not_have_has_no_reference_name(name: str) -> None:
    with pytest.raises(TypeError, match="unknown option"):
        SMTPServer(**{name: 1})


def test_options_are_keywords_only() -> None:
    with pytest.raises(TypeError):
        SMTPServer({"secure": True})  # type: ignore[call-arg]


# --- values of the wrong type ------------------------------------------------------------------

FLAGS = [
    name for name, (_, value, _) in ALL.items() if isinstance(value, bool) and "use_x" not in name
]
FLAGS.remove("max_allowed_unauthenticated_commands")
TEXTS = ["name", "banner", "helo_response", "auth_required_message", "ciphers"]
UNLIMITED = [
    *("size", "max_clients", "max_clients_per_address", "max_auth_failures", "max_bad_commands"),
    *("max_allowed_unauthenticated_commands", "max_messages"),
]
NUMBERS = [*UNLIMITED, "max_recipients", "max_command_length", "data_min_rate"]
TIMES = [
    *("socket_timeout", "command_timeout", "transaction_timeout"),
    *("close_timeout", "greeting_delay"),
]
TRUSTED = ["use_xclient", "use_xforward", "use_proxy"]
SEQUENCES = ["auth_methods", "disabled_commands", *TRUSTED]
CHOICES = ["bare_newline", "min_version", "max_version"]
OCTETS = ["key", "cert", "ca", "passphrase", "session_id_context"]
OTHERS = ["resolver", "sni_options", "logger"]


def _any(*values: Any) -> tuple[Any, ...]:
    return values


WRONG_TYPES: list[tuple[str, Any]] = [
    *((name, value) for name in FLAGS for value in _any(1, 0, "yes", [])),
    *((name, value) for name in TEXTS for value in (1, b"mx", ["mx"], True)),
    *((name, value) for name in NUMBERS for value in ("5", 5.0, [5], True)),
    *((name, value) for name in TIMES for value in ("5", [5], True)),
    *((name, None) for name in TIMES if name != "transaction_timeout"),
    *((name, value) for name in SEQUENCES for value in ("PLAIN", b"PLAIN", 5, None)),
    *((name, value) for name in ("auth_methods", "disabled_commands") for value in ([1], [None])),
    *((name, [value]) for name in TRUSTED for value in (None, 1, b"1234", True, ["192.0.2.1"])),
    *((name, value) for name in CHOICES for value in (1, True, ["TLSv1.2"])),
    *((name, value) for name in OCTETS for value in (1, True, ["text"])),
    *((name, value) for name in CALLBACKS for value in _any(1, "f", True, [])),
    *(("resolver", value) for value in (print, "8.8.8.8", 5, True)),
    *(("logger", value) for value in ("blocksmtp", None, print, True)),
    ("logger", logging.LoggerAdapter(LOGGER, {})),
    *(
        ("sni_options", value)
        for value in _any([], "a.example", True, {1: {}}, {"a.example": "cert"})
    ),
    *(("extra_extensions", value) for value in _any("X", [], {5: ""}, {"X": None})),
    ("sni_options", {"a.example": None}),
    ("sni_options", {"a.example": {"cert": 5}}),
    ("sni_options", {"a.example": {"certs": "x"}}),
    ("sni_options", {"a.example": {"max_clients": 5}}),
    ("sni_options", {"a.example": {"sniOptions": {}}}),
    ("sni_options", {"a.example": {"minVersion": "TLSv1.2", "min_version": "TLSv1.2"}}),
]
WRONG_TYPES += [  # None is neither a default nor a lack of limit here
    *((name, None) for name in ("max_recipients", "max_command_length", "data_min_rate")),
    *((name, None) for name in ("banner", "helo_response", "auth_required_message")),
    *((name, None) for name in ("secure", "lmtp", "hide_dsn", "auth_optional", "bare_newline")),
]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_no_count_comes_near_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at most"):
        SMTPServer(**{name: 10**400})


def test_every_option_has_a_value_of_the_wrong_type() -> None:
    assert {name for name, _ in WRONG_TYPES} == set(ALL)


@pytest.mark.parametrize(("name", "value"), WRONG_TYPES)
def test_a_value_of_the_wrong_type_is_a_type_error(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=re.escape(name)):
        SMTPServer(**{name: value})


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("socketTimeout", "60"), ("closeTimeout", None), ("closeTimeout", True)],
)
def test_milliseconds_must_be_a_number(keyword: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{keyword} must be a number of milliseconds"):
        SMTPServer(**{keyword: value})


# --- values out of range -----------------------------------------------------------------------

ILL_VALUES: list[tuple[str, Any]] = [
    # 0 where None means no limit
    *((name, 0) for name in NUMBERS if name != "data_min_rate"),
    *((name, -1) for name in NUMBERS),
    *((name, -1) for name in TIMES),
    *((name, math.nan) for name in TIMES),
    *((name, value) for name in TIMES for value in (math.inf, 10**400)),
    *((name, 0) for name in ("socket_timeout", "command_timeout", "transaction_timeout")),
    *(
        (name, f"one{control}two")
        for name in ("name", "banner", "helo_response", "auth_required_message")
        for control in "\r\n\0\t\x1b\x7f\x85\u2028"
    ),
    *(("name", value) for value in ("", "two names", "straße.example")),
    *(("auth_methods", [value]) for value in ("SCRAM-SHA-1", "GSSAPI", "", "PLAIN LOGIN")),
    *(("disabled_commands", [value]) for value in ("SEND", "", "MAIL FROM", "ETRN")),
    *(
        (name, [value])
        for name in ("use_xclient", "use_xforward", "use_proxy")
        for value in ("localhost", "192.0.2.0/33", "2001:db8::/129", "192.0.2", "", "a\r\nb")
    ),
    *((name, "TLSv1.4") for name in ("min_version", "max_version")),
    *((name, "tlsv1.2") for name in ("min_version", "max_version")),
    *((name, "SSLv3") for name in ("min_version", "max_version")),
    ("bare_newline", "Normalize"),
    ("bare_newline", ""),
    *((name, "\ud800") for name in ("passphrase", "session_id_context")),
    ("ciphers", ""),
    ("ciphers", "NO-SUCH-CIPHER"),
    ("ciphers", "HIGH\nLOW"),
    ("session_id_context", ""),
    ("session_id_context", b"x" * 33),
    ("cert", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"),
    ("cert", "/no/such/file"),
    ("key", Path("/no/such/file")),
    ("key", b"no key"),
    ("ca", "/no/such/file"),
    ("ca", b"no certificate"),
    ("sni_options", {"": {}}),
    ("sni_options", {"a.example\r\n": {}}),
    ("sni_options", {"not a host": {}}),
    ("sni_options", {"a.*.example": {}}),
    ("sni_options", {"a.example": {"min_version": "TLSv9"}}),
    ("sni_options", {"a.example": {"cert": "/no/such/file"}}),
]


@pytest.mark.parametrize(("name", "value"), ILL_VALUES)
def test_an_ill_value_is_a_value_error(name: str, value: Any) -> None:
    # request_cert, or the authorities would not be needed
    given = {"request_cert": True, name: value} if name == "ca" else {name: value}
    with pytest.raises(ValueError, match=re.escape(name)):
        SMTPServer(**given)


@pytest.mark.parametrize("keyword", MILLISECONDS)
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 10**400])
def test_milliseconds_out_of_range(keyword: str, value: float) -> None:
    with pytest.raises(ValueError, match=r"must be a number of seconds|out of range"):
        SMTPServer(**{keyword: value})


@pytest.mark.parametrize("name", UNLIMITED)
def test_where_none_means_no_limit_zero_says_so(name: str) -> None:
    assert getattr(SMTPServer(**{name: None}).options, name) is None
    with pytest.raises(ValueError, match="None means no limit"):
        SMTPServer(**{name: 0})


def test_versions_must_be_in_order() -> None:
    with pytest.raises(ValueError, match=r"max_version TLSv1\.2 is below min_version TLSv1\.3"):
        SMTPServer(min_version="TLSv1.3", max_version="TLSv1.2")


def test_a_key_that_does_not_fit_is_refused() -> None:
    authority = Authority()
    ours, other = authority.issue("a.example"), authority.issue("b.example")
    with pytest.raises(ValueError, match="key"):
        SMTPServer(cert=ours.cert, key=other.key)
    with pytest.raises(ValueError, match=r"sni_options\['b\.example'\]: key"):
        SMTPServer(
            cert=ours.cert,
            key=ours.key,
            sni_options={"b.example": {"cert": other.cert, "key": ours.key}},
        )


def test_what_may_be_zero_or_without_limit() -> None:
    options = Options(
        data_min_rate=0,
        close_timeout=0,
        greeting_delay=0,
        size=None,
        max_clients=None,
        max_clients_per_address=None,
        max_auth_failures=None,
        max_bad_commands=None,
        max_allowed_unauthenticated_commands=None,
    )
    assert options.close_timeout == options.greeting_delay == 0.0
    assert options.max_clients is None


# --- networks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["use_xclient", "use_xforward", "use_proxy"])
def test_networks_of_every_form(name: str) -> None:
    given = ["192.0.2.1", "192.0.2.0/24", "2001:db8::/32", "::1", ipaddress.ip_address("10.0.0.1")]
    options = from_keywords(Options, {name: iter(given)})
    assert getattr(options, name) == tuple(
        ipaddress.ip_network(text)
        for text in ("192.0.2.1/32", "192.0.2.0/24", "2001:db8::/32", "::1/128", "10.0.0.1/32")
    )


# --- callbacks ---------------------------------------------------------------------------------


async def asynchronous(*arguments: object) -> None:
    """No callback."""


async def generating(*arguments: object) -> Any:
    yield None


class Asynchronous:
    async def __call__(self, *arguments: object) -> None:
        """No callback."""

    async def method(self, *arguments: object) -> None:
        """No callback."""


ASYNCHRONOUS = [
    asynchronous,
    generating,
    functools.partial(asynchronous, 1),
    Asynchronous(),
    Asynchronous().method,
]


@pytest.mark.parametrize("name", CALLBACKS)
@pytest.mark.parametrize("function", ASYNCHRONOUS, ids=lambda function: type(function).__name__)
def test_asynchronous_callbacks_are_refused(name: str, function: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a plain function, not an async one"):
        SMTPServer(**{name: function})
    with pytest.raises(TypeError, match=f"{name} must be a plain function"):
        setattr(SMTPServer(), name, function)
    with pytest.raises(TypeError, match=f"{name} must be a plain function"):
        type("Server", (SMTPServer,), {name: staticmethod(function)})()


@pytest.mark.parametrize("name", CALLBACKS)
def test_what_is_assigned_is_checked_too(name: str) -> None:
    server = SMTPServer()
    with pytest.raises(TypeError, match=f"{name} must be a function, not int"):
        setattr(server, name, 5)
    assert getattr(server, name) is None
    setattr(server, name, plain)
    assert getattr(server, name) is plain
    setattr(server, name, None)
    assert getattr(server, name) is None


# --- names -------------------------------------------------------------------------------------


def test_the_default_name_is_the_machine_s_without_a_lookup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def looked_up(*arguments: object) -> str:
        raise AssertionError("a lookup")

    monkeypatch.setattr("socket.getfqdn", looked_up)
    monkeypatch.setattr("socket.gethostbyname", looked_up)
    monkeypatch.setattr("socket.getaddrinfo", looked_up)
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    assert Options().name == default_server_name() == "box"


@pytest.mark.parametrize("hostname", ["", "straße", "my box", "box\n"])
def test_a_machine_without_a_usable_name_is_localhost(
    hostname: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: hostname)
    assert Options().name == "localhost"


# --- secrets -----------------------------------------------------------------------------------


def test_secrets_are_not_shown() -> None:
    options = Options(key="my-key", cert="my-cert", passphrase=b"my-passphrase")
    assert "my-" not in repr(options)
    tls_options = TLSOptions(key=b"my-key", cert=b"my-cert", passphrase=b"my-passphrase")
    assert "my-" not in repr(tls_options)


@pytest.mark.parametrize("keyword", ["key", "cert", "passphrase"])
def test_secrets_are_not_in_errors(keyword: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        SMTPServer(**{keyword: "swordfish " * 10})
    shown: BaseException | None = caught.value
    while shown is not None:
        assert "swordfish" not in str(shown)
        shown = shown.__cause__


# --- TLS options in their other places ---------------------------------------------------------


def spelt(
    table: Mapping[str, tuple[str | None, Any, Any]], given: Mapping[str, Any]
) -> dict[str, Any]:
    """`given` under the reference names."""
    return {table[name][0] or name: value for name, value in given.items()}


@pytest.mark.parametrize("name", TLS_OPTIONS)
def test_sni_options_take_both_spellings(name: str) -> None:
    reference, value, expected = TLS_OPTIONS[name]
    for keyword in (name, str(reference)):
        options = Options(sni_options={"a.example": {keyword: value}})  # type: ignore[dict-item]
        assert getattr(options.sni_options["a.example"], name) == expected


def test_sni_options_take_tls_options_as_they_are() -> None:
    tls_options = TLSOptions(request_cert=True)
    assert Options(sni_options={"*.Example": tls_options}).sni_options == {"*.example": tls_options}
    assert Options(sni_options=None).sni_options == {}  # type: ignore[arg-type]


GOOD_UPDATES: list[dict[str, Any]] = [
    {"request_cert": True},
    {"reject_unauthorized": False},
    {"min_version": "TLSv1.3"},
    {"max_version": "TLSv1.2"},
    {"ciphers": "HIGH"},
    {"honor_cipher_order": False},
    {"session_id_context": "mx"},
    {"sni_options": {"a.example": {"request_cert": True}}},
]


@pytest.mark.parametrize("given", GOOD_UPDATES, ids=lambda given: next(iter(given)))
def test_update_secure_context_takes_both_spellings(given: dict[str, Any]) -> None:
    server = SMTPServer()
    before = server._host.tls.contexts()
    server.update_secure_context(**given)
    after = server._host.tls.contexts()
    assert after is not before
    server.update_secure_context(**spelt(ALL, given))
    assert server._host.tls.contexts() is not after


def test_update_secure_context_takes_certificates_in_both_spellings(tmp_path: Path) -> None:
    authority = Authority()
    leaf = authority.issue("a.example")
    cert, key = leaf.write(tmp_path)
    server = SMTPServer()
    for given in (
        {"cert": leaf.cert, "key": leaf.key},
        {"cert": cert, "key": key, "ca": authority.pem, "requestCert": True},
        {"cert": str(cert), "key": str(key)},
        {"cert": leaf.cert.decode(), "key": leaf.encrypted_key(b"x"), "passphrase": "x"},
        {"cert": leaf.combined},
    ):
        before = server._host.tls.contexts()
        server.update_secure_context(**given)
        assert server._host.tls.contexts() is not before


ILL_UPDATES: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"certs": b"x"}, TypeError),
    ({"max_clients": 5}, TypeError),
    ({"maxClients": 5}, TypeError),
    ({"cert": 5}, TypeError),
    ({"requestCert": 1}, TypeError),
    ({"minVersion": "TLSv1.2", "min_version": "TLSv1.2"}, TypeError),
    ({"sniOptions": {}, "sni_options": {}}, TypeError),
    ({"sni_options": []}, TypeError),
    ({"sni_options": {"a.example": {"certs": 5}}}, TypeError),
    ({"cert": b"no certificate"}, ValueError),
    ({"key": b"no key"}, ValueError),
    ({"ca": b"no certificate", "request_cert": True}, ValueError),
    ({"min_version": "TLSv9"}, ValueError),
    ({"min_version": "TLSv1.3", "max_version": "TLSv1.2"}, ValueError),
    ({"ciphers": "NO-SUCH-CIPHER"}, ValueError),
    ({"session_id_context": ""}, ValueError),
    ({"sni_options": {"not a host": {}}}, ValueError),
    ({"sni_options": {"a.example": {"cert": b"none"}}}, ValueError),
]


@pytest.mark.parametrize(("given", "error"), ILL_UPDATES, ids=lambda value: str(value)[:40])
def test_an_ill_update_raises_and_changes_nothing(
    given: dict[str, Any], error: type[Exception]
) -> None:
    leaf = Authority().issue("a.example")
    server = SMTPServer(cert=leaf.cert, key=leaf.key)
    before = server._host.tls.contexts()
    with pytest.raises(error):
        server.update_secure_context(**given)
    assert server._host.tls.contexts() is before
    # Nothing of it lingers in what the next update is built on, either.
    server.update_secure_context(honor_cipher_order=False)


@pytest.mark.parametrize("update", [{"certs": b"x"}, {"ca_file": b"x"}])
def test_an_unknown_option_of_an_update_names_one_that_an_update_takes(
    update: dict[str, Any],
) -> None:
    with pytest.raises(TypeError, match=r"did you mean '(cert|ca)'"):
        SMTPServer().update_secure_context(**update)


# --- extra_extensions --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("X-ONE", TypeError),
        ([("X-ONE", "")], TypeError),
        ({5: ""}, TypeError),
        ({"X-ONE": None}, TypeError),
        ({"": ""}, ValueError),
        ({"-X": ""}, ValueError),
        ({"X ONE": ""}, ValueError),
        ({"X-ONE\r\n250 X": ""}, ValueError),
        ({"X-\u00d6": ""}, ValueError),
        ({"X-ONE": "a\r\n250 b"}, ValueError),
        ({"X-ONE": "a\tb"}, ValueError),
        ({"X-ONE": " a"}, ValueError),
        ({"X-ONE": "\u00f6"}, ValueError),
        ({"X-ONE": "a" * 500}, ValueError),
        ({"X-ONE": "", "x-one": ""}, ValueError),
        *(({name: ""}, ValueError) for name in ("size", "STARTTLS", "CHUNKING", "LIMITS", "HELP")),
    ],
    ids=str,
)
def test_extensions_that_are_none(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="extra_extensions"):
        SMTPServer(extra_extensions=value)


def test_no_extensions_are_extra_by_default() -> None:
    assert SMTPServer().options.extra_extensions == {}
    assert SMTPServer(extra_extensions=None).options.extra_extensions == {}
