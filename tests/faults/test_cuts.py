"""The dialogue is cut off, after each octet of either direction."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from tests.certificates import Leaf

from .dialogue import PROTOCOLS
from .places import of_the_upgrade, thoroughly, typical
from .proxy import Fault, Then
from .world import World, both_directions, every_dialogue, world

CUTS = (Then.END, Then.CLOSE, Then.RESET)


def cut(here: World, direction: str, places: Iterable[int], first: Then) -> None:
    """Cut at each of the places, in one way after the other."""
    ways = itertools.islice(itertools.cycle(CUTS), CUTS.index(first), None)
    for place, then in zip(places, ways, strict=False):
        here.survive(**{direction: Fault(after=place, then=then)})
    here.go_on()


@every_dialogue
@both_directions
def test_cut(leaf: Leaf, protocol: str, wire: str, direction: str) -> None:
    with world(leaf, protocol, wire) as here:
        places = typical(getattr(here, direction))
        # Most of LMTP is the same.
        cut(here, direction, places[:: 1 if protocol == "smtp" else 4], Then.END)


@pytest.mark.thorough
@pytest.mark.parametrize("first", [Then.CLOSE, Then.RESET], ids=lambda first: first.value)
@both_directions
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cut_in_the_other_ways(leaf: Leaf, protocol: str, direction: str, first: Then) -> None:
    with world(leaf, protocol, "plain") as here:
        cut(here, direction, typical(getattr(here, direction)), first)


@pytest.mark.thorough
def test_cut_everywhere(leaf: Leaf) -> None:
    with world(leaf, "smtp", "plain") as here:
        cut(here, "to_server", range(len(here.to_server) + 1), Then.RESET)


PARTS = 6


@pytest.mark.thorough
@pytest.mark.parametrize("part", range(PARTS))
@both_directions
def test_cut_in_tls(leaf: Leaf, direction: str, part: int) -> None:
    """Nearly everywhere; a part at a time, since a handshake takes its time."""
    with world(leaf, "smtp", "implicit") as here:
        places = thoroughly(getattr(here, direction))[part::PARTS]
        cut(here, direction, places, CUTS[part % len(CUTS)])


@pytest.mark.thorough
@both_directions
def test_cut_in_the_upgrade(leaf: Leaf, direction: str) -> None:
    with world(leaf, "smtp", "starttls") as here:
        cut(here, direction, of_the_upgrade(getattr(here, direction)), Then.END)
