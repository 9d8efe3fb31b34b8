"""Events: listeners by name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

EVENTS = ("listening", "connect", "message", "error", "close")

Listener = Callable[..., Any]


class Events:
    """Registers listeners and calls them, in the thread where the event happens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, list[tuple[Listener, bool]]] = {name: [] for name in EVENTS}

    def add(self, event: str, listener: Listener, *, once: bool = False) -> None:
        """Call `listener` at each `event`, or at the next one only.

        Raises ValueError for an unknown event, TypeError for what cannot be called.
        """
        self._check(event)
        if not callable(listener):
            raise TypeError(f"a listener must be a function, not {type(listener).__name__}")
        with self._lock:
            self._listeners[event].append((listener, once))

    def remove(self, event: str, listener: Listener) -> None:
        """Call `listener` no more. Raises ValueError for an unknown event."""
        self._check(event)
        with self._lock:
            kept = [entry for entry in self._listeners[event] if entry[0] != listener]
            self._listeners[event] = kept

    def has(self, event: str) -> bool:
        """Whether anybody listens to `event`."""
        return bool(self._listeners[event])

    def emit(self, event: str, *arguments: Any) -> list[BaseException]:
        """Call the listeners of `event`, in the order they came, each whatever the others do.

        Returns what those raised that failed.
        """
        failures: list[BaseException] = []
        with self._lock:
            listeners = self._listeners[event]
            self._listeners[event] = [entry for entry in listeners if not entry[1]]
        for listener, _ in listeners:
            try:
                listener(*arguments)
            except BaseException as error:  # noqa: BLE001 - it must not fail the connection
                failures.append(error)
        return failures

    def _check(self, event: str) -> None:
        if event not in EVENTS:
            raise ValueError(f"unknown event {event!r}; known are {', '.join(EVENTS)}")
