"""Authentication as the application sees it: what a client presents, and the answer to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .scram import ScramProof

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(frozen=True)
class Auth:
    """What a client presents with AUTH: `on_auth` gets an instance of a subclass.

    `method` tells which mechanism it is, `username` whom the client claims to be.
    """

    method: str
    username: str


@dataclass(frozen=True)
class PlainAuth(Auth):
    """PLAIN (RFC 4616): a name and a password.

    `username` is the `authcid`, or the `authzid` where that is empty; both are as the client sent
    them.
    """

    password: str = field(repr=False)
    authzid: str
    authcid: str


@dataclass(frozen=True)
class LoginAuth(Auth):
    """LOGIN: a name and a password."""

    password: str = field(repr=False)


@dataclass(frozen=True)
class CramMD5Auth(Auth):
    """CRAM-MD5 (RFC 2195): a digest of the password and of the server's challenge."""

    challenge: str = field(repr=False)
    challenge_response: str = field(repr=False)

    def validate_password(self, password: str | bytes | None) -> bool:
        """Whether the client knows `password`; takes the same time for every wrong one.

        None, for a user who has none, is always wrong.
        """
        import hmac  # here, since few servers have this method

        key = password.encode() if isinstance(password, str) else password or b""
        digest = hmac.new(key, self.challenge.encode(), "md5").hexdigest()
        right = hmac.compare_digest(digest.encode(), self.challenge_response.lower().encode())
        return right and password is not None


@dataclass(frozen=True)
class XOAuth2Auth(Auth):
    """XOAUTH2: a name and a bearer token."""

    access_token: str = field(repr=False)


@dataclass(frozen=True)
class OAuthBearerAuth(Auth):
    """OAUTHBEARER (RFC 7628): a bearer token, and maybe a name: `username` is "" without."""

    access_token: str = field(repr=False)


@dataclass(frozen=True)
class ScramAuth(Auth):
    """SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677): a proof of the password.

    `authzid` is whom the client wants to act for, "" for itself.
    """

    authzid: str
    _proof: ScramProof = field(repr=False)

    @property
    def verified(self) -> bool:
        """Whether the client has turned out to know the password."""
        return self._proof.server_signature is not None

    def validate_password(self, password: str | bytes | None) -> bool:
        """Whether the client knows `password`; takes the same time for every wrong one.

        A client may be accepted only after that: it wants the server's proof of the same in turn.
        None, for a user who has none, is always wrong.
        """
        return self._proof.check_password(password)


@dataclass(frozen=True)
class ExternalAuth(Auth):
    """EXTERNAL (RFC 4422, appendix A): the certificate that the client has shown in TLS, verified.

    `username` is whom the client wants to act for, "" where it leaves that to the certificate.
    """

    certificate: x509.Certificate = field(repr=False)


@dataclass(frozen=True)
class XClientAuth(Auth):
    """XCLIENT LOGIN: a trusted proxy vouches for the name."""

    password: None = None


class AuthResponse:
    """The answer of `on_auth` where a user alone does not say enough.

    `user` accepts, unless it is None. `message` and `response_code` go to the client: 200 to 299
    with a user (235 by default), 400 to 599 without one (535 by default). `data` is sent as JSON in
    the error challenge of XOAUTH2 or OAUTHBEARER before the refusal, which comes at once without.

    Raises TypeError or ValueError for a value that does not fit.
    """

    def __init__(
        self,
        user: Any = None,
        message: str | None = None,
        response_code: int | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        if message is not None and not isinstance(message, str):
            raise TypeError(f"message must be str, not {type(message).__name__}")
        if response_code is not None:
            if not isinstance(response_code, int) or isinstance(response_code, bool):
                raise TypeError(f"response_code must be int, not {type(response_code).__name__}")
            lowest, highest = (400, 599) if user is None else (200, 299)
            if not lowest <= response_code <= highest:
                accepted = "without a user" if user is None else "with a user"
                raise ValueError(
                    f"response_code {accepted} must be from {lowest} to {highest}, "
                    f"not {response_code}"
                )
        if data is not None and not isinstance(data, Mapping):
            raise TypeError(f"data must be a mapping, not {type(data).__name__}")
        self.user = user
        self.message = message
        # As in SMTPError.
        self.response_code = None if response_code is None else int(response_code)
        self.data = data

    def __repr__(self) -> str:
        return f"AuthResponse(response_code={self.response_code!r})"
