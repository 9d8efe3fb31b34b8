"""Gets the contenders that are not here, each into a folder of its own below a cache.

What is in the cache is used as it is: delete the folder to get new releases.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .errors import Unavailable

# Debian keeps servers where an ordinary user's PATH does not look.
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_TIMEOUT = 300.0


def program(name: str, package: str) -> str:
    """The path of an installed program. Raises Unavailable, which names Debian's package."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS))
    found = shutil.which(name, path=path)
    if found is None:
        raise Unavailable(f"{name} is not installed (Debian: apt-get install {package})")
    return found


def output_of(*command: str | Path) -> str:
    """What a command prints. Raises Unavailable where it fails, with the last that it said."""
    try:
        done = subprocess.run(  # noqa: S603 (the commands are ours)
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{Path(command[0]).name} does not run: {error}") from error
    if done.returncode:
        raise Unavailable(_complaint(done.stderr) or f"exit status {done.returncode}")
    return done.stdout


def _complaint(stderr: str) -> str:
    """The lines that say what is wrong, without addresses and log files."""
    if "E404" in stderr:
        return "it is not in the registry"
    lines = [re.sub(r"^(npm error|ERROR:)\s*", "", line) for line in stderr.splitlines()]
    telling = [line for line in lines if re.search(r"code E|^\d{3} |error|could not", line, re.I)]
    text = "; ".join(dict.fromkeys((telling or lines)[:3]))
    return re.sub(r"\s*-?\s*(GET )?https?://\S+", "", text)[:300]


def npm(package: str, cache: Path) -> tuple[Path, str]:
    """Install an npm package; returns its `node_modules` and its version. Raises Unavailable."""
    folder = cache / package
    description = folder / "node_modules" / package / "package.json"
    if not description.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            output_of(
                program("npm", "npm"),
                *("install", "--no-audit", "--no-fund", "--prefix", folder, package),
            )
        except Unavailable as error:
            raise Unavailable(f"`npm install {package}` failed: {error}") from error
    version: str = json.loads(description.read_text())["version"]
    return description.parents[1], version


def aiosmtpd(cache: Path) -> tuple[str, str]:
    """The Python that has aiosmtpd, and its version. Raises Unavailable.

    It is this one where this one has it, else one in an environment of its own.
    """
    try:
        return sys.executable, importlib.metadata.version("aiosmtpd")
    except importlib.metadata.PackageNotFoundError:
        pass
    # One for each version of Python: all that run Python are measured with the same.
    folder = cache / "aiosmtpd-{}.{}.{}".format(*sys.version_info[:3])
    python = folder / "bin" / "python"
    ask = "import importlib.metadata as m; print(m.version('aiosmtpd'))"
    if not python.exists():
        output_of(sys.executable, "-m", "venv", folder)
    try:
        return str(python), output_of(python, "-c", ask).strip()
    except Unavailable:
        try:
            output_of(python, "-m", "pip", "install", "--quiet", "aiosmtpd")
        except Unavailable as error:
            raise Unavailable(f"`pip install aiosmtpd` failed: {error}") from error
    return str(python), output_of(python, "-c", ask).strip()
