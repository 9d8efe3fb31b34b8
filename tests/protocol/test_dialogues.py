"""Every dialogue of tests/dialogues in memory, however the client's octets are cut."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from blocksmtp.protocol.sasl import cram_md5
from tests.dialogue_files import (
    CLEAR_WIRES,
    TLS_WIRES,
    Scenario,
    scenarios,
)
from tests.memory import at, octets, play

SCENARIOS = scenarios()

# Longer writes hold the same octet over and over: they are cut near their ends only.
EVERY_CUT = 400


@pytest.fixture(autouse=True)
def constant_challenge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let CRAM-MD5 challenge the same in every run, so that runs can be compared."""
    monkeypatch.setattr(cram_md5, "secrets", SimpleNamespace(randbits=lambda bits: 42))
    monkeypatch.setattr(cram_md5, "time", SimpleNamespace(time=lambda: 1_700_000_000.0))


def runs(scenario: Scenario) -> Iterator[tuple[Scenario, bool]]:
    """In clear, in TLS, or in both."""
    if set(scenario.wires) & set(CLEAR_WIRES):
        yield scenario, False
    if set(scenario.wires) & set(TLS_WIRES):
        yield scenario, True


def case_name(value: Scenario | bool) -> str:
    if isinstance(value, Scenario):
        return value.name
    return "secure" if value else "clear"


def each(chosen: list[Scenario]) -> pytest.MarkDecorator:
    cases = [run for scenario in chosen for run in runs(scenario)]
    return pytest.mark.parametrize(("scenario", "secure"), cases, ids=case_name)


def cuts(scenario: Scenario) -> list[int]:
    """Every position at which some write can be cut; see EVERY_CUT."""
    # To any challenge the response is equally long.
    longest = max(len(turn.octets(b"334 PHg+\r\n")) for turn in scenario.turns)
    ends = {*range(1, EVERY_CUT // 2), *range(longest - EVERY_CUT // 2, longest)}
    return sorted(place for place in ends if 0 < place < longest)


def can_be_followed(scenario: Scenario) -> bool:
    """Whether more may come behind the last write without being a part of it."""
    last = scenario.turns[-1]
    return last.write.endswith("\r\n") and not last.handshake


FOLLOWED = [scenario for scenario in SCENARIOS if can_be_followed(scenario)]
CUTTABLE = [scenario for scenario in SCENARIOS if not scenario.uncut]


@each(SCENARIOS)
def test_whole(scenario: Scenario, secure: bool) -> None:
    play(scenario, secure=secure)


@each(CUTTABLE)
def test_octet_by_octet(scenario: Scenario, secure: bool) -> None:
    assert play(scenario, secure=secure, cut=octets) == play(scenario, secure=secure)


@pytest.mark.parametrize("scenario", CUTTABLE, ids=case_name)
def test_cut_anywhere(scenario: Scenario) -> None:
    _, secure = next(runs(scenario))  # one will do: the reader is the same
    expected = play(scenario, secure=secure)
    for position in cuts(scenario):
        assert play(scenario, secure=secure, cut=at(position)) == expected, position


@each(FOLLOWED)
def test_an_incomplete_command_behind_it_gets_no_answer(scenario: Scenario, secure: bool) -> None:
    assert play(scenario.followed_by("NOO"), secure=secure) == play(scenario, secure=secure)


@each([scenario for scenario in FOLLOWED if scenario.closes])
def test_after_the_end_nothing_is_answered(scenario: Scenario, secure: bool) -> None:
    followed = scenario.followed_by("NOOP\r\n")
    assert play(followed, secure=secure) == play(scenario, secure=secure)


@each([scenario for scenario in CUTTABLE if scenario.can_run_ahead])
def test_a_client_that_does_not_wait_gets_the_same(scenario: Scenario, secure: bool) -> None:
    ahead = scenario.all_ahead()
    expected = play(scenario, secure=secure)
    assert play(ahead, secure=secure) == expected
    assert play(ahead, secure=secure, cut=octets) == expected


def test_there_are_dialogues() -> None:
    assert len(SCENARIOS) > 100
