"""The file of `--config`: TOML, whose keys are the names of the flags."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .errors import CannotStart, reason_of

# They say where options come from, or are none.
_NOT_IN_FILE = ("config", "help", "version")


def read_configuration(path: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The options in the file, by the names that `parser` has for them. Raises CannotStart."""
    flags = {
        action.option_strings[-1].removeprefix("--"): action
        for action in parser._actions
        if action.dest not in _NOT_IN_FILE
    }
    options: dict[str, Any] = {}
    for key, value in _table(path).items():
        action = flags.get(key.replace("_", "-"))
        if action is None:
            import difflib

            (close,) = difflib.get_close_matches(key, flags, n=1, cutoff=0.0)
            raise CannotStart(f"{path}: there is no {key!r}; did you mean {close!r}?")
        try:
            options[action.dest] = _converted(action, value)
        except argparse.ArgumentTypeError as error:
            raise CannotStart(f"{path}: {key} {error}") from error
    return options


def _table(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise CannotStart(
                "--config needs Python 3.11, or: pip install 'blocksmtp[config]'"
            ) from None
    try:
        with open(path, "rb") as file:
            table: dict[str, Any] = tomllib.load(file)
            return table
    except OSError as error:
        raise CannotStart(f"--config {path}: {reason_of(error)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CannotStart(f"{path} is no TOML: {error}") from error


def _converted(action: argparse.Action, value: Any) -> Any:
    """The value as the flag has it. Raises ArgumentTypeError."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise argparse.ArgumentTypeError(f"must be true or false, not {value!r}")
        return value
    if isinstance(action, argparse._AppendAction):
        return [_one(action, each) for each in (value if isinstance(value, list) else [value])]
    return _one(action, value)


def _one(action: argparse.Action, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise argparse.ArgumentTypeError(f"must be a text or a number, not {value!r}")
    if action.choices is not None and value not in action.choices:
        raise argparse.ArgumentTypeError(
            f"must be one of {', '.join(action.choices)}, not {value!r}"
        )
    if action.dest == "unix_mode" and not isinstance(value, str):
        # What TOML calls 0o660 arrives here as 432.
        raise argparse.ArgumentTypeError('must be octal digits in quotes, such as "660"')
    text = str(value)
    return action.type(text) if callable(action.type) else text
