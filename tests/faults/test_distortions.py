"""The dialogue comes in other pieces, or late: it is the same dialogue."""

from __future__ import annotations

import pytest

from tests.certificates import Leaf
from tests.client import wait_until_idle

from .dialogue import WIRES
from .places import typical
from .proxy import Fault, Then
from .world import World, both_directions, every_dialogue, world

every_wire = pytest.mark.parametrize("wire", WIRES)


def same(here: World, to_server: Fault, to_client: Fault) -> None:
    """Fails unless the dialogue goes as without these faults."""
    with here.proxy.connect(to_server, to_client) as link:
        # More segments than the client needs: they are there to be merged.
        outcome = here.play(link, in_lines=True)
    wait_until_idle(here.server)
    here.check(link, outcome)
    assert outcome.complete
    assert outcome.replies == here.clean.replies


@every_dialogue
def test_split(leaf: Leaf, protocol: str, wire: str) -> None:
    with world(leaf, protocol, wire) as here:
        for octets in (1, 2, 3, 5, 100):
            same(here, Fault(piece=octets), Fault(piece=octets))


@every_wire
def test_octet_by_octet(leaf: Leaf, wire: str) -> None:
    """Each is waited for."""
    with world(leaf, "smtp", wire) as here:
        slow = Fault(piece=1, delay=0.0001)
        same(here, slow, slow)


@both_directions
@pytest.mark.parametrize("wire", ["plain", pytest.param("implicit", marks=pytest.mark.thorough)])
def test_split_in_two(leaf: Leaf, wire: str, direction: str) -> None:
    with world(leaf, "smtp", wire) as here:
        for place in typical(getattr(here, direction))[::3]:
            outcome = here.survive(**{direction: Fault(after=place, then=Then.PAUSE)})
            assert outcome.complete


@every_dialogue
def test_merged(leaf: Leaf, protocol: str, wire: str) -> None:
    with world(leaf, protocol, wire) as here:
        held = Fault(hold=0.01)
        same(here, held, Fault())
        same(here, Fault(), held)
        same(here, held, held)


@every_wire
def test_late(leaf: Leaf, wire: str) -> None:
    with world(leaf, "smtp", wire) as here:
        late = Fault(delay=0.02)
        same(here, late, late)


@every_wire
def test_merged_split_and_late(leaf: Leaf, wire: str) -> None:
    with world(leaf, "smtp", wire) as here:
        same(here, Fault(hold=0.01, piece=400, delay=0.001), Fault(hold=0.01, piece=7))
