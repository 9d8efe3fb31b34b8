"""How large the loads are."""

from __future__ import annotations

from typing import NamedTuple


class Scale(NamedTuple):
    """The sizes of all loads; times are seconds, sizes octets."""

    seconds: float
    """How long a run of small messages takes, about."""
    bulk_seconds: float
    """The same for large messages and many recipients."""
    bulk_octets: int
    large_octets: int
    """The message of which the memory is measured."""
    idle_clients: int
    load_processes: int
    """Those that make handshakes, and so how many of these are in progress at once."""
    handshakes: int
    """In one batch of one load process."""
    batches: int
    deliveries: int
    blocked_clients: int
    patience: float
    """When a load that a contender is slow with is cut short."""


FULL = Scale(
    seconds=1.5,
    bulk_seconds=1.0,
    bulk_octets=10_000_000,
    large_octets=200_000_000,
    idle_clients=500,
    load_processes=6,
    handshakes=60,
    batches=3,
    deliveries=200,
    blocked_clients=50,
    patience=4.0,
)

QUICK = Scale(
    seconds=0.05,
    bulk_seconds=0.02,
    bulk_octets=500_000,
    large_octets=5_000_000,
    idle_clients=10,
    load_processes=2,
    handshakes=5,
    batches=1,
    deliveries=5,
    blocked_clients=5,
    patience=1.0,
)
