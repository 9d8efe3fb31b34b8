"""What is measured: one module a kind, and here the list of all."""

from __future__ import annotations

from ..scale import Scale
from .blocking import BlockingCallback
from .bulk import Bulk
from .handshakes import Handshakes
from .latency import Latency
from .memory import Idle, LargeMessage
from .messages import Messages, NewConnections
from .recipients import Recipients
from .workload import Workload


def all_workloads(scale: Scale) -> list[Workload]:
    """Every workload, in the order of the report."""
    return [
        Messages("messages-1", "1 session", 1, scale),
        Messages("messages-8", "8 sessions, two cores", 8, scale),
        Messages("messages-8-one-core", "8 sessions, one core", 8, scale, one_core=True),
        Messages("messages-64", "64 sessions", 64, scale),
        NewConnections(scale),
        Bulk("bulk-998", "lines of 998", scale),
        Bulk("bulk-70", "lines of 70", scale),
        Bulk("bulk-dotted", "lines of 70, dotted", scale),
        Recipients(scale),
        Handshakes("tls-full", "TLS, full handshakes", "full", scale),
        Handshakes("tls-resumed", "TLS, resumed handshakes", "resumed", scale),
        Handshakes("starttls", "STARTTLS", "starttls", scale),
        Bulk("bulk-tls", "lines of 998, TLS", scale),
        LargeMessage(scale),
        Idle("idle-plain", scale, secure=False),
        Idle("idle-tls", scale, secure=True),
        Latency(scale),
        BlockingCallback(scale),
    ]


__all__ = ["Workload", "all_workloads"]
