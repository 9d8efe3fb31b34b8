"""The targets in short: every seed, and mutations of the seeds, the same in every run.

`python -m tests.fuzz` is the long run.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.fuzz.application import LETTERS as CALLBACKS
from tests.fuzz.conversation import LETTERS as OPTIONS
from tests.fuzz.inputs import cut, read_plan
from tests.fuzz.mutation import mutated
from tests.fuzz.seeds import FOLDER, seeds
from tests.fuzz.targets import TARGETS

SEEDS = {target: seeds(target) for target in TARGETS}

# As many as take about the same time.
EXAMPLES = {"body": 300, "dialogue": 400, "grammar": 600, "proxy": 300, "sasl": 300}

each_target = pytest.mark.parametrize("target", TARGETS)


def test_each_folder_of_seeds_has_its_target() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} == set(TARGETS)


@pytest.mark.parametrize(
    ("target", "name"), [(target, name) for target in TARGETS for name in SEEDS[target]]
)
def test_seed(target: str, name: str) -> None:
    TARGETS[target].run(SEEDS[target][name])


@each_target
def test_mutations_of_the_seeds(target: str) -> None:
    _mutate(target, EXAMPLES[target])


@pytest.mark.thorough
@each_target
def test_more_mutations_of_the_seeds(target: str) -> None:
    _mutate(target, 3 * EXAMPLES[target])


def _mutate(target: str, examples: int) -> None:
    run, longest = TARGETS[target]
    pool = list(SEEDS[target].values())

    @settings(max_examples=examples)
    @given(st.randoms(use_true_random=False))
    def mutate(chance: Random) -> None:
        octets = mutated(chance, pool, longest)
        note(f"input: {octets!r}")
        run(octets)

    mutate()


@each_target
@settings(max_examples=50)
@given(octets=st.binary(max_size=200))
def test_any_octets(target: str, octets: bytes) -> None:
    TARGETS[target].run(octets)


# --- the inputs --------------------------------------------------------------------------------


def test_a_plan_is_read() -> None:
    plan = read_plan(b"LK:130z\nNOOP\r\n")
    assert plan.letters == {"L", "K"}
    assert plan.lengths == (1, 3, 10, 122)
    assert plan.pieces() == [b"N", b"OOP", b"\r\n"]


@pytest.mark.parametrize("octets", [b"", b"\n", b":", b"\xff:\0", b"L"])
def test_every_input_is_a_plan(octets: bytes) -> None:
    assert read_plan(octets).octets == b""


@given(st.binary(max_size=50), st.lists(st.integers(1, 20), max_size=4))
def test_cut_octets_are_the_same_octets(octets: bytes, lengths: list[int]) -> None:
    pieces = cut(octets, tuple(lengths))
    assert b"".join(pieces) == octets
    assert all(pieces)


def test_letters_mean_one_thing() -> None:
    assert not set(OPTIONS) & set(CALLBACKS)


def test_each_letter_is_in_a_seed() -> None:
    used = {letter for octets in SEEDS["dialogue"].values() for letter in read_plan(octets).letters}
    assert set(OPTIONS) | set(CALLBACKS) <= used


def test_the_dialogues_are_seeds() -> None:
    names = set(SEEDS["dialogue"]) - {path.name for path in Path(FOLDER, "dialogue").iterdir()}
    assert len(names) > 100
