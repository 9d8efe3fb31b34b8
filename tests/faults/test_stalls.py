"""The network stops, at one octet of either direction; and octets in TLS are spoilt.

Where the client waits for what does not come, the server is to give up first: after a time that is
short here. So these may lose a dialogue on a machine that stops for as long; nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.certificates import Leaf
from tests.client import wait_until_idle

from .dialogue import Outcome
from .places import CIPHERTEXT, end_of_speech, typical
from .proxy import Fault, Link, Then
from .world import World, both_directions, world

SECONDS = 0.3
AT_ONCE = 40


def at_each(here: World, direction: str, places: Sequence[int], then: Then) -> list[Outcome]:
    """The dialogue with a fault at each of the places, many at a time."""

    def converse(place: int) -> tuple[Link, Outcome]:
        with here.proxy.connect(**{direction: Fault(after=place, then=then)}) as link:
            return link, here.play(link)

    outcomes = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for first in range(0, len(places), AT_ONCE):
            ended = list(pool.map(converse, places[first : first + AT_ONCE]))
            wait_until_idle(here.server)
            for link, outcome in ended:
                here.check(link, outcome)
                outcomes.append(outcome)
    here.greet()
    return outcomes


@both_directions
@pytest.mark.parametrize("wire", ["plain", "starttls", "implicit"])
def test_stall(leaf: Leaf, wire: str, direction: str) -> None:
    with world(leaf, "smtp", wire, socket_timeout=SECONDS) as here:
        octets = getattr(here, direction)
        places = [place for place in typical(octets) if place < end_of_speech(octets)]
        outcomes = at_each(here, direction, places[:: max(1, len(places) // AT_ONCE)], Then.STALL)
        assert not any(outcome.complete for outcome in outcomes)
        if wire == "plain" and direction == "to_server":
            assert {outcome.replies[-1].code for outcome in outcomes} == {421}, outcomes


@pytest.mark.thorough
@both_directions
@pytest.mark.parametrize("wire", ["plain", "implicit"])
def test_stall_at_each_octet(leaf: Leaf, wire: str, direction: str) -> None:
    with world(leaf, "smtp", wire, socket_timeout=SECONDS) as here:
        at_each(here, direction, typical(getattr(here, direction)), Then.STALL)


@both_directions
def test_a_spoilt_octet_ends_the_dialogue(leaf: Leaf, direction: str) -> None:
    """Some of the handshake matters to nobody; but nothing that is said is to be mistaken."""
    with world(leaf, "smtp", "implicit", socket_timeout=SECONDS) as here:
        octets = getattr(here, direction)
        places = [place for place in typical(octets) if place < end_of_speech(octets)]
        outcomes = at_each(here, direction, places, Then.CORRUPT)
        protected = octets.find(CIPHERTEXT)
        for place, outcome in zip(places, outcomes, strict=True):
            assert place < protected or not outcome.complete, f"octet {place}"
