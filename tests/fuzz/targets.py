"""The targets: each takes octets, and fails where they break what must hold for every input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from tests.fuzz.body import body_target
from tests.fuzz.dialogue import dialogue_target
from tests.fuzz.grammar import grammar_target
from tests.fuzz.proxy import proxy_target
from tests.fuzz.sasl import sasl_target


class Target(NamedTuple):
    """A function to call with any octets, and how long an input may usefully be."""

    run: Callable[[bytes], None]
    longest: int


TARGETS: Mapping[str, Target] = {
    "body": Target(body_target, 400),
    "dialogue": Target(dialogue_target, 2000),
    "grammar": Target(grammar_target, 600),
    "proxy": Target(proxy_target, 4300),
    "sasl": Target(sasl_target, 1000),
}
