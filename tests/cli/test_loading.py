"""What is imported while that is still allowed: a user may not be able to read the installation."""

from __future__ import annotations

import base64
import os
import pwd
import sys
import tempfile
from pathlib import Path

import pytest

from blocksmtp.password_file import StoredUser, shown_users

from ..client import connect, trusting
from ..running import Running
from ..scram_client import ScramClient
from .processes import running, unmeasured
from .test_metrics import ask, figures, free_port

pytestmark = pytest.mark.processes

# Once privileges are given up, nothing can be imported.
COMMAND = """
import sys
from blocksmtp.cli import main
from blocksmtp.cli.privileges import Identity

class Closed:
    def find_spec(self, name, path=None, target=None):
        print("closed:", name, file=sys.stderr)
        raise ImportError(name)

Identity.become = lambda identity: sys.meta_path.insert(0, Closed())
sys.exit(main())
"""


def encoded(text: str | bytes) -> bytes:
    return base64.b64encode(text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--print"],
        ["--implicit-tls", "--maildir", "Mail"],
        ["--workers", "2", "--verbose", "--mbox", "mbox"],
        ["--exec", "cat"],
        ["--lmtp", "--forward", "127.0.0.1:1"],
    ],
)
def test_nothing_is_imported_once_privileges_are_given_up(
    tmp_path: Path, arguments: list[str]
) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text(shown_users({"alice": StoredUser.from_password("wonderland")}))
    port = free_port()
    command = [sys.executable, "-W", "error", "-c", COMMAND, "--port", "0", *arguments]
    command += ["--auth-file", str(passwords), "--metrics", str(port)]
    hello = "LHLO client.example" if "--lmtp" in arguments else "EHLO client.example"
    with Running(command, folder=tmp_path, env=unmeasured()) as server:
        implicit = "--implicit-tls" in arguments
        with connect(server.address, tls=trusting() if implicit else None) as client:
            client.hello(hello)
            if not implicit:
                client.upgrade()
                client.expect(250, hello)
            scram = ScramClient("alice", "wonderland")
            challenge = client.expect(334, b"AUTH SCRAM-SHA-256 " + encoded(scram.first))
            final = scram.final(base64.b64decode(challenge.lines[0]))
            client.expect(334, encoded(final))
            client.expect(235, "")
            client.expect(250, "MAIL FROM:<\u00fc@b\u00fccher.example> SMTPUTF8")
            client.expect(250, "RSET")
            client.expect(250, "MAIL FROM:<a@client.example>")
            accepted = client.command("RCPT TO:<b@server.example>").code == 250
            assert accepted == ("--forward" not in arguments)
            if accepted:
                assert client.message().code == 250
        with connect(server.address, tls=trusting() if implicit else None) as client:
            client.hello(hello)
            if not implicit:
                client.upgrade()
                client.expect(250, hello)
            client.expect(535, b"AUTH PLAIN " + encoded("\0alice\0\u00fc"))
        assert figures(ask(port))["blocksmtp_connections_total"] == 2
        server.end()
    assert "closed:" not in server.errors


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_the_figures_of_workers_that_are_not_root() -> None:
    port = free_port()
    # In a folder that others may enter, as pytest's own may not be.
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o777)
        arguments = ["--user", "nobody", "--workers", "2", "--metrics", str(port)]
        with running(*arguments, env={**unmeasured(), "TMPDIR": home}) as server:
            (folder,) = Path(home).glob("blocksmtp-metrics-*")
            assert folder.stat().st_uid == pwd.getpwnam("nobody").pw_uid
            with connect(server.address) as client:
                client.hello()
                assert figures(ask(port))["blocksmtp_connections_open"] == 1
            server.end()
        assert not folder.exists()
