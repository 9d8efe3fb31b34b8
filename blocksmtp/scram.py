"""SCRAM-SHA-256: what is stored in place of a password, and how a client's proof is checked.

RFC 5802, section 3, with SHA-256 (RFC 7677). The exchange itself is in `protocol.sasl.scram`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from .saslprep import saslprep

_KEY_LENGTH = 32  # that of SHA-256
_SALT_LENGTH = 16

ITERATIONS = 4096
"""For a password that the application has at hand; the least that RFC 7677, section 4 advises."""
ITERATIONS_STORED = 100_000
"""For a verifier, which may be stolen; clients must do as many."""


@dataclass(frozen=True)
class ScramVerifier:
    """What a server stores of a password: enough to check a client, too little to be one.

    `salt` and `iterations` are told to clients; `stored_key` and `server_key` are secret. Raises
    TypeError or ValueError for a value that is none.
    """

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("salt", "stored_key", "server_key"):
            if not isinstance(getattr(self, name), bytes):
                raise TypeError(f"{name} must be bytes")
        if not isinstance(self.iterations, int) or isinstance(self.iterations, bool):
            raise TypeError("iterations must be a whole number")
        if not 1 <= self.iterations < 2**31:
            raise ValueError(f"iterations must be from 1 to 2**31 - 1, not {self.iterations}")
        if not 1 <= len(self.salt) <= 1024:
            raise ValueError(f"salt must be 1 to 1024 octets long, not {len(self.salt)}")
        if {len(self.stored_key), len(self.server_key)} != {_KEY_LENGTH}:
            raise ValueError(f"stored_key and server_key must be {_KEY_LENGTH} octets long")

    @classmethod
    def from_password(
        cls,
        password: str | bytes,
        *,
        salt: bytes | None = None,
        iterations: int = ITERATIONS_STORED,
    ) -> ScramVerifier:
        """A verifier of `password`, with a `salt` made at random unless one is given.

        The time that it takes, and that clients take, grows with `iterations`. Raises ValueError
        for a password that SASLprep forbids, an empty one among them.
        """
        import hashlib

        octets = saslprep(password).encode() if isinstance(password, str) else password
        if not isinstance(octets, bytes):
            raise TypeError(f"password must be str or bytes, not {type(password).__name__}")
        if not octets:
            raise ValueError("password must not be empty")
        chosen = os.urandom(_SALT_LENGTH) if salt is None else salt
        # Its values are checked before the work is done.
        cls(chosen, iterations, bytes(_KEY_LENGTH), bytes(_KEY_LENGTH))
        salted = hashlib.pbkdf2_hmac("sha256", octets, chosen, iterations)
        client_key = _hmac(salted, b"Client Key")
        stored_key = hashlib.sha256(client_key).digest()
        return cls(chosen, iterations, stored_key, _hmac(salted, b"Server Key"))

    def validate_password(self, password: str | bytes) -> bool:
        """Whether it is of this password: for clients that bring it with PLAIN or LOGIN."""
        import hmac

        try:
            other = self.from_password(password, salt=self.salt, iterations=self.iterations)
        except ValueError:
            return False
        return hmac.compare_digest(other.stored_key, self.stored_key)


class ScramProof:
    """A client's proof that it knows a password, and what it refers to."""

    def __init__(self, salt: bytes, iterations: int, message: bytes, proof: bytes) -> None:
        """`message` is the AuthMessage of RFC 5802, section 3; `proof` has 32 octets."""
        self._salt = salt
        self._iterations = iterations
        self._message = message
        self._proof = proof
        self.server_signature: bytes | None = None
        """The server's own proof; None until the client's turned out to be right."""

    def check_password(self, password: str | bytes | None) -> bool:
        """Whether the client knows `password`; None is none, and takes as long as a wrong one."""
        try:
            verifier = ScramVerifier.from_password(
                password or b"-", salt=self._salt, iterations=self._iterations
            )
        except ValueError:  # No client can have it, since it prepares its own.
            return False
        return self.check(verifier, known=bool(password))

    def check(self, verifier: ScramVerifier, *, known: bool = True) -> bool:
        """Whether the client knows the password of `verifier`; never where that is not `known`."""
        import hashlib
        import hmac

        signature = _hmac(verifier.stored_key, self._message)
        client_key = bytes(a ^ b for a, b in zip(self._proof, signature, strict=True))
        right = hmac.compare_digest(hashlib.sha256(client_key).digest(), verifier.stored_key)
        if not right or not known:
            return False
        self.server_signature = _hmac(verifier.server_key, self._message)
        return True


class ScramDecoys:
    """Verifiers for users that there are not, who shall look as if they were there.

    The salt of a name is always the same, and the rest is like that of the users there are.
    """

    def __init__(self) -> None:
        self._secret = os.urandom(32)
        self._likeness = (_SALT_LENGTH, ITERATIONS_STORED)

    def look_like(self, verifier: ScramVerifier) -> None:
        """Be like this one from now on."""
        self._likeness = (len(verifier.salt), verifier.iterations)

    def verifier(self, username: str) -> ScramVerifier:
        """One that no password is of."""
        length, iterations = self._likeness
        salt = b""
        while len(salt) < length:
            salt += _hmac(self._secret, b"%d %s" % (len(salt), username.encode()))
        keys = os.urandom(_KEY_LENGTH), os.urandom(_KEY_LENGTH)
        return ScramVerifier(salt[:length], iterations, *keys)


def _hmac(key: bytes, message: bytes) -> bytes:
    import hmac  # here, since few servers have a use for it

    return hmac.digest(key, message, "sha256")
