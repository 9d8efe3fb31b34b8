"""The other programs are there, or their absence is told."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from .conftest import REQUIRE


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("swaks", ["--version"], "swaks"),
        ("curl", ["--version"], "smtp"),
        ("openssl", ["version"], "OpenSSL"),
        ("postconf", ["-dh", "mail_version"], "."),
        ("haproxy", ["-v"], "HAProxy"),
        ("msmtp", ["--version"], "scram-sha-256"),
        ("gsasl", ["--version"], "GNU SASL"),
        ("exim4", ["-C", "/dev/null", "-bV"], "Exim"),
    ],
)
def test_a_program_runs(
    program: Callable[[str], str], name: str, arguments: list[str], answer: str
) -> None:
    done = subprocess.run(
        [program(name), *arguments], capture_output=True, text=True, check=True, timeout=30
    )
    assert answer in done.stdout


def test_a_missing_program_skips(
    program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        program("no-such-program")


def test_a_missing_program_fails_where_it_is_required(
    program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed"):
        program("no-such-program")


def test_system_folders_are_searched(
    program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    haproxy = program("haproxy")
    monkeypatch.setenv("PATH", os.devnull)
    assert program("haproxy") == haproxy
