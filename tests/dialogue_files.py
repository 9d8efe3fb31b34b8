"""The reader of tests/dialogues: what the files may hold stands in README.md there."""

from __future__ import annotations

import ast
import base64
import dataclasses
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.scram_client import ScramClient

FOLDER = Path(__file__).parent / "dialogues"

SERVER_NAME = "mx.example.org"

CLEAR_WIRES = ("plain", "unix")
TLS_WIRES = ("starttls", "implicit")
WIRES = (*CLEAR_WIRES, *TLS_WIRES)

_REPLACED = re.compile(rb"\$\{(.*?)\}")
_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|([0rnt\\]))")
_NAMED_ESCAPES = {b"0": b"\0", b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\"}
_TIMES = re.compile(rb"(\d+)\*(.*)")
_CHALLENGE = re.compile(rb"^334 (.*)\r\n", re.MULTILINE)


class Mismatch(AssertionError):
    """The server answered something else than the file says."""


@dataclass(frozen=True)
class Expected:
    """One `S` line: an exact line, a pattern, or the code of a whole reply."""

    kind: str
    text: str

    def matches(self, line: bytes) -> bool:
        """Whether `line`, without its CRLF, is one that this stands for."""
        if self.kind == ":":
            return line == _replace(self.text, b"")
        if self.kind == "~":
            return re.fullmatch(self.text.encode(), line) is not None
        return line[:3] == self.text.encode() and line[3:4] in (b" ", b"-")

    def __str__(self) -> str:
        return f"S{self.kind} {self.text}"


@dataclass(frozen=True)
class Turn:
    """What the client writes at once, and what the server answers to it."""

    write: str
    """As in the file, every line with its end."""
    replies: tuple[Expected, ...] = ()
    handshake: bool = False
    """The TLS handshake follows."""

    def octets(self, answers: bytes) -> bytes:
        """What the client writes; `answers` are what it was answered last."""
        return _replace(self.write, answers)

    def answered(self, answers: bytes) -> bool:
        """Whether `answers` are complete. Raises Mismatch as soon as they are wrong."""
        if not answers.isascii() and not _is_utf8(answers):
            raise Mismatch(f"not UTF-8: {answers!r}")
        *lines, rest = answers.split(b"\r\n")
        received = iter(lines)
        for expected in self.replies:
            for line in received:
                if not expected.matches(line):
                    raise Mismatch(f"expected {expected}\nbut got  S: {line!r}")
                if expected.kind != "*" or line[3:4] == b" ":
                    break
            else:
                return False
        excess = list(received)
        if excess or rest:
            raise Mismatch(f"more than expected: {[*excess, rest]!r}")
        return True

    def check(self, answers: bytes) -> None:
        """Raise Mismatch unless `answers` are what the file says."""
        if not self.answered(answers):
            raise Mismatch(
                f"expected {[str(line) for line in self.replies]}\nbut got  {answers!r} in all"
            )


@dataclass(frozen=True)
class Scenario:
    """A file."""

    name: str
    options: dict[str, Any]
    callbacks: dict[str, str]
    shown: tuple[str, ...]
    wires: tuple[str, ...]
    turns: tuple[Turn, ...]
    """The first has nothing to write: it is the greeting."""
    uncut: bool
    """Whether the answers depend on how the client's octets are cut."""
    closes: bool
    """Whether the server closes at the end."""
    calls: tuple[str, ...]
    """What the application was called with; nothing is said where this is empty."""

    @property
    def can_run_ahead(self) -> bool:
        """Whether the client's later writes do not depend on the answers to earlier ones."""
        return not any(
            f"${{{mechanism} " in turn.write
            for turn in self.turns
            for mechanism in ("cram-md5", "scram")
        )

    def check_calls(self, calls: list[str]) -> None:
        """Raise Mismatch unless the application was called as the file says.

        A file may be silent about calls, but not about defects.
        """
        if not self.calls:
            calls = [call for call in calls if call.startswith("defect")]
        if calls != list(self.calls):
            expected = "\n".join(self.calls)
            raise Mismatch(f"expected calls:\n{expected}\nbut got:\n" + "\n".join(calls))

    def all_ahead(self) -> Scenario:
        """The same with a client that waits for nothing but the greeting and handshakes."""
        merged: list[Turn] = [self.turns[0]]
        begins = True
        for turn in self.turns[1:]:
            if begins:
                merged.append(turn)
            else:
                before = merged[-1]
                write, replies = before.write + turn.write, before.replies + turn.replies
                merged[-1] = Turn(write, replies, turn.handshake)
            begins = turn.handshake
        return dataclasses.replace(self, turns=tuple(merged))

    def followed_by(self, octets: str) -> Scenario:
        """The same with a client that adds `octets` to its last write."""
        last = dataclasses.replace(self.turns[-1], write=self.turns[-1].write + octets)
        return dataclasses.replace(self, turns=(*self.turns[:-1], last))


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


# --- what is replaced --------------------------------------------------------------------------


def _replace(text: str, answers: bytes) -> bytes:
    return _REPLACED.sub(lambda match: _replacement(match[1], answers), text.encode())


def _replacement(inner: bytes, answers: bytes) -> bytes:
    if inner.startswith(b"\\"):
        return _unescape(inner)
    word, _, rest = inner.partition(b" ")
    if word == b"base64":
        return base64.b64encode(_unescape(rest))
    if word == b"cram-md5":
        user, password = rest.split()
        return _cram_md5(user, password, answers)
    if word == b"scram":
        user, password = rest.split()
        return _scram(user.decode(), password.decode(), answers)
    times = _TIMES.fullmatch(inner)
    if times is None:
        raise ValueError(f"unknown: ${{{inner.decode()}}}")
    return times[2] * int(times[1])


def _unescape(text: bytes) -> bytes:
    return _ESCAPE.sub(
        lambda match: bytes.fromhex(match[1].decode()) if match[1] else _NAMED_ESCAPES[match[2]],
        text,
    )


def _cram_md5(user: bytes, password: bytes, answers: bytes) -> bytes:
    """RFC 2195, section 2."""
    challenges = _CHALLENGE.findall(answers)
    if not challenges:
        return b"(no challenge)"
    digest = hmac.new(password, base64.b64decode(challenges[-1]), "md5").hexdigest()
    return base64.b64encode(user + b" " + digest.encode())


def _scram(user: str, password: str, answers: bytes) -> bytes:
    """The final message of a client whose first one was that of ScramClient."""
    challenges = _CHALLENGE.findall(answers)
    if not challenges or b"," not in base64.b64decode(challenges[-1]):
        return b"(no challenge)"
    client = ScramClient(user, password)
    return base64.b64encode(client.final(base64.b64decode(challenges[-1])))


# --- files -------------------------------------------------------------------------------------


def scenarios() -> list[Scenario]:
    """All the files, in the order of their names."""
    return [
        read(path.read_text("utf-8"), path.relative_to(FOLDER).with_suffix("").as_posix())
        for path in sorted(FOLDER.rglob("*.txt"))
    ]


def read(text: str, name: str) -> Scenario:
    """The scenario that `text` is. Raises ValueError, naming the line, for what is none."""
    reader = _Reader()
    for number, line in enumerate(text.splitlines(), 1):
        try:
            reader.line(line)
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: {error}") from error
    try:
        return reader.scenario(name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


class _Reader:
    def __init__(self) -> None:
        self.explained = False
        self.options: dict[str, Any] = {}
        self.callbacks: dict[str, str] = {}
        self.shown: tuple[str, ...] = ()
        self.wires: tuple[str, ...] = WIRES
        self.uncut = False
        self.turns: list[Turn] = []
        self.write = ""
        self.replies: list[Expected] = []
        self.calls: list[str] = []
        self.closed = False

    def line(self, line: str) -> None:
        # An editor may have taken the space of an empty text away.
        mark, rest = line[:3].ljust(3), line[3:]
        if line.startswith("#"):
            self.explained = True
        elif not line:
            return
        elif self.closed and mark != "A: ":
            raise ValueError("nothing follows <closed>")
        elif mark in ("C: ", "C- "):
            self._end_of_turn(self.replies)
            self.write += rest + ("\r\n" if mark == "C: " else "")
        elif mark in ("S: ", "S~ ", "S* "):
            self.replies.append(Expected(mark[1], rest))
        elif mark == "A: ":
            self.calls.append(rest)
        elif line == "<handshake>":
            self._end_of_turn(True, handshake=True)
        elif line == "<closed>":
            self.closed = True
        else:
            self._header(*line.partition(": ")[::2])

    def _end_of_turn(self, is_one: object, *, handshake: bool = False) -> None:
        if is_one:
            self.turns.append(Turn(self.write, tuple(self.replies), handshake))
            self.write, self.replies = "", []

    def _header(self, key: str, value: str) -> None:
        if self.turns or self.replies:
            raise ValueError(f"neither a line of the dialogue nor a mark: {key!r}")
        if key == "Options":
            self.options.update((name, ast.literal_eval(node)) for name, node in _keywords(value))
        elif key == "Callbacks":
            self.callbacks.update((name, ast.unparse(node)) for name, node in _keywords(value))
        elif key == "Show":
            self.shown = tuple(value.split(", "))
        elif key == "Uncut" and value:
            self.uncut = True
        elif key == "Only":
            names, _, reason = value.partition(" -- ")
            self.wires = tuple(names.split(", "))
            if not set(self.wires) <= set(WIRES) or not reason:
                raise ValueError("Only: some of the wires, ' -- ' and a reason")
        else:
            raise ValueError(f"unknown header {key!r}")

    def scenario(self, name: str) -> Scenario:
        if not self.explained:
            raise ValueError("no comment that says what it is about")
        # After a handshake the client may have nothing left to say.
        self._end_of_turn(self.write or self.replies or not self.turns)
        if self.turns[0].write:
            raise ValueError("the server speaks first")
        return Scenario(
            name=name,
            options=self.options,
            callbacks=self.callbacks,
            shown=self.shown,
            wires=self.wires,
            turns=tuple(self.turns),
            uncut=self.uncut,
            closes=self.closed,
            calls=tuple(self.calls),
        )


def _keywords(text: str) -> Iterator[tuple[str, ast.expr]]:
    """The keyword arguments that `text` is."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"not keywords: {text!r}") from error
    if not isinstance(call, ast.Call) or call.args:
        raise ValueError(f"not keywords: {text!r}")
    for keyword in call.keywords:
        if keyword.arg is None:
            raise ValueError(f"not keywords: {text!r}")
        yield keyword.arg, keyword.value
