"""What was built, installed where nothing else is, and tried there.

    python -m tests.installed DIST FOLDER

installs the wheel and the source distribution in DIST, each in an empty environment in FOLDER, and
runs the server of each as its user would; and the wheel's by `pipx run`.
"""

from __future__ import annotations

import os
import shutil
import smtplib
import subprocess
import sys
from pathlib import Path

from .running import Running


def main(dist: Path, folder: Path) -> None:
    """Raises an exception where anything is not as it should be."""
    (wheel,) = dist.glob("*.whl")
    (source,) = dist.glob("*.tar.gz")
    shutil.rmtree(folder, ignore_errors=True)
    for package in (wheel, source):
        environment = folder / package.suffix.removeprefix(".")
        run(sys.executable, "-m", "virtualenv", "--quiet", environment)
        run(environment / "bin" / "pip", "install", "--quiet", package)
        run(environment / "bin" / "pip", "check")
        python = environment / "bin" / "python"
        run(python, "-I", "-W", "error", "-c", "import blocksmtp, blocksmtp.delivery")
        assert list(environment.glob("lib/python*/site-packages/blocksmtp/py.typed"))
        only_what_is_needed(environment)
        try_server([environment / "bin" / "blocksmtp"], folder)
        try_server([python, "-m", "blocksmtp"], folder)
    os.environ["PIPX_HOME"] = str(folder / "pipx")
    os.environ["PIPX_BIN_DIR"] = str(folder / "bin")
    pipx = [sys.executable, "-m", "pipx", "run", "--no-cache", "--python", sys.executable]
    try_server([*pipx, "--spec", wheel, "blocksmtp"], folder)


def run(*command: str | Path) -> str:
    """What the command says; it must succeed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}"
    return done.stdout


def only_what_is_needed(environment: Path) -> None:
    """The package brings OpenSSL and DNS along, and what these need, and nothing else."""
    names = run(environment / "bin" / "pip", "list", "--format", "freeze").split()
    installed = {name.partition("==")[0].lower() for name in names}
    needed = {"blocksmtp", "pyopenssl", "cryptography", "cffi", "pycparser", "dnspython", "idna"}
    assert installed - {"pip", "typing_extensions"} <= needed, installed
    assert {"blocksmtp", "pyopenssl", "dnspython"} <= installed


def try_server(command: list[str | Path], folder: Path) -> None:
    """Send a message to the server of this command, which prints it."""
    arguments = [*map(str, command), "--port", "0"]
    with Running(arguments, folder=folder, start_new_session=True) as server:
        with smtplib.SMTP(*server.address) as client:
            client.sendmail("a@example.org", ["b@example.com"], "Subject: it works\r\n\r\n")
        assert server.end() == 0, server.errors
    assert "RCPT TO:<b@example.com>\n" in server.output
    assert "Subject: it works\n" in server.output
    print(f"{' '.join(arguments)}: it works", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
