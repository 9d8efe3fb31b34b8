"""Certificates for the tests of TLS, and a client that trusts them."""

from __future__ import annotations

import ssl

import pytest

from tests.certificates import Authority, Leaf

from .handshakes import NAME


@pytest.fixture(scope="module")
def authority() -> Authority:
    """The authority that clients trust, and servers trust for clients."""
    return Authority()


@pytest.fixture(scope="module")
def leaf(authority: Authority) -> Leaf:
    """The server's certificate."""
    return authority.issue(NAME)


@pytest.fixture(scope="module")
def alice(authority: Authority) -> Leaf:
    """A client's certificate."""
    return authority.issue("alice@example.org")


@pytest.fixture(scope="module")
def stranger() -> Leaf:
    """A client's certificate from an authority that nobody trusts."""
    return Authority().issue("mallory@example.org")


@pytest.fixture
def client(authority: Authority) -> ssl.SSLContext:
    """A client that trusts the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.trusted_by(context)
    return context
