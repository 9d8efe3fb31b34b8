"""Every dialogue of tests/dialogues in memory, however the client's octets are cut."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from blocksmtp import scram as verifiers
from blocksmtp.protocol.sasl import cram_md5, scram
from tests.dialogue_files import (
    CLEAR_WIRES,
    TLS_WIRES,
    Mismatch,
    Scenario,
    read,
    scenarios,
)
from tests.memory import at, octets, play

SCENARIOS = scenarios()

# Longer writes hold the same octet over and over: they are cut near their ends only.
EVERY_CUT = 400


@pytest.fixture(autouse=True)
def constant_challenge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let challenges be the same in every run, so that runs can be compared."""
    constant = SimpleNamespace(urandom=lambda size: bytes([42] * size))
    monkeypatch.setattr(cram_md5, "os", constant)
    monkeypatch.setattr(scram, "os", constant)
    monkeypatch.setattr(verifiers, "os", constant)
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


@pytest.mark.thorough
@pytest.mark.parametrize("scenario", CUTTABLE, ids=case_name)
def test_cut_anywhere(scenario: Scenario) -> None:
    _, secure = next(runs(scenario))  # one will do: the reader is the same
    expected = play(scenario, secure=secure)
    for position in cuts(scenario):
        assert play(scenario, secure=secure, cut=at(position)) == expected, position


@pytest.mark.thorough
@each(FOLLOWED)
def test_an_incomplete_command_behind_it_gets_no_answer(scenario: Scenario, secure: bool) -> None:
    assert play(scenario.followed_by("NOO"), secure=secure) == play(scenario, secure=secure)


@each([scenario for scenario in FOLLOWED if scenario.closes])
def test_after_the_end_nothing_is_answered(scenario: Scenario, secure: bool) -> None:
    followed = scenario.followed_by("NOOP\r\n")
    assert play(followed, secure=secure) == play(scenario, secure=secure)


@pytest.mark.thorough
@each([scenario for scenario in CUTTABLE if scenario.can_run_ahead])
def test_a_client_that_does_not_wait_gets_the_same(scenario: Scenario, secure: bool) -> None:
    ahead = scenario.all_ahead()
    expected = play(scenario, secure=secure)
    assert play(ahead, secure=secure) == expected
    assert play(ahead, secure=secure, cut=octets) == expected


def test_there_are_dialogues() -> None:
    assert len(SCENARIOS) > 100


# --- a dialogue that is wrong fails ------------------------------------------------------------

HEAD = """# A dialogue for the tests of the tests.
Options: auth_optional=True

S: 220 mx.example.org ESMTP
C: EHLO client
S* 250
"""
RIGHT = (
    HEAD
    + """C: MAIL FROM:<alice@example.org>
S: 250 2.1.0 Accepted
A: on_mail_from <alice@example.org>
C: QUIT
S~ 221 2.*
<closed>
"""
)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("220 mx", "220 my"),
        ("S* 250", "S* 251"),
        ("S* 250", "S: 250 mx.example.org Nice to meet you, localhost"),
        ("S: 250 2.1.0 Accepted\n", ""),
        ("S: 250 2.1.0 Accepted\n", "S: 250 2.1.0 Accepted\nS: 250 2.1.0 Accepted\n"),
        ("S: 250 2.1.0 Accepted\n", "S~ 250.*\nS: 421 4.7.0 Bye\n"),
        ("2.1.0 Accepted", "2.1.0 accepted"),
        ("S~ 221 2.*", "S~ 221 2"),
        ("C: QUIT", "C: NOOP"),
        ("<closed>\n", ""),
        ("<closed>", "C: NOOP\nS* 250"),
        ("A: on_mail_from <alice@example.org>\n", "A: on_mail_from <bob@example.org>\n"),
        ("C: QUIT", "A: on_rcpt_to <bob@example.org>\nC: QUIT"),
        ("<closed>", "<handshake>"),
    ],
)
def test_a_wrong_dialogue_fails(right: str, wrong: str) -> None:
    play(read(RIGHT, "right"))
    assert right in RIGHT
    text = RIGHT.replace(right, wrong, 1)
    with pytest.raises((Mismatch, ValueError)):
        play(read(text, "wrong"))


def test_a_defect_must_be_said() -> None:
    text = HEAD.replace("\n\n", "\nCallbacks: on_mail_from=fail\n\n", 1)
    with pytest.raises(Mismatch, match="defect RuntimeError"):
        play(read(text + "C: MAIL FROM:<alice@example.org>\nS* 451\n", "silent"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S: 220 mx", "no comment"),
        ("# why\nC: EHLO", "the server speaks first"),
        ("# why\nColour: red\nS: 220 mx", "unknown header 'Colour'"),
        ("# why\nOnly: plain\nS: 220 mx", "a reason"),
        ("# why\nOnly: pigeon -- it flies\nS: 220 mx", "some of the wires"),
        ("# why\nOptions: size\nS: 220 mx", "not keywords"),
        ("# why\nOptions: size=\nS: 220 mx", "not keywords"),
        ("# why\nOptions: **size\nS: 220 mx", "not keywords"),
        ("# why\nS: 220 mx\nOptions: size=1", "line 3: neither a line"),
        ("# why\nS: 220 mx\n<closed>\nC: QUIT", "line 4: nothing follows"),
    ],
)
def test_a_file_that_is_none(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(text, "ill")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("C: NOOP", b"NOOP\r\n"),
        ("C- NOOP", b"NOOP"),
        ("C:", b"\r\n"),
        ("C: ä ${\\xe4\\0\\r\\n\\t\\\\}", b"\xc3\xa4 \xe4\0\r\n\t\\\r\n"),
        ("C: ${3*ab}${base64 \\0a\\0b}", b"abababAGEAYg==\r\n"),
        ("C: $5 {x}", b"$5 {x}\r\n"),
    ],
)
def test_what_the_client_writes(text: str, expected: bytes) -> None:
    scenario = read(f"# why\nS: 220 mx\n{text}\n", "right")
    assert scenario.turns[1].octets(b"") == expected


def test_an_unknown_replacement() -> None:
    with pytest.raises(ValueError, match="unknown"):
        read("# why\nS: 220 mx\nC: ${what}\n", "wrong").turns[1].octets(b"")
