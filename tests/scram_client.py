"""A client of SCRAM-SHA-256, by the formulas of RFC 5802, section 3, without the package."""

from __future__ import annotations

import base64
import hashlib
import hmac


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).digest()


class ScramClient:
    """One exchange of a client's; all messages are without the base64 of SMTP."""

    def __init__(
        self,
        username: str,
        password: str,
        *,
        header: bytes = b"n,,",
        binding: bytes = b"",
        nonce: bytes = b"rOprNGfwEbeRWgbNEkqO",
    ) -> None:
        self._bare = b"n=%s,r=%s" % (username.encode(), nonce)
        self._password = password.encode()
        self._header = header
        self._binding = binding
        self.signature = b""
        """The server's, as it must be."""

    @property
    def first(self) -> bytes:
        """The client's first message."""
        return self._header + self._bare

    def final(self, server_first: bytes) -> bytes:
        """The client's final message."""
        fields = dict(field.split(b"=", 1) for field in server_first.split(b","))
        salt, iterations = base64.b64decode(fields[b"s"]), int(fields[b"i"])
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        binding = base64.b64encode(self._header + self._binding)
        without_proof = b"c=%s,r=%s" % (binding, fields[b"r"])
        message = b",".join((self._bare, server_first, without_proof))
        client_key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(client_key).digest(), message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self.signature = _hmac(_hmac(salted, b"Server Key"), message)
        return b"%s,p=%s" % (without_proof, base64.b64encode(proof))

    @property
    def expected(self) -> bytes:
        """The server's final message, as it must be."""
        return b"v=" + base64.b64encode(self.signature)
