"""Stored verifiers, proofs of passwords, and decoys."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from blocksmtp import ScramVerifier
from blocksmtp.scram import ITERATIONS_STORED, ScramDecoys, ScramProof

# RFC 7677, section 3
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
MESSAGE = (
    b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
)
PROOF = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
SIGNATURE = base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


def proof() -> ScramProof:
    return ScramProof(SALT, 4096, MESSAGE, PROOF)


def test_the_example_of_the_rfc() -> None:
    by_password, by_verifier = proof(), proof()
    assert by_password.check_password("pencil")
    assert by_password.server_signature == SIGNATURE
    assert by_verifier.check(ScramVerifier.from_password("pencil", salt=SALT, iterations=4096))
    assert by_verifier.server_signature == SIGNATURE


@pytest.mark.parametrize("password", ["Pencil", "", None, b"", b"pencil ", "a\nb", "-", b"-"])
def test_a_wrong_password_makes_no_signature(password: str | bytes | None) -> None:
    wrong = proof()
    assert not wrong.check_password(password)
    assert wrong.server_signature is None


def test_octets_are_a_password_too() -> None:
    assert proof().check_password(b"pencil")


def test_a_verifier_that_is_a_decoy_never_matches() -> None:
    right = ScramVerifier.from_password("pencil", salt=SALT, iterations=4096)
    unknown = proof()
    assert not unknown.check(right, known=False)
    assert unknown.server_signature is None


def test_a_verifier_is_salted_and_strong_by_default() -> None:
    one, other = (ScramVerifier.from_password("pencil") for _ in range(2))
    assert one.iterations == ITERATIONS_STORED
    assert len(one.salt) == 16
    assert one.salt != other.salt
    assert one.stored_key != other.stored_key


def test_a_verifier_knows_its_password() -> None:
    verifier = ScramVerifier.from_password("gr\u00fc\u00dfe", iterations=1)
    assert verifier.validate_password("gru\u0308\u00dfe")
    assert verifier.validate_password("gr\u00fc\u00dfe".encode())
    for wrong in ("gruesse", "", "a\nb"):
        assert not verifier.validate_password(wrong)


def test_no_repr_shows_the_keys() -> None:
    verifier = ScramVerifier(b"salt", 1, b"s" * 32, b"k" * 32)
    assert repr(verifier) == "ScramVerifier(salt=b'salt', iterations=1)"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"salt": "text"}, TypeError),
        ({"salt": b""}, ValueError),
        ({"salt": bytes(1025)}, ValueError),
        ({"iterations": "1"}, TypeError),
        ({"iterations": True}, TypeError),
        ({"iterations": 0}, ValueError),
        ({"iterations": 2**31}, ValueError),
        ({"stored_key": None}, TypeError),
        ({"stored_key": bytes(31)}, ValueError),
        ({"server_key": bytes(33)}, ValueError),
    ],
    ids=str,
)
def test_what_is_no_verifier(fields: dict[str, Any], error: type[Exception]) -> None:
    good = {"salt": b"salt", "iterations": 1, "stored_key": bytes(32), "server_key": bytes(32)}
    ScramVerifier(**good)  # type: ignore[arg-type]
    with pytest.raises(error):
        ScramVerifier(**{**good, **fields})


@pytest.mark.parametrize(
    ("password", "keywords", "error"),
    [
        ("", {}, ValueError),
        (b"", {}, ValueError),
        ("a\nb", {}, ValueError),
        (5, {}, TypeError),
        (None, {}, TypeError),
        ("pencil", {"iterations": 0}, ValueError),
        ("pencil", {"salt": "salt"}, TypeError),
    ],
)
def test_what_no_verifier_is_made_of(
    password: Any, keywords: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        ScramVerifier.from_password(password, **keywords)
    assert "pencil" not in str(caught.value)


def test_a_decoy_looks_like_the_others_and_stays_the_same() -> None:
    decoys = ScramDecoys()
    assert decoys.verifier("nobody").iterations == ITERATIONS_STORED
    decoys.look_like(ScramVerifier(b"s" * 40, 5000, bytes(32), bytes(32)))
    decoy = decoys.verifier("nobody")
    assert (len(decoy.salt), decoy.iterations) == (40, 5000)
    assert decoy.salt == decoys.verifier("nobody").salt
    assert decoy.salt != decoys.verifier("somebody").salt
    assert decoy.salt != ScramDecoys().verifier("nobody").salt[:40]
