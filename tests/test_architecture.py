"""The package's shape: which module may know which, and how large one may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "blocksmtp"

# Who may import whom: each room names the rooms it may look into, beside itself. A new module
# or folder directly below the package gets its place here first.
WORDS = "words"
MAY_IMPORT = {
    WORDS: set[str](),
    "protocol": {WORDS},
    "wire": {WORDS},
    "resolver": {WORDS},
    "connection": {"protocol", "wire", "resolver", WORDS},
    "server": {"connection", "protocol", "wire", "resolver", WORDS},
    "user": {"server", "connection", "protocol", "wire", "resolver", WORDS},
}
ROOM_OF = {
    **dict.fromkeys(("addresses", "auth", "errors", "logs", "options", "saslprep", "scram"), WORDS),
    **dict.fromkeys(("password_file", "session", "text", "trace"), WORDS),
    "protocol": "protocol",
    "wire": "wire",
    "resolver": "resolver",
    **dict.fromkeys(("connection", "dialogue", "events", "host", "limits"), "connection"),
    **dict.fromkeys(("in_memory", "listener", "scheduling", "threads", "tls_state"), "connection"),
    **dict.fromkeys(("server", "signals"), "server"),
    **dict.fromkeys(("pytest_plugin", "testing"), "user"),
    **dict.fromkeys(("__init__", "__main__", "cli", "contrib", "delivery", "message"), "user"),
}

# What the protocol, which is logic from octets to replies, has no business with.
NOT_IN_PROTOCOL = {"OpenSSL", "select", "selectors", "socket", "socketserver", "ssl", "threading"}

# What `import blocksmtp` alone must not cost, nor a server that has no use for it: OpenSSL is for
# TLS, dnspython for reverse lookups, and so on; asyncio and ssl are for other designs.
NOT_AT_IMPORT = {"OpenSSL", "asyncio", "cryptography", "difflib", "dns", "email", "hmac", "idna"}
NOT_AT_IMPORT |= {"django", "flask", "hashlib", "pytest", "secrets", "ssl"}
NOT_AT_IMPORT |= {"argon2", "argparse", "multiprocessing", "prometheus_client", "smtplib"}

LONGEST_MODULE = 500  # lines

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


every_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


def imported(source: str, module: str) -> Iterator[str]:
    """The dotted names that `module` imports, at any depth of its source and also for types only.

    For `from a import b` that is `a.b`, which may be a module or a name in one.
    """
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *(node.module.split(".") if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def room_of(dotted: str) -> str:
    """The room of the package that a name like `blocksmtp.wire.tls.TLSTransport` lies in."""
    parts = dotted.split(".")
    top = parts[1] if len(parts) > 1 else "__init__"
    is_module = (PACKAGE / top).is_dir() or (PACKAGE / f"{top}.py").is_file()
    return ROOM_OF.get(top if is_module else "__init__", "user")


def forbidden(source: str, module: str) -> list[str]:
    """What `module` imports of the package and must not."""
    here = room_of(module)
    allowed = MAY_IMPORT[here] | {here}
    ours = (name for name in imported(source, module) if name.split(".")[0] == PACKAGE.name)
    return [name for name in ours if room_of(name) not in allowed]


def test_every_module_has_its_place() -> None:
    tops = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert tops - set(ROOM_OF) == set(), "give it a place in ROOM_OF"


@every_module
def test_imports_point_one_way(path: Path) -> None:
    assert forbidden(path.read_text(), name_of(path)) == []


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("blocksmtp.protocol.machine", "from ..wire import body", "blocksmtp.wire.body"),
        ("blocksmtp.protocol.sasl.base", "from ...wire.body import X", "blocksmtp.wire.body.X"),
        ("blocksmtp.wire.tls", "def f():\n import blocksmtp.protocol", "blocksmtp.protocol"),
        ("blocksmtp.session", "from . import protocol", "blocksmtp.protocol"),
        ("blocksmtp.errors", "from blocksmtp import SMTPServer", "blocksmtp.SMTPServer"),
        ("blocksmtp.protocol.__init__", "from .. import wire", "blocksmtp.wire"),
        ("blocksmtp.protocol.machine", "from ..options import Options", None),
        ("blocksmtp.protocol.machine", "from . import replies", None),
        ("blocksmtp.protocol.sasl.plain", "from .. import replies\nimport base64", None),
        ("blocksmtp.__init__", "from .errors import SMTPError", None),
    ],
)
def test_the_reader_of_imports_sees_them(module: str, source: str, found: str | None) -> None:
    assert forbidden(source, module) == ([] if found is None else [found])


@pytest.mark.parametrize("path", sorted((PACKAGE / "protocol").rglob("*.py")), ids=name_of)
def test_the_protocol_never_sees_a_socket(path: Path) -> None:
    tops = {name.split(".")[0] for name in imported(path.read_text(), name_of(path))}
    assert tops & NOT_IN_PROTOCOL == set()


@every_module
def test_no_module_is_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE


def test_every_folder_is_a_package() -> None:
    """One without an `__init__.py` would be missing in the wheel."""
    folders = {path.parent for path in MODULES}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def in_fresh_interpreter(code: str) -> str:
    """What `code` prints in an interpreter of its own, where any warning is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_is_cheap() -> None:
    # What the interpreter has loaded before (a coverage measurement, say) is not our doing.
    loaded = in_fresh_interpreter(
        "import sys; before = set(sys.modules); import blocksmtp;"
        "print(*sorted(set(sys.modules) - before))"
    )
    assert "blocksmtp" in loaded.split()
    homes = ("blocksmtp.contrib", "blocksmtp.in_memory", "blocksmtp.message", "blocksmtp.testing")
    assert [name for name in loaded.split() if name.startswith(homes)] == []
    assert {name.split(".")[0] for name in loaded.split()} & NOT_AT_IMPORT == set()


def test_a_server_in_clear_stays_as_cheap() -> None:
    loaded = in_fresh_interpreter(
        """
import socket, sys
before = set(sys.modules)
from blocksmtp import SMTPServer
messages = []
server = SMTPServer(
    auth_optional=True, disable_reverse_lookup=True, disabled_commands=["STARTTLS"],
    on_data=lambda stream, session: messages.append(stream.read()),
)
with server, socket.create_connection(("127.0.0.1", server.listen(0, "127.0.0.1").port)) as client:
    for line in ("EHLO a", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "Hello!\\r\\n."):
        client.recv(1000)
        client.sendall(line.encode() + b"\\r\\n")
    client.recv(1000)
assert messages == [b"Hello!\\r\\n"]
print(*sorted(set(sys.modules) - before))
"""
    )
    assert {name.split(".")[0] for name in loaded.split()} & NOT_AT_IMPORT == set()


def test_every_module_imports_without_a_warning() -> None:
    # contrib needs the frameworks it is for; __main__ runs.
    names = [
        name_of(path).removesuffix(".__init__")
        for path in MODULES
        if "contrib" not in path.parts and path.stem != "__main__"
    ]
    in_fresh_interpreter(f"import importlib\nfor name in {names}: importlib.import_module(name)")
