"""The seeds: inputs that are known to reach somewhere, or that once broke something.

Those in `seeds/TARGET` are files; the dialogues in tests/dialogues are seeds of `dialogue` as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.dialogue_files import Scenario, scenarios
from tests.fuzz.conversation import HANDSHAKE, LETTERS

FOLDER = Path(__file__).parent / "seeds"

# The letters of callbacks that do as those of the files.
_CALLBACKS = {
    ("on_auth", "accounts"): "a",
    ("on_auth", "accounts_with_data"): "c",
    ("on_auth", "fail"): "z",
    ("on_data", "read_little"): "l",
    ("on_data", "read_nothing"): "n",
    ("on_data", "read_then_refuse"): "e",
    ("on_data", "read_then_fail"): "f",
    ("on_data", "swallow_errors"): "w",
    ("on_data", "fail"): "g",
    ("on_data", "each_in_a_list"): "o",
    ("callback_context", "swallowing"): "k",
    ("on_secure", "refuse"): "s",
    ("on_connect", "refuse"): "p",
}


def seeds(target: str) -> dict[str, bytes]:
    """The seeds of a target, by name."""
    files = {path.name: path.read_bytes() for path in sorted((FOLDER / target).iterdir())}
    if target == "dialogue":
        files.update(_dialogues())
    return files


def _dialogues() -> Iterator[tuple[str, bytes]]:
    for scenario in scenarios():
        yield scenario.name.replace("/", "-"), _plan(scenario) + _client(scenario)


def _client(scenario: Scenario) -> bytes:
    """All that the client of a dialogue writes. A challenge's right response cannot be known."""
    return b"".join(
        turn.octets(b"") + (HANDSHAKE if turn.handshake else b"") for turn in scenario.turns
    )


def _plan(scenario: Scenario) -> bytes:
    """The plan that comes nearest to the options and callbacks of a dialogue."""
    letters = {
        letter
        for letter, options in LETTERS.items()
        if options and options.keys() <= scenario.options.keys() and _alike(options, scenario)
    }
    letters.update(
        letter for row, letter in _CALLBACKS.items() if row in scenario.callbacks.items()
    )
    if scenario.wires == ("starttls", "implicit"):
        letters.add("S")
    return "".join(sorted(letters)).encode() + b"\n"


def _alike(options: dict[str, object], scenario: Scenario) -> bool:
    """Whether a dialogue has these options: a limit, or a list, whatever its value."""
    given = [scenario.options[name] for name in options]
    return all(
        value == wanted or not isinstance(wanted, (bool, str, type(None)))
        for value, wanted in zip(given, options.values(), strict=True)
    )
