"""What a callback learns of a connection and its message: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .trace import received_header


@dataclass(frozen=True)
class TLSCipherInfo:
    """The cipher of a TLS connection.

    `name` is OpenSSL's ("ECDHE-RSA-AES128-GCM-SHA256"), `standard_name` IANA's
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), `version` the protocol's ("TLSv1.2").
    """

    name: str
    standard_name: str | None
    version: str | None


@dataclass
class DSNEnvelope:
    """What MAIL said about delivery status notifications (RFC 3461, sections 4.3 and 4.4)."""

    ret: str | None = None
    """"FULL" or "HDRS": how much of the message a notification shall return."""
    envid: str | None = None
    """The sender's own identifier of the envelope, decoded."""


@dataclass
class DSNRcpt:
    """What RCPT said about delivery status notifications (RFC 3461, sections 4.1 and 4.2)."""

    notify: list[str] | None = None
    """["NEVER"], or some of "SUCCESS", "FAILURE" and "DELAY"."""
    orcpt: str | None = None
    """The original recipient with its address type, decoded: "rfc822;bob@example.org"."""


@dataclass
class SMTPAddress:
    """An address of MAIL FROM or RCPT TO, with the parameters given to it.

    `address` is normalised: "" for the null sender, a Unicode domain as A-labels, needless quotes
    removed. `raw` is what the client wrote between the brackets. `args` maps the upper-case keyword
    of each parameter to its decoded value, or True where it has none.
    """

    address: str
    raw: str = ""
    args: dict[str, str | bool] = field(default_factory=dict)
    dsn: DSNRcpt = field(default_factory=DSNRcpt)

    def __str__(self) -> str:
        return self.address


@dataclass
class SMTPEnvelope:
    """The envelope of the current transaction (RFC 5321, section 2.3.1); a new object for each."""

    mail_from: SMTPAddress | None = None
    rcpt_to: list[SMTPAddress] = field(default_factory=list)
    body_type: str = "7bit"
    """"7bit", "8bitmime" (RFC 6152) or "binarymime" (RFC 3030)."""
    smtp_utf8: bool = False
    """Whether MAIL said SMTPUTF8 (RFC 6531)."""
    require_tls: bool = False
    """Whether MAIL said REQUIRETLS (RFC 8689): to be sent on over verified TLS only."""
    dsn: DSNEnvelope = field(default_factory=DSNEnvelope)
    submitter: str | None = None
    """Who submitted the message in the first place, as AUTH= of MAIL says (RFC 4954, section 5):
    None where nothing is said, "" where nobody is known for certain, and whatever a client says
    that is not authenticated itself."""


@dataclass(frozen=True)
class ProxySSL:
    """The TLS of the client's connection to a proxy, as that told (PROXY protocol, section 2.2.5).

    A text that the proxy does not tell, or that is none, is None.
    """

    client_ssl: bool
    """Whether the client came in TLS."""
    client_cert_connection: bool
    """Whether it showed a certificate in this connection."""
    client_cert_session: bool
    """Whether it showed one in the TLS session that this connection belongs to."""
    verified: bool
    """Whether it showed a certificate, and the proxy found it good."""
    version: str | None = None
    common_name: str | None = None
    """The name in the certificate's subject."""
    cipher: str | None = None
    signature_algorithm: str | None = None
    key_algorithm: str | None = None


@dataclass(frozen=True)
class ProxyInfo:
    """What a proxy told of a connection, beside its addresses, in a PROXY header."""

    version: int
    """1 or 2."""
    local: bool = False
    """Whether the connection is the proxy's own, for a health check, say."""
    authority: str | None = None
    """The host name that the client asked the proxy for (SNI); None also for what is none."""
    alpn: str | None = None
    """The protocol that the client and the proxy agreed on (RFC 7301)."""
    unique_id: bytes | None = None
    """The proxy's own identifier of the connection: at most 128 octets of any kind."""
    ssl: ProxySSL | None = None
    tlvs: tuple[tuple[int, bytes], ...] = ()
    """Type and value of all that the header holds, in its order."""


@dataclass(frozen=True)
class ConnectionInfo:
    """Who connected: what the event "connect" hands to its listeners.

    The attributes are those of the session at that moment.
    """

    id: str
    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    host_name_appears_as: str | None
    client_hostname: str


@dataclass(frozen=True)
class MessageInfo:
    """What became of a message: what the event "message" hands to its listeners.

    A client that did not learn that its message was accepted sends it again (RFC 5321, section
    4.5.4.1; RFC 1047). Where `accepted` holds and `reply_written` does not, that is to be expected.
    """

    id: str
    """The session's."""
    envelope: SMTPEnvelope
    accepted: bool
    """Whether the reply accepts it; in LMTP, for one recipient at least."""
    reply_codes: tuple[int, ...]
    """One, in LMTP one a recipient; none where the connection or the client broke it off."""
    reply_written: bool
    """Whether all of the reply was handed to the operating system; more a server cannot know."""


@dataclass(eq=False)
class SMTPSession:
    """The state of one connection. Every callback of the connection gets the same object."""

    id: str
    """Unique for each connection."""
    server_name: str = "localhost"
    """The server's own name, as it greets."""
    lmtp: bool = False
    """True where the server speaks LMTP."""

    secure: bool = False
    """True while the connection uses TLS."""
    servername: str | None = None
    """The host name that the client asked for in the TLS handshake (SNI)."""
    tls_options: TLSCipherInfo | None = None

    local_address: str = ""
    """The IP address that the client connected to; "" on a Unix socket."""
    local_port: int = 0
    """The TCP port that the client connected to; 0 on a Unix socket."""
    remote_address: str = ""
    """The client's IP address, as a PROXY header or XCLIENT told it; "" on a Unix socket."""
    remote_port: int = 0
    """The client's TCP port; 0 on a Unix socket, and where XCLIENT left it out."""
    client_hostname: str = ""
    """The client's name by reverse lookup, "[address]" where there is none."""

    client_hostname_verified: bool = False
    """Whether that name has the client's address in turn: then it is not just anybody's word."""

    host_name_appears_as: str | None = None
    """The name that the client gave in HELO, EHLO or LHLO; None before it and after STARTTLS."""
    opening_command: str | None = None
    """"HELO", "EHLO" or "LHLO"; None before it, and again after STARTTLS and XCLIENT."""

    proxy: ProxyInfo | None = None
    """What a proxy told in its header; None where the connection came without one."""

    user: Any = field(default=None, repr=False)
    """What `on_auth` returned for the user; None before AUTH, and again after STARTTLS."""
    auth_failures: int = 0
    """How many times credentials were refused on this connection."""
    transaction: int = 0
    """How many messages were accepted on this connection."""
    envelope: SMTPEnvelope = field(default_factory=SMTPEnvelope)
    x_client: dict[str, str | None] = field(default_factory=dict)
    """What XCLIENT said, by upper-case attribute; None where the proxy does not know."""
    x_forward: dict[str, str | None] = field(default_factory=dict)
    """What XFORWARD said of the current message, in the same form."""
    state: dict[Any, Any] = field(default_factory=dict, repr=False)
    """The application's own, for the life of the connection."""

    @property
    def transmission_type(self) -> str:
        """The protocol as a `Received` header names it: "ESMTPSA", say (RFC 3848)."""
        authenticated = self.user is not None
        if self.lmtp:
            protocol = "LMTP"
        elif self.opening_command == "EHLO" or authenticated:
            protocol = "ESMTP"
        else:
            protocol = "SMTP"
        return protocol + "S" * self.secure + "A" * authenticated

    def received_header(self) -> bytes:
        """The trace header for the current message (RFC 5321, section 4.4), CRLF included.

        For applications that store or forward the message: it goes in front of it.
        """
        return received_header(self)
