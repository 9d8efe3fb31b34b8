"""The counting finds what it is there to find."""

from __future__ import annotations

import dataclasses

import pytest

from .counts import DAMAGED, Fate, Figures, Sent, growth, tally

GOOD = [Sent(f"m{number}", "one", True, Fate.ACKNOWLEDGED) for number in range(3)]
BAD = [Sent(f"b-{fate.value}", "reset", False, fate) for fate in Fate]
SEEN = ["m0", "m1", "m2", "b-acknowledged"]


@pytest.mark.parametrize("seen", [SEEN, [*SEEN, "b-unheard"]])
def test_all_is_well(seen: list[str]) -> None:
    result = tally([*GOOD, *BAD], seen)
    assert result.complaints == []
    assert result.seen == len(seen)
    assert result.of(Fate.ACKNOWLEDGED) == 4
    assert result.fates["reset"] == dict.fromkeys(Fate, 1)


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        (SEEN[1:], "lost: acknowledged, but not seen: m0 (one)"),
        (SEEN[:-1], "lost: acknowledged, but not seen: b-acknowledged (reset)"),
        ([*SEEN, "m1"], "seen more than once: m1 (one)"),
        ([*SEEN, "b-unheard", "b-unheard"], "seen more than once: b-unheard (reset)"),
        ([*SEEN, "b-incomplete"], "incomplete, but taken for whole: b-incomplete (reset)"),
        ([*SEEN, "b-refused"], "refused, but seen: b-refused (reset)"),
        ([*SEEN, "smuggled"], "seen, but never sent, or not like this: smuggled"),
        ([*SEEN, f"{DAMAGED} m0"], f"seen, but never sent, or not like this: {DAMAGED} m0"),
    ],
)
def test_a_message_gone_wrong(seen: list[str], complaint: str) -> None:
    assert tally([*GOOD, *BAD], seen).complaints == [f"1 messages {complaint}"]


@pytest.mark.parametrize("fate", [Fate.UNHEARD, Fate.INCOMPLETE])
def test_a_good_client_must_hear(fate: Fate) -> None:
    sent = [*GOOD, Sent("m3", "one", True, fate)]
    assert tally(sent, SEEN[:-1]).complaints == [
        f"1 messages of good clients {fate.value}: m3 (one)"
    ]


def test_an_id_is_for_one_message() -> None:
    (complaint,) = tally([*GOOD, GOOD[0]], SEEN[:-1]).complaints
    assert "sent twice" in complaint


FIGURES = Figures(threads=10, descriptors=20, memory=1_000, objects=100)


@pytest.mark.parametrize(
    ("changed", "complaints"),
    [
        ({}, []),
        ({"memory": 1_500, "objects": 110}, []),
        ({"memory": 500, "objects": 50}, []),
        ({"memory": 1_501}, ["memory: 1000 before, 1501 after"]),
        ({"objects": 111}, ["objects: 100 before, 111 after"]),
        ({"threads": 11}, ["threads: 10 before, 11 after"]),
        ({"threads": 9}, ["threads: 10 before, 9 after"]),
        (
            {"descriptors": 21, "threads": 11},
            ["threads: 10 before, 11 after", "descriptors: 20 before, 21 after"],
        ),
    ],
)
def test_growth(changed: dict[str, int], complaints: list[str]) -> None:
    after = dataclasses.replace(FIGURES, **changed)
    assert growth(FIGURES, after, memory=500, objects=10) == complaints
