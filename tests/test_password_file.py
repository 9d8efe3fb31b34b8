"""PasswordFile: what it reads, whom it lets in, and what it does with files that are none."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest

from blocksmtp import ScramVerifier, SMTPServer
from blocksmtp.password_file import PasswordFile, StoredUser, read_users, shown_users

from .scram_client import ScramClient

SCRAM = ScramVerifier.from_password("pencil", iterations=4096)


@pytest.fixture(scope="module")
def users() -> dict[str, StoredUser]:
    return {
        "alice": StoredUser.from_password("wonder land"),
        "bob": StoredUser.from_password("builder", scram=False),
        "carol": StoredUser(None, SCRAM),
        "d\u00f6rte": StoredUser.from_password("stra\u00dfe", scram=False),
    }


@pytest.fixture
def file(tmp_path: Path, users: dict[str, StoredUser]) -> Path:
    path = tmp_path / "passwords"
    path.write_text("# users\n\n" + shown_users(users), encoding="utf-8")
    return path


def test_what_is_written_is_read(file: Path, users: dict[str, StoredUser]) -> None:
    assert read_users(str(file)) == users


def test_no_password_is_in_the_file(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for secret in ("wonder land", "builder", "pencil"):
        assert secret not in text
    assert text.count("$argon2id$v=19$") == 3
    assert text.count("SCRAM-SHA-256$") == 2


@pytest.mark.parametrize(
    ("name", "password", "right"),
    [
        ("alice", "wonder land", True),
        # SASLprep maps a no-break space to a space (RFC 4013, section 2.1).
        ("alice", "wonder\u00a0land", True),
        ("alice", "wonderland", False),
        ("alice", "", False),
        ("alice", "\x00", False),
        ("Alice", "wonder land", False),
        ("bob", "builder", True),
        ("carol", "pencil", True),
        ("carol", "pencil ", False),
        ("d\u00f6rte", "stra\u00dfe", True),
        ("nobody", "builder", False),
        ("", "", False),
    ],
)
def test_check(file: Path, name: str, password: str, *, right: bool) -> None:
    assert PasswordFile(file).check(name, password) is right


def test_a_name_that_is_unknown_costs_as_much(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import argon2

    passwords = PasswordFile(file)
    verified: list[str] = []

    def verify(self: object, stored: str, password: str) -> bool:
        verified.append(stored.split("$")[3])
        raise argon2.exceptions.VerifyMismatchError

    monkeypatch.setattr(argon2.PasswordHasher, "verify", verify)
    assert not passwords.check("alice", "x")
    assert not passwords.check("nobody", "x")
    assert len(verified) == 2
    assert len(set(verified)) == 1


def test_verifiers_alone_need_no_argon2(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text(shown_users({"carol": StoredUser(None, SCRAM)}))
    code = (
        "import sys; sys.modules['argon2'] = None\n"
        "from blocksmtp.password_file import PasswordFile\n"
        "passwords = PasswordFile(sys.argv[1])\n"
        "print(passwords.check('carol', 'pencil'), passwords.check('x', 'pencil'))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True False\n"


def test_as_callbacks(file: Path) -> None:
    passwords = PasswordFile(file)
    assert passwords.auth_methods == ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN")
    server = SMTPServer(
        auth_methods=passwords.auth_methods,
        on_auth=passwords.on_auth,
        scram_verifier=passwords.scram_verifier,
    )
    for mechanism in ("PLAIN", "LOGIN"):
        with server.test_client(secure=True) as client:
            assert client.login("alice", "wrong", mechanism).code == 535
            assert client.login("alice", "wonder land", mechanism).code == 235
            assert client.session.user == "alice"
    for name, password, code in (("alice", "wonder land", 235), ("bob", "builder", 535)):
        with server.test_client(secure=True) as client:
            client.command("EHLO me")
            scram = ScramClient(name, password)
            first = base64.b64encode(scram.first)
            challenge = base64.b64decode(client.command(b"AUTH SCRAM-SHA-256 " + first).lines[0])
            final = client.command(base64.b64encode(scram.final(challenge)))
            assert (client.command(b"") if final.code == 334 else final).code == code


def test_without_verifiers_scram_is_not_offered(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text(shown_users({"bob": StoredUser.from_password("x", scram=False)}))
    assert PasswordFile(path).auth_methods == ("PLAIN", "LOGIN")


def test_reload(file: Path) -> None:
    passwords = PasswordFile(file)
    good = file.read_text(encoding="utf-8")
    file.write_text("nonsense\n")
    with pytest.raises(ValueError, match="line 1"):
        passwords.reload()
    assert passwords.check("bob", "builder")
    file.write_text(good.replace("bob:", "robert:"), encoding="utf-8")
    passwords.reload()
    assert not passwords.check("bob", "builder")
    assert passwords.check("robert", "builder")


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "alice:",
        "alice::",
        ":x:y",
        "alice:secret:",
        "alice:$2b$12$abc:",
        "alice::SCRAM-SHA-1$1:YQ==$YQ==:YQ==",
        "alice::SCRAM-SHA-256$x:YQ==$YQ==:YQ==",
        "alice::SCRAM-SHA-256$1:YQ==$YQ==:YQ==",
        "alice::SCRAM-SHA-256$1:*$*:*",
        "al\x1bice:$argon2id$:",
        "alice:$argon2id$garbage:",
        "alice:$argon2id$v=19$m=65536,t=3,p=4$c2VjcmV0c2VjcmV0$:",
        "alice:$argon2id$v=19$m=65536,t=3,p=4$c2VjcmV0c2VjcmV0$c2VjcmV0c2Vjc:",
    ],
)
def test_lines_that_are_none(tmp_path: Path, line: str) -> None:
    path = tmp_path / "passwords"
    path.write_text(f"\n{line}\n")
    with pytest.raises(ValueError, match=r"passwords, line 2: ") as raised:
        PasswordFile(path)
    # What may be a secret is not told.
    assert "secret" not in str(raised.value)
    assert "YQ==" not in str(raised.value)


def test_a_user_twice(tmp_path: Path, users: dict[str, StoredUser]) -> None:
    path = tmp_path / "passwords"
    path.write_text(shown_users({"bob": users["bob"]}) * 2)
    with pytest.raises(ValueError, match="line 2: the user is there already"):
        PasswordFile(path)


def test_what_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="no text in UTF-8"):
        PasswordFile(path)
    with pytest.raises(FileNotFoundError):
        PasswordFile(tmp_path / "none")


@pytest.mark.parametrize("password", ["", "\x07", "\u0221"])
def test_passwords_that_cannot_be(password: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        StoredUser.from_password(password)
