"""OpenSSL contexts made of the TLS options, one for each host name, and clients' certificates.

Much here follows from the order in which OpenSSL works. Protocol version, cipher suite of TLS 1.3
and resumption of a session are settled before it looks at the host name that the client asks for
(SNI; RFC 6066, section 3). So these are the server's, whichever name that is; and where the names
differ in what they demand of clients, no session is resumed: one begun under a lenient name would
open a strict one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import socket
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL, crypto

from ..addresses import is_hostname
from ..options import TLS_DEFAULTS, TLSOptions
from .certificates import Identity, load_authorities, load_identity, self_signed
from .ciphers import split_by_protocol

_VERSIONS = {
    "TLSv1": SSL.TLS1_VERSION,
    "TLSv1.1": SSL.TLS1_1_VERSION,
    "TLSv1.2": SSL.TLS1_2_VERSION,
    "TLSv1.3": SSL.TLS1_3_VERSION,
}
_HIGHEST_VERSION = 0  # as OpenSSL spells it
_MODE_AUTO_RETRY = 0x4  # SSL_MODE_AUTO_RETRY, which pyOpenSSL does not name
_NO_RENEGOTIATION = 100  # RFC 5246, section 7.2

# A host name gives all of these or none; the rest it inherits one by one.
_CERTIFICATE_OPTIONS = ("cert", "key", "passphrase")
# Settled before the host name is known, or not exchangeable once it is.
_OPTIONS_OF_THE_SERVER = ("min_version", "max_version", "session_id_context", "honor_cipher_order")

# How many clients' certificates are remembered as verified, for when their sessions are resumed.
_MOST_VERIFIED = 10_000


@dataclass(frozen=True)
class _Demand:
    """What is demanded of clients; `authorities` is None where the system's are trusted."""

    request: bool
    reject: bool
    authorities: tuple[x509.Certificate, ...] | None

    def make_of(self, target: SSL.Context | SSL.Connection) -> None:
        """Have `target` make this demand."""
        if not self.request:
            target.set_verify(SSL.VERIFY_NONE, None)
        elif self.reject:
            mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
            target.set_verify(mode, _verify_strictly)
        else:
            target.set_verify(SSL.VERIFY_PEER, _verify_leniently)

    def same_as(self, other: _Demand) -> bool:
        """Whether a client that met `other` has met this one."""
        return self == other or not (self.request or other.request)


@dataclass(frozen=True)
class _Host:
    """The context for one host name, or for any, and what it was made of."""

    options: TLSOptions
    identity: Identity
    authorities: tuple[x509.Certificate, ...] | None
    demand: _Demand
    context: SSL.Context


class SecureContexts:
    """The OpenSSL contexts of a server: one for each name of `sni_options`, one for all others.

    Immutable: new certificates need new contexts, which replace these for new connections. Sessions
    that began under the old ones are not resumed under the new ones.
    """

    def __init__(
        self, default: _Host, hosts: Mapping[str, _Host], self_made: Identity | None
    ) -> None:
        self._context = default.context
        self._demand = default.demand
        self._verified = _VerifiedCertificates()
        self._afterwards = _make_afterwards()
        self.self_made = self_made
        """The server's own certificate where the options give none, and one had to be made."""
        # Refers to the hosts alone, not back to this: contexts that were replaced go at once.
        self._context.set_tlsext_servername_callback(functools.partial(_choose_host, hosts))
        if not all(host.demand.same_as(default.demand) for host in hosts.values()):
            self._context.set_options(SSL.OP_NO_TICKET)

    @classmethod
    def build(
        cls,
        options: TLSOptions,
        sni_options: Mapping[str, TLSOptions],
        server_name: str,
        self_made: Identity | None = None,
    ) -> SecureContexts:
        """Load and check everything that `options` and `sni_options` (by host name) give.

        Without certificate and key, `self_made`, or else a self-signed one for `server_name` that
        is made now, is used. What the options of a host name leave out is the server's. Raises
        ValueError, naming the option, for what cannot be read or used; its text holds neither keys
        nor passphrases.
        """
        if options.cert is not None or options.key is not None:
            self_made = None
            identity = load_identity(options)
        else:
            self_made = identity = self_made or _make_identity(server_name)
        default = _server_host(options, identity)
        hosts: dict[str, _Host] = {}
        for name, given in sni_options.items():
            try:
                key = _key_of(name)
                if key in hosts:
                    raise ValueError("given twice, in another spelling")
                hosts[key] = _named_host(given, default)
            except ValueError as error:
                raise ValueError(f"sni_options[{name!r}]: {error}") from error
        return cls(default, hosts, self_made)

    def connection(self, sock: socket.socket) -> SSL.Connection:
        """A new TLS connection of a server over `sock`; the handshake is still to be done."""
        return _ServerConnection(
            self._context, self._afterwards, sock, self._demand, self._verified
        )


def peer_verified(connection: SSL.Connection) -> bool:
    """Whether the client showed a certificate in the handshake, and it verified.

    For a resumed session (RFC 8446, section 2.2): whether that held for the session, and the
    certificate has not expired since.
    """
    return isinstance(connection, _ServerConnection) and connection.peer_verified()


def verification_error(connection: SSL.Connection) -> str | None:
    """What was wrong first with the client's certificate in this handshake; None for nothing."""
    number = connection.verification_error if isinstance(connection, _ServerConnection) else None
    if number is None:
        return None
    names = (name for name, code in vars(SSL.X509VerificationCodes).items() if code == number)
    return next(names, f"error {number}").removeprefix("ERR_").replace("_", " ").lower()


# --- one connection ----------------------------------------------------------------------------


class _ServerConnection(SSL.Connection):
    """A connection with what its handshake told of the client's certificate.

    pyOpenSSL's application data would hold this, too, but that is left to the application.
    """

    def __init__(
        self,
        context: SSL.Context,
        afterwards: SSL.Context,
        sock: socket.socket,
        demand: _Demand,
        verified: _VerifiedCertificates,
    ) -> None:
        super().__init__(context, sock)
        # A connection moves to the context of its host name, but OpenSSL goes on calling back
        # the first one's functions: it must live as long as the connection.
        self.first_context = context
        self.afterwards = afterwards
        # The host's may differ; but then no session resumes, and that is what it is for.
        self.remembers = demand.request and not demand.reject
        self.verified = verified
        self.certificate_checked = False
        self.verification_error: int | None = None
        self.set_accept_state()

    def do_handshake(self) -> None:
        super().do_handshake()
        if self.get_protocol_version() < SSL.TLS1_3_VERSION:
            self.set_context(self.afterwards)
        if self.remembers and self.certificate_checked and self.verification_error is None:
            certificate = self._peer_certificate()
            if certificate is not None:
                self.verified.add(certificate)

    def peer_verified(self) -> bool:
        certificate = self._peer_certificate()
        if certificate is None:
            return False
        if self.certificate_checked:
            return self.verification_error is None
        # A resumed session. Where unverified certificates are rejected, it tells enough by itself.
        in_time = datetime.now(timezone.utc) <= certificate.not_valid_after_utc
        return in_time and (not self.remembers or certificate in self.verified)

    def _peer_certificate(self) -> x509.Certificate | None:
        try:
            return self.get_peer_certificate(as_cryptography=True)
        except ValueError:
            return None  # OpenSSL reads certificates that `cryptography` refuses


class _VerifiedCertificates:
    """The certificates of clients that verified, the latest of them.

    A resumed session brings back the client's certificate, but not how its verification ended:
    pyOpenSSL marks whatever a callback lets pass as verified.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fingerprints: OrderedDict[bytes, None] = OrderedDict()

    def add(self, certificate: x509.Certificate) -> None:
        fingerprint = certificate.fingerprint(hashes.SHA256())
        with self._lock:
            self._fingerprints[fingerprint] = None
            self._fingerprints.move_to_end(fingerprint)
            if len(self._fingerprints) > _MOST_VERIFIED:
                self._fingerprints.popitem(last=False)

    def __contains__(self, certificate: x509.Certificate) -> bool:
        with self._lock:
            return certificate.fingerprint(hashes.SHA256()) in self._fingerprints


# --- what OpenSSL calls back; none of these may raise ------------------------------------------


def _choose_host(hosts: Mapping[str, _Host], connection: SSL.Connection) -> None:
    """Move the connection to the context of the host name that the client asks for, if any."""
    if not hosts:
        return
    name = (connection.get_servername() or b"").decode("ascii", "replace").lower()
    name = name.removesuffix(".")
    label, _, parent = name.partition(".")
    host = hosts.get(name) or (hosts.get(f"*.{parent}") if label else None)
    if host is not None:
        connection.set_context(host.context)
        host.demand.make_of(connection)  # the verify mode does not come with the context


def _end_renegotiation(connection: SSL.Connection, where: int, value: int) -> None:
    """End the connection of a client that was told that there is no renegotiation.

    It may go on to ask, record after record, and OpenSSL to answer from inside a single read.
    """
    if (
        where & SSL.SSL_CB_WRITE_ALERT == SSL.SSL_CB_WRITE_ALERT
        and value & 0xFF == _NO_RENEGOTIATION
    ):
        with contextlib.suppress(OSError):
            connection.sock_shutdown(socket.SHUT_RDWR)


def _verify_strictly(
    connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int
) -> bool:
    _note_verification(connection, error, ok)
    return bool(ok)


def _verify_leniently(
    connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int
) -> bool:
    _note_verification(connection, error, ok)
    return True


def _note_verification(connection: SSL.Connection, error: int, ok: int) -> None:
    ours = cast("_ServerConnection", connection)
    ours.certificate_checked = True
    if not ok and ours.verification_error is None:
        ours.verification_error = error


# --- making contexts ---------------------------------------------------------------------------


def _key_of(name: str) -> str:
    """A host name of `sni_options` as a ClientHello has it: A-labels in lower case, no final dot.

    Raises ValueError for what is no host name.
    """
    star, host = ("*.", name[2:]) if name.startswith("*.") else ("", name)
    if not host.isascii():
        import idna

        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except UnicodeError as error:
            raise ValueError("not a host name") from error
    host = host.lower().removesuffix(".")
    if not is_hostname(host):
        hint = "; a wildcard stands for the whole first label" if "*" in host else ""
        raise ValueError(f"not a host name{hint}")
    return star + host


def _make_identity(server_name: str) -> Identity:
    certificate, key = self_signed(server_name)
    return Identity(certificate, (), key)


def _server_host(given: TLSOptions, identity: Identity) -> _Host:
    options = _inherit(given, TLS_DEFAULTS)
    authorities = None if options.ca is None else load_authorities(options.ca)
    return _make_host(options, identity, authorities)


def _named_host(given: TLSOptions, server: _Host) -> _Host:
    """The host for one name of `sni_options`. Raises ValueError."""
    options = _inherit(given, server.options)
    for name in _OPTIONS_OF_THE_SERVER:
        if getattr(options, name) != getattr(server.options, name):
            raise ValueError(f"{name}: must be the same for all host names; give it to the server")
    if _tls13_ciphers(options) not in ("", _tls13_ciphers(server.options)):
        raise ValueError("ciphers: those of TLS 1.3 must be the same for all host names")
    has_own = given.cert is not None or given.key is not None
    identity = load_identity(options) if has_own else server.identity
    authorities = server.authorities if given.ca is None else load_authorities(given.ca)
    return _make_host(options, identity, authorities)


def _inherit(given: TLSOptions, fallback: TLSOptions) -> TLSOptions:
    """`given`, completed from `fallback`; certificate, key and passphrase come from one of them."""
    has_own = given.cert is not None or given.key is not None
    if given.passphrase is not None and not has_own:
        raise ValueError("passphrase: given without cert and key")
    complete = {}
    for row in dataclasses.fields(TLSOptions):
        value = getattr(given, row.name)
        if value is None and not (has_own and row.name in _CERTIFICATE_OPTIONS):
            value = getattr(fallback, row.name)
        complete[row.name] = value
    return TLSOptions(**complete)


def _tls13_ciphers(options: TLSOptions) -> str:
    return split_by_protocol(options.ciphers)[1] if options.ciphers else ""


def _make_host(
    options: TLSOptions, identity: Identity, authorities: tuple[x509.Certificate, ...] | None
) -> _Host:
    """A host of complete options. Raises ValueError for what OpenSSL refuses."""
    demand = _Demand(
        request=bool(options.request_cert),
        reject=bool(options.reject_unauthorized),
        authorities=authorities,
    )
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    _set_protocol(context, options)
    # Before the certificate, since the security level decides whether it is good enough.
    _set_ciphers(context, options)
    _set_identity(context, identity)
    _set_demand(context, demand)
    context.set_session_id(options.session_id_context or b"")
    return _Host(options, identity, authorities, demand, context)


def _set_protocol(context: SSL.Context, options: TLSOptions) -> None:
    context.set_min_proto_version(_VERSIONS[options.min_version or "TLSv1.2"])
    highest = options.max_version
    context.set_max_proto_version(_VERSIONS[highest] if highest else _HIGHEST_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    # A client keeps its session itself, in a ticket (RFC 5077; RFC 8446, section 2.2). Here it
    # would be kept with the client's certificate, however large, for whoever never comes back.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # OpenSSL would stay inside a read for as long as records come that hold no octet for us, which
    # no deadline of ours could end.
    context.clear_mode(_MODE_AUTO_RETRY)
    if options.honor_cipher_order:
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)


def _make_afterwards() -> SSL.Context:
    """The context for a connection below TLS 1.3 once its handshake is done.

    Only there a client can ask for a renegotiation. During the handshake OpenSSL would call back
    two dozen times, which takes as long as a good part of the handshake itself.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_info_callback(_end_renegotiation)
    return context


def _set_ciphers(context: SSL.Context, options: TLSOptions) -> None:
    if options.ciphers is None:
        return
    older, newer = split_by_protocol(options.ciphers)
    try:
        if older:
            context.set_cipher_list(older.encode("utf-8", "replace"))
        if newer:
            context.set_tls13_ciphersuites(newer.encode("utf-8", "replace"))
    except SSL.Error as error:
        raise ValueError(f"ciphers: {_reason(error)}") from error


def _set_identity(context: SSL.Context, identity: Identity) -> None:
    try:
        context.use_certificate(identity.certificate)
        for certificate in identity.chain:
            context.add_extra_chain_cert(certificate)
    except (SSL.Error, crypto.Error) as error:
        raise ValueError(f"cert: {_reason(error)}") from error
    try:
        context.use_privatekey(identity.key)
        context.check_privatekey()
    except (SSL.Error, crypto.Error) as error:
        raise ValueError(f"key: {_reason(error)}") from error


def _set_demand(context: SSL.Context, demand: _Demand) -> None:
    demand.make_of(context)
    if not demand.request:
        return
    if demand.authorities is None:
        context.set_default_verify_paths()
        return
    store = cast("crypto.X509Store", context.get_cert_store())  # a new context has one
    # An intermediate authority that is listed is trusted by itself, its root is not asked for.
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    try:
        for certificate in demand.authorities:
            store.add_cert(crypto.X509.from_cryptography(certificate))
            context.add_client_ca(certificate)
    except (SSL.Error, crypto.Error) as error:
        raise ValueError(f"ca: {_reason(error)}") from error


def _reason(error: SSL.Error | crypto.Error) -> str:
    """What OpenSSL says of an error: "no cipher match", say."""
    entries = error.args[0] if error.args else []
    return ", ".join(str(entry[-1]) for entry in entries) or "refused by OpenSSL"
