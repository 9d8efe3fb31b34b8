"""What examples/ has for those who install a server: the units of systemd, the container file."""

from __future__ import annotations

import json
import re
import smtplib
import subprocess
import sys
from pathlib import Path

from tests.cli.processes import COMMAND
from tests.running import Running

from .serving import Run

EXAMPLES = Path(__file__).parents[2] / "examples"


def units(folder: Path) -> list[Path]:
    """The units, with a program that is there: it is looked for."""
    copies = []
    for unit in sorted((EXAMPLES / "systemd").iterdir()):
        text = unit.read_text().replace("/opt/blocksmtp/bin/blocksmtp", sys.executable)
        copies.append(folder / unit.name)
        copies[-1].write_text(text)
    return copies


def test_the_units_are_well_formed(run: Run, tmp_path: Path) -> None:
    files = units(tmp_path)
    assert [file.name for file in files] == ["blocksmtp.service", "blocksmtp.socket"]
    outcome = run("systemd-analyze", "verify", "--man=no", *files)
    assert [line for line in outcome.output.splitlines() if "blocksmtp" in line] == []


def test_a_mistake_in_a_unit_would_be_seen(run: Run, tmp_path: Path) -> None:
    (service, _) = units(tmp_path)
    service.write_text(service.read_text().replace("Type=notify", "Typo=notify"))
    assert "Typo" in run("systemd-analyze", "verify", "--man=no", service, status=None)


def test_the_unit_is_confined(run: Run, tmp_path: Path) -> None:
    (service, _) = units(tmp_path)
    # Of 10, where 10 is a service that may do anything.
    run("systemd-analyze", "security", "--offline=true", "--threshold=20", service)


def words(instruction: str) -> list[str]:
    text = (EXAMPLES / "container" / "Containerfile").read_text()
    found = re.search(rf"^{instruction} (\[.*\])$", text, re.MULTILINE)
    assert found is not None
    return [str(word) for word in json.loads(found[1])]


def test_what_the_container_runs(tmp_path: Path) -> None:
    """Without a container: its command, on a port and in a folder of the test's."""
    program, *options = [*words("ENTRYPOINT"), *words("CMD")]
    assert program == "blocksmtp"
    maildir = tmp_path / "Maildir"
    changes = {"2525": "0", "/mail/Maildir": str(maildir)}
    arguments = [changes.get(option, option) for option in options]
    with Running([*COMMAND, *arguments], log=True, listens="(SMTP)") as server:
        found = re.search(r"0\.0\.0\.0:(\d+) \(SMTP\)", server.output)
        assert found is not None
        python, *check = words("HEALTHCHECK CMD")
        assert python == "python"
        check = [word.replace("2525", found[1]) for word in check]
        subprocess.run([sys.executable, *check], check=True, timeout=30)
        with smtplib.SMTP("127.0.0.1", int(found[1])) as client:
            client.sendmail("a@example.org", ["b@example.com"], "Subject: x\r\n\r\n")
        assert len(list((maildir / "new").iterdir())) == 1
