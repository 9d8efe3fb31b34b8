"""What the tests against other people's programs share."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pytest

from tests.certificates import Authority, Leaf

from .haproxy import HAProxy
from .postfix import DAEMONS, Postfix
from .serving import HOST, NAME, TIMEOUT, Outcome, Run, Serve, Served, start

REQUIRE = "BLOCKSMTP_REQUIRE_INTEROP"
"""Set to 1 (as .ci/run does), this environment variable makes a missing program a failure."""

# Debian keeps servers where an ordinary user's PATH does not look.
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", DAEMONS, "/opt/exim4/usr/sbin")

HERE = Path(__file__).parent

Program = Callable[[str], str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that none can be forgotten."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.interop)


@pytest.fixture(scope="session")
def program() -> Program:
    """A function from a program's name to its path: `program("swaks")`.

    Where the program is not installed it skips the test, or fails it if REQUIRE is set to 1.
    """
    return find_program


def find_program(name: str) -> str:
    """The path of a program on PATH or in a system folder; skips or fails where there is none."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS))
    found = shutil.which(name, path=path)
    if found is None:
        missing(f"{name} is not installed")
    return found


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it if REQUIRE is set to 1."""
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{what}, and {REQUIRE} is set", pytrace=False)
    pytest.skip(what)


# --- the server --------------------------------------------------------------------------------


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers; at the end they are closed, and must have met no error that nobody took."""
    servers: list[Served] = []

    def serve(
        path: Path | None = None,
        *,
        mode: int | None = None,
        sock: socket.socket | None = None,
        **options: Any,
    ) -> Served:
        servers.append(start(path, mode, sock, options))
        return servers[-1]

    try:
        yield serve
    finally:
        for served in servers:
            served.server.close()
    assert [error for served in servers for error in served.errors] == []


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The authority that clients are told to trust, made for this run."""
    return Authority()


@pytest.fixture(scope="session")
def leaf(authority: Authority) -> Leaf:
    """The server's certificate."""
    return authority.issue(NAME, "localhost", HOST)


@pytest.fixture(scope="session")
def tls(leaf: Leaf) -> dict[str, Any]:
    """The server's certificate as options."""
    return {"cert": leaf.cert, "key": leaf.key}


@pytest.fixture
def ca_file(authority: Authority, tmp_path: Path) -> Path:
    """The authority's certificate."""
    return authority.write(tmp_path)


# --- the programs ------------------------------------------------------------------------------


@pytest.fixture
def run(program: Program, tmp_path: Path) -> Run:
    """Runs a program in an environment without anybody's settings."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(tmp_path), "LANG": "C"}

    def run(name: str, *arguments: object, stdin: bytes = b"", status: int | None = 0) -> Outcome:
        done = subprocess.run(
            [program(name), *map(str, arguments)],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=2 * TIMEOUT,
            env=environment,
            cwd=tmp_path,
            check=False,
        )
        outcome = Outcome(done.returncode, done.stdout.decode("utf-8", "surrogateescape"))
        assert status in (None, outcome.status), f"exit status {outcome.status}\n{outcome.output}"
        return outcome

    return run


class StartHAProxy(Protocol):
    """Starts HAProxy; see the class for the arguments."""

    def __call__(
        self, port: int, options: str, lines: Sequence[str] = (), bind: str = ""
    ) -> HAProxy: ...


@pytest.fixture
def haproxy(program: Program, tmp_path: Path) -> Iterator[StartHAProxy]:
    """Starts HAProxy in front of a server; at the end it is stopped."""
    with ExitStack() as stack:

        def start_haproxy(
            port: int, options: str, lines: Sequence[str] = (), bind: str = ""
        ) -> HAProxy:
            started = HAProxy(program("haproxy"), tmp_path, port, options, lines, bind)
            stack.callback(started.stop)
            return started

        yield start_haproxy


class StartPostfix(Protocol):
    """Starts Postfix; see the class for the arguments. `folder` None is a new one."""

    def __call__(
        self, transports: dict[str, str], folder: Path | None = None, **settings: str
    ) -> Postfix: ...


@pytest.fixture
def postfix(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartPostfix]:
    """Starts Postfix; at the end it is stopped."""
    if os.geteuid() != 0:
        missing("Postfix must be started as root")
    with ExitStack() as stack:

        def start_postfix(
            transports: dict[str, str], folder: Path | None = None, **settings: str
        ) -> Postfix:
            # A short path: a Unix socket's is 107 octets long at the most.
            folder = folder or tmp_path_factory.mktemp("postfix")
            started = Postfix(program, folder, transports, settings)
            stack.callback(started.stop)
            return started

        yield start_postfix
