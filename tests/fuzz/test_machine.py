"""The state machine over the protocol, in short."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.fuzz.session_machine import SessionMachine


def test_any_commands_in_any_order() -> None:
    _run(SessionMachine, examples=250, steps=40)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(1, 5))
def test_any_commands_in_any_order_for_longer(seed: int) -> None:
    class Seeded(SessionMachine):
        """Not the one that has been: the seed stays with the class."""

    _run(hypothesis.seed(seed)(Seeded), examples=250, steps=60)


def _run(machine: type[SessionMachine], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine, settings=hypothesis.settings(max_examples=examples, stateful_step_count=steps)
    )
