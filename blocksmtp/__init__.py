"""Receive mail in blocking Python: an SMTP and LMTP server, one thread a connection.

from blocksmtp import SMTPServer

def on_data(stream, session):
    print(session.envelope.mail_from, stream.read())

SMTPServer(auth_optional=True, on_data=on_data).serve_forever(2525)
"""

from __future__ import annotations

from .auth import (
    Auth,
    AuthResponse,
    CramMD5Auth,
    ExternalAuth,
    LoginAuth,
    OAuthBearerAuth,
    PlainAuth,
    ScramAuth,
    XClientAuth,
    XOAuth2Auth,
)
from .errors import SMTPError
from .options import TLSOptions
from .scram import ScramVerifier
from .server import SMTPServer
from .session import (
    ConnectionInfo,
    DSNEnvelope,
    DSNRcpt,
    MessageInfo,
    ProxyInfo,
    ProxySSL,
    SMTPAddress,
    SMTPEnvelope,
    SMTPSession,
    TLSCipherInfo,
)
from .wire.stream import DataStream

__version__ = "0.1.0"

__all__ = [
    "Auth",
    "AuthResponse",
    "ConnectionInfo",
    "CramMD5Auth",
    "DSNEnvelope",
    "DSNRcpt",
    "DataStream",
    "ExternalAuth",
    "LoginAuth",
    "MessageInfo",
    "OAuthBearerAuth",
    "PlainAuth",
    "ProxyInfo",
    "ProxySSL",
    "SMTPAddress",
    "SMTPEnvelope",
    "SMTPError",
    "SMTPServer",
    "SMTPSession",
    "ScramAuth",
    "ScramVerifier",
    "TLSCipherInfo",
    "TLSOptions",
    "XClientAuth",
    "XOAuth2Auth",
]
