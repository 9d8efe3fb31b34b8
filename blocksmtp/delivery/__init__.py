"""What becomes of a message: ready-made callables for the callback `on_data`, one module each."""

from __future__ import annotations

from .printing import PrintDelivery

__all__ = ["PrintDelivery"]
